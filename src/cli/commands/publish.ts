/** `veld publish` */
import type { VeDetail } from '../../ve/types.ts';
import { VeldError } from '../../lib/errors.ts';
import { canonicalPublish } from '../../spec/ports.ts';
import { defineCommand } from '../command.ts';
import { runJob } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string; ports: string[] }>({
  name: 'publish',
  group: 'Life of a VE',
  summary: 'Let ports of the host lead to ports of a VE',
  description: ['Adds to the property network.publish. Ports are [ADDRESS:]PORT[-END]:PORT[-END][/tcp|udp]: first those of the host, then those of the VE. An IPv6 address stands in brackets.'],
  args: [{ name: 've', help: 'Name, number or UUID' }, { name: 'ports', help: 'Ports of the host and of the VE', variadic: true }],
  examples: [
    ['publish web 8080:80', 'Port 8080 of the host, on all of its addresses, leads to port 80 of web'],
    ['publish dns 192.0.2.1:53:53/udp 192.0.2.1:53:53/tcp', 'One address of the host only'],
  ],
  errors: ['ve.not_found', 've.busy', 'property.invalid', 'port.taken', 'network.failed'],
  json: 'the operation',
  async run(context, { ve, ports }) {
    const client = await context.client();
    const before = (await client.request<VeDetail>('GET', `/v1/ves/${segment(ve)}`)).properties['network.publish'];
    const items = ports.map((text) => {
      const item = canonicalPublish(text);
      if (item === undefined) throw new VeldError('property.invalid', `'${text}' is not of the form [ADDRESS:]PORT[-END]:PORT[-END][/tcp|udp].`, { hint: 'See `veld help publish`.' });
      return item;
    });
    const changes = { 'network.publish': [...new Set([...before, ...items])] };
    const record = await runJob(context, { label: ve, method: 'PATCH', path: `/v1/ves/${segment(ve)}/properties`, body: { changes } });
    if (context.json) context.printJson(record);
    else context.out(`${ve} publishes ${changes['network.publish'].join(', ')}\n`);
  },
});
