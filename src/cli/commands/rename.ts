/** `veld rename` */
import { defineCommand } from '../command.ts';
import { runJob } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ 've': string; 'new-name': string }>({
  name: 'rename',
  group: 'Life of a VE',
  summary: 'Give a VE another name',
  description: ['Its number, UUID and addresses stay. A host name that was not set by hand follows at the next start.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'new-name', help: 'The new name' }],
  examples: [['rename web shop', 'web is called shop from now on']],
  errors: ['ve.not_found', 've.busy', 've.name_taken', 'name.invalid'],
  json: 'the operation',
  async run(context, { ve, 'new-name': name }) {
    const record = await runJob(context, { label: ve, method: 'POST', path: `/v1/ves/${segment(ve)}/rename`, body: { name } });
    if (context.json) context.printJson(record);
    else context.out(`${ve} is now ${name}\n`);
  },
});
