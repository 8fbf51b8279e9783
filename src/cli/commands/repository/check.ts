/** `veld repository check` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ repository: string }, { data?: boolean; wait: boolean }>({
  name: 'repository check',
  group: 'Backups',
  summary: 'Verify that a repository is whole',
  args: [{ name: 'repository', completes: 'repository', help: 'Name of the repository' }],
  options: [{ flags: '--data', help: 'Read all that is stored, too, and compare it with its checksums' }, NO_WAIT],
  examples: [['repository check nas', 'Is all there?'], ['repository check nas --data', 'And is it what was stored?']],
  errors: ['repository.not_found', 'repository.unavailable', 'repository.damaged', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation',
  async run(context, { repository }, { data, wait }) {
    const record = await runJob(context, { label: repository, method: 'POST', path: `/v1/repositories/${segment(repository)}/check`, body: { data: data === true } }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `repository ${repository} is whole${data ? ', with all that is stored' : ''}\n` : `${record.id}\n`);
  },
});
