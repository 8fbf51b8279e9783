/** `veld unpublish` */
import type { VeDetail } from '../../ve/types.ts';
import { VeldError } from '../../lib/errors.ts';
import { canonicalPublish } from '../../spec/ports.ts';
import { defineCommand } from '../command.ts';
import { runJob } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string; ports: string[] | undefined }, { all?: boolean }>({
  name: 'unpublish',
  group: 'Life of a VE',
  summary: 'Take ports of the host back from a VE',
  description: ['Takes away from the property network.publish; connections over these ports end. Name the ports as `veld show` does, or --all.'],
  args: [{ name: 've', help: 'Name, number or UUID' }, { name: 'ports', help: 'Ports of the host and of the VE', variadic: true, required: false }],
  options: [{ flags: '--all', help: 'All that the VE publishes' }],
  examples: [['unpublish web 8080:80', 'Nothing listens on port 8080 of the host any more'], ['unpublish web --all', 'The VE publishes nothing']],
  errors: ['ve.not_found', 've.busy', 'property.invalid', 'network.failed'],
  json: 'the operation',
  async run(context, { ve, ports = [] }, { all }) {
    if ((all === true) === ports.length > 0) throw new VeldError('usage', 'unpublish: name ports, or --all.', { hint: 'See `veld help unpublish`.' });
    const client = await context.client();
    const before = (await client.request<VeDetail>('GET', `/v1/ves/${segment(ve)}`)).properties['network.publish'];
    const gone = new Set(ports.map((text) => {
      const item = canonicalPublish(text);
      if (item === undefined || !before.includes(item)) {
        throw new VeldError('property.invalid', `${ve} does not publish '${text}'.`, { hint: before.length === 0 ? 'It publishes nothing.' : `It publishes ${before.join(', ')}.` });
      }
      return item;
    }));
    const left = all ? [] : before.filter((item) => !gone.has(item));
    const changes = { 'network.publish': left.length === 0 ? null : left };
    const record = await runJob(context, { label: ve, method: 'PATCH', path: `/v1/ves/${segment(ve)}/properties`, body: { changes } });
    if (context.json) context.printJson(record);
    else context.out(`${ve} publishes ${left.length === 0 ? 'nothing' : left.join(', ')}\n`);
  },
});
