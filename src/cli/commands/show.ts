/** `veld show` */
import type { VeDetail } from '../../ve/types.ts';
import { formatProperty } from '../../spec/properties.ts';
import type { ConnectionUse } from '../../network/types.ts';
import { defineCommand } from '../command.ts';
import { layoutFacts, layoutTable, paintStatus } from '../show/table.ts';
import { formatBytes, formatSeconds, formatTime } from '../show/text.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string }, { properties?: boolean }>({
  name: 'show',
  group: 'Looking at VEs',
  summary: 'Show everything about a VE',
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }],
  options: [{ flags: '-p, --properties', help: 'All properties, defaults too, as NAME=VALUE lines' }],
  examples: [['show web', 'State, use and properties set by hand'], ['show -p web', 'All properties']],
  errors: ['ve.not_found'],
  json: 'the VE; with --properties an object of its properties',
  async run(context, { ve: key }, { properties }) {
    const client = await context.client();
    const ve = await client.request<VeDetail>('GET', `/v1/ves/${segment(key)}`);
    if (context.json) context.printJson(properties ? ve.properties : ve);
    else if (properties) context.out(Object.entries(ve.properties).map(([name, value]) => `${name}=${formatProperty(name, value)}\n`).join(''));
    else {
      const limited = ve.pid !== null && ve.properties['network.connections'] !== null;
      context.out(describe(ve, context, limited ? await client.request<ConnectionUse>('GET', `/v1/ves/${segment(key)}/connections`) : undefined));
    }
  },
});

/** ` of 1G`, or nothing when there is no limit. */
function limitOf(ve: VeDetail): string {
  const limit = ve.properties['memory.limit'];
  return limit === null ? '' : ` of ${formatProperty('memory.limit', limit)}`;
}

/** `vmain-101  02:00:...  routed, MTU 1500: 10.187.0.2` */
function describeLink({ link, mac, mtu, bridge, addresses, prefixes, setup }: VeDetail['links'][number]): string {
  const own = setup === 'auto' ? ['DHCP and router advertisements'] : [...addresses, ...prefixes];
  return `${link}  ${mac}  ${bridge === null ? 'routed' : `on ${bridge}`}, MTU ${mtu}: ${own.join(', ') || 'no address'}`;
}

function describe(ve: VeDetail, style: { width: number; colour: boolean }, connections: ConnectionUse | undefined): string {
  const { usage, traffic } = ve;
  const facts = layoutFacts([
    ['Name', ve.name],
    ['Number', String(ve.number)],
    ['UUID', ve.uuid],
    ['Status', ve.health === 'unverified' ? `${ve.status} (init has not announced itself)` : ve.status],
    ['Template', `${ve.template.name ?? '(deleted)'}  ${ve.template.fingerprint.slice(0, 12)}`],
    ['Addresses', ve.addresses.join(', ') || 'none'],
    ...ve.links.map((link): [string, string] => [`Link ${link.name}`, describeLink(link)]),
    ['Uids', `${ve.uidBase} to ${ve.uidBase + 65_535}`],
    ['Created', formatTime(ve.createdAt)],
    ['First start', ve.deployed === null ? undefined : ve.deployed === 'warm' ? 'from the warm image of its template' : 'by a boot'],
    ['Started', ve.startedAt === null ? undefined : formatTime(ve.startedAt)],
    ['Init', ve.pid === null ? undefined : `process ${ve.pid}`],
    ['Last exit', ve.lastExit === null ? undefined : `${ve.lastExit.reason}, status ${ve.lastExit.code}, ${formatTime(ve.lastExit.at)}`],
    ['Not started', !ve.notStarted ? undefined : `${formatTime(ve.notStarted.at)}: ${ve.notStarted.reason}`],
    ['CPU time', usage ? formatSeconds(usage.cpuSeconds) : undefined],
    ['Memory', usage ? `${formatBytes(usage.memoryBytes)}${limitOf(ve)}` : undefined],
    ['Tasks', usage ? String(usage.tasks) : undefined],
    ['Received', traffic ? `${formatBytes(traffic.rxBytes)} in ${traffic.rxPackets} packets` : undefined],
    ['Sent', traffic ? `${formatBytes(traffic.txBytes)} in ${traffic.txPackets} packets` : undefined],
    ['Connections', connections && `${connections.held ?? 'at most'}${connections.held === null ? '' : ' of'} ${connections.most}, ${connections.refused} refused`],
    ['Granted to', ve.grantedTo === null ? undefined : `${ve.grantedTo}, which has not said yet whether it has it`],
    ['At next start', ve.pending.length > 0 ? ve.pending.join(', ') : undefined],
  ], style).replace(/^(\S*Status:\S*\s+)(\S+)/m, (_, label: string, status: string) => label + (style.colour ? paintStatus(status) : status));
  const set = Object.entries(ve.set);
  if (set.length === 0) return facts;
  return `${facts}\n${layoutTable([{ title: 'PROPERTY' }, { title: 'VALUE', shrink: true }], set.map(([name, value]) => [name, formatProperty(name, value)]), style)}`;
}
