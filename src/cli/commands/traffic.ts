/** `veld traffic` */
import type { TrafficReport } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { layoutTable } from '../show/table.ts';
import { formatBytes } from '../show/text.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] | undefined }, { bytes?: boolean }>({
  name: 'traffic',
  group: 'Looking at VEs',
  summary: 'Show what VEs have received and sent, by class',
  description: [
    'A line for each class of each VE, since the VE was made: sums go on over restarts of the VE, the daemon and the host, and go with a VE that moves. RX is what the VE received.',
    'Inside is what stays on this host, and the pools of this installation; outside is all else. `network.classes` in the settings names more networks, and more classes.',
  ],
  args: [{ name: 've', completes: 've', help: 'Names, numbers or UUIDs; without them all', required: false, variadic: true }],
  options: [{ flags: '-b, --bytes', help: 'Bytes as they are, without units' }],
  examples: [
    ['traffic', 'All VEs'],
    ['traffic web db --bytes', 'Two VEs, to the byte'],
    ['traffic --json', 'For an invoice: classes with their networks, and sums'],
  ],
  errors: ['ve.not_found', 'network.failed'],
  json: 'an object with the classes and an array of VEs with their sums',
  async run(context, { ve: keys = [] }, { bytes: exact = false }) {
    const client = await context.client();
    const reports = keys.length === 0 ? [await client.request<TrafficReport>('GET', '/v1/traffic')]
      : await Promise.all(keys.map(async (key) => client.request<TrafficReport>('GET', `/v1/ves/${segment(key)}/traffic`)));
    const report: TrafficReport = { classes: reports[0]!.classes, ves: reports.flatMap(({ ves }) => ves) };
    if (context.json) return context.printJson(report);
    const bytes = exact ? String : formatBytes;
    const right = true;
    context.out(layoutTable([{ title: 'NAME', shrink: true }, { title: 'CLASS' }, { title: 'RX', right }, { title: 'RX PACKETS', right }, { title: 'TX', right }, { title: 'TX PACKETS', right }],
      report.ves.flatMap(({ name, classes }) => Object.entries(classes).map(([one, { rxBytes, rxPackets, txBytes, txPackets }]) => [
        name, one, bytes(rxBytes), String(rxPackets), bytes(txBytes), String(txPackets),
      ])), context));
  },
});
