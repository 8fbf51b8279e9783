/** `veld events` */
import type { VeldEvent } from '../../ops/types.ts';
import type { VeView } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { formatClock, sanitise } from '../show/text.ts';
import { segment } from '../values.ts';

export const command = defineCommand<object, { ve?: string }>({
  name: 'events',
  group: 'Looking at VEs',
  summary: 'Print what happens as it happens, until Ctrl-C',
  options: [{ flags: '--ve <ve>', completes: 've', help: 'Only of this VE' }],
  examples: [['events --ve web', 'Everything that happens to web'], ['events --json', 'One JSON object a line, for programs']],
  errors: ['ve.not_found'],
  json: 'one event a line',
  async run(context, _args, { ve: key }) {
    const client = await context.client();
    const ves = await client.request<VeView[]>('GET', '/v1/ves');
    const names = new Map(ves.map((ve) => [ve.uuid, ve.name]));
    const only = key === undefined ? undefined : (await client.request<VeView>('GET', `/v1/ves/${segment(key)}`)).uuid;
    for await (const event of client.events()) {
      if (only !== undefined && event.ve !== only) continue;
      if (context.json) context.out(`${JSON.stringify(event)}\n`);
      else context.out(`${describe(event, names)}\n`);
    }
  },
});

function describe(event: VeldEvent, names: Map<string, string>): string {
  const data = event.data ?? {};
  if (event.ve !== undefined && typeof data.name === 'string') names.set(event.ve, data.name);
  const ve = event.ve === undefined ? '-' : names.get(event.ve) ?? event.ve.slice(0, 8);
  const rest = Object.entries(data).filter(([, value]) => value !== null && typeof value !== 'object').map(([name, value]) => `${name}=${String(value)}`);
  return sanitise([formatClock(new Date(event.time)), event.type.padEnd(18), ve.padEnd(12), ...rest].join(' ').trimEnd()).replaceAll('\n', ' ');
}
