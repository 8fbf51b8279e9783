/**
 * Published ports: ports of the host that lead to ports of a VE, by maps of the instance's table.
 *
 * A port is one element; rules do not grow with ports or VEs. Elements are there only while the VE runs: to a stopped VE's port a
 * connection is refused by the host itself. Who takes which port is decided over all records, running or not.
 */
import { run } from '../lib/run.ts';
import { VeldError } from '../lib/errors.ts';
import { formatPublish, hostsOverlap, parsePublish, publishOverlaps } from '../spec/ports.ts';
import type { PublishedPorts } from '../spec/ports.ts';
import type { VeRecord } from '../store/types.ts';
import { listeners } from './listeners.ts';
import type { Listener } from './listeners.ts';
import type { Names } from './names.ts';
import { interfacesOf, routedAddresses } from './interfaces.ts';
import type { PlanContext } from './plan.ts';

/** Beyond so many ports that are given up at once, all published connections of the VE are forgotten instead of looking for each. */
const FORGET_ONE_BY_ONE = 64;

/** What a VE publishes, in the order of its property. */
export function publishedOf(ve: Pick<VeRecord, 'properties'>): PublishedPorts[] {
  const list = ve.properties['network.publish'];
  return Array.isArray(list) ? list.flatMap((item) => parsePublish(String(item)) ?? []) : [];
}

/** Lines that define the maps with these elements, for the table. */
export function publishMaps(elements: ReadonlyMap<string, readonly string[]>): string {
  const map = (name: string, type: string): string => `  map ${name} { type ${type}; ${filled(elements.get(name))} }`;
  return [
    map('ports4', 'inet_proto . inet_service : ipv4_addr . inet_service'),
    map('ports6', 'inet_proto . inet_service : ipv6_addr . inet_service'),
    map('ports_at4', 'ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service'),
    map('ports_at6', 'ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service'),
    `  set hairpin { type ifname . ifname; ${filled(elements.get('hairpin'))} }`,
  ].join('\n');
}

/**
 * The chains. What goes to an address of the host, from wherever, is looked up: first with the address, then without. From the host
 * itself not on loopback: the answer could not find its way back without net.ipv4.conf.*.route_localnet, which would let VEs reach what
 * listens there.
 */
export const PUBLISH_CHAINS = `  chain publish {
    meta nfproto ipv4 meta l4proto { tcp, udp } dnat ip to ip daddr . meta l4proto . th dport map @ports_at4
    meta nfproto ipv4 meta l4proto { tcp, udp } dnat ip to meta l4proto . th dport map @ports4
    meta nfproto ipv6 meta l4proto { tcp, udp } dnat ip6 to ip6 daddr . meta l4proto . th dport map @ports_at6
    meta nfproto ipv6 meta l4proto { tcp, udp } dnat ip6 to meta l4proto . th dport map @ports6
  }
  chain published {
    type nat hook prerouting priority dstnat; policy accept;
    fib daddr type local jump publish
  }
  chain published_to_host {
    type nat hook output priority -100; policy accept;
    ip daddr 127.0.0.0/8 accept
    ip6 daddr ::1 accept
    fib daddr type local jump publish
  }`;

/** A VE that asks for its own published port would be answered by itself, past the host: its request comes from the host instead. */
export const HAIRPIN_RULE = 'iifname . oifname @hairpin ct status dnat masquerade';

/** Elements of a VE by the map that holds them. */
export function publishElements(ve: VeRecord, context: PlanContext): Map<string, string[]> {
  const elements = new Map<string, string[]>();
  const put = (map: string, element: string): void => {
    const list = elements.get(map) ?? [];
    list.push(element);
    elements.set(map, list);
  };
  const targets = targetsOf(ve, context);
  for (const { host, first, last, port, protocol } of publishedOf(ve)) {
    for (const [family, to] of targets) {
      const any = host === null || host === (family === 4 ? '0.0.0.0' : '::');
      if (!any && host.includes(':') !== (family === 6)) continue;
      for (let i = 0; i <= last - first; i++) {
        put(`ports${any ? '' : '_at'}${family}`, `${any ? '' : `${host} . `}${protocol} . ${first + i} : ${to} . ${port + i}`);
      }
    }
  }
  if (elements.size > 0) {
    const links = interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).map(({ link }) => link);
    for (const from of links) for (const to of links) put('hairpin', `"${from}" . "${to}"`);
  }
  return elements;
}

/**
 * Refuse ports of the host that somebody else has: another VE (also one that is stopped), another item of the same list, a program.
 * @param others all other VEs
 * @param before what the VE has published until now: no program of the host can be behind it
 * @throws VeldError `port.taken`
 */
export function checkPublish(ve: Pick<VeRecord, 'name' | 'properties'>, others: readonly VeRecord[], before: readonly PublishedPorts[], open: () => readonly Listener[] = listeners): void {
  const wanted = publishedOf(ve);
  if (wanted.length === 0) return;
  const refuse = (item: PublishedPorts, why: string): never => {
    throw new VeldError('port.taken', `${formatPublish(item)} cannot be published: ${why}.`, { details: { item: formatPublish(item) } });
  };
  for (const [i, item] of wanted.entries()) {
    const twin = wanted.slice(0, i).find((other) => publishOverlaps(item, other));
    if (twin) refuse(item, `${formatPublish(twin)} of the same list has the port`);
    for (const other of others) {
      const theirs = publishedOf(other).find((each) => publishOverlaps(item, each));
      if (theirs) refuse(item, `the VE ${other.name} has published ${formatPublish(theirs)}`);
    }
  }
  const fresh = wanted.filter((item) => !before.some((old) => old.protocol === item.protocol && old.host === item.host && old.first <= item.first && old.last >= item.last));
  if (fresh.length === 0) return;
  for (const [item, listener] of shadowed(fresh, open())) {
    refuse(item, `a program of the host listens on ${listener.address.includes(':') ? `[${listener.address}]` : listener.address}:${listener.port}`);
  }
}

/** Published ports behind which a program of the host listens, which nobody outside can reach any more. */
export function shadowed(items: readonly PublishedPorts[], open: readonly Listener[]): [PublishedPorts, Listener][] {
  return items.flatMap((item) => {
    const found = open.find(({ protocol, port, address, loopback }) => !loopback && protocol === item.protocol && port >= item.first && port <= item.last
      // A listener on :: takes IPv4, too, unless it was told not to.
      && (hostsOverlap(item.host, address) || address === '::'));
    return found ? [[item, found] as [PublishedPorts, Listener]] : [];
  });
}

/**
 * Forget connections over ports that are published no longer, or lead elsewhere: the kernel goes on translating those that it knows.
 * At best effort: without conntrack(8) they end when nothing passes for a while.
 * @param after undefined when the VE is gone
 */
export async function forgetPublished(before: VeRecord, after: VeRecord | undefined, context: PlanContext): Promise<void> {
  const kept = new Set(after ? [...publishElements(after, context).values()].flat() : []);
  const gone = [...publishElements(before, context)].filter(([map]) => map.startsWith('ports')).flatMap(([, list]) => list.filter((element) => !kept.has(element)));
  if (gone.length === 0) return;
  const lines = gone.length > FORGET_ONE_BY_ONE
    ? targetsOf(before, context).map(([family, to]) => `-D -f ${family === 4 ? 'ipv4' : 'ipv6'} --dst-nat --reply-src ${to}`)
    : gone.map((element) => {
      const [key = '', value = ''] = element.split(' : ');
      const [port = '', protocol = '', host] = key.split(' . ').toReversed();
      const [to = '', toPort = ''] = value.split(' . ');
      return `-D -f ${to.includes(':') ? 'ipv6' : 'ipv4'} -p ${protocol} --orig-port-dst ${port} --reply-src ${to} --reply-port-src ${toPort}${host === undefined ? '' : ` --orig-dst ${host}`}`;
    });
  // It opens /dev/stdin by its name, which of a socket (as Node's pipes are) cannot be opened: hence the real pipe.
  await run('sh', ['-c', 'command -v conntrack >/dev/null || exit 0; cat | conntrack --load-file -'], { input: `${lines.join('\n')}\n`, timeout: 30_000, allow: true });
}

/** Where a VE's ports are: its first address of each family. */
function targetsOf(ve: VeRecord, context: PlanContext): [4 | 6, string][] {
  const addresses = routedAddresses(ve, context);
  return ([4, 6] as const).flatMap((family) => {
    const first = addresses.find((address) => address.family === family);
    return first ? [[family, first.text] as [4 | 6, string]] : [];
  });
}

function filled(list: readonly string[] | undefined): string {
  return list === undefined || list.length === 0 ? '' : `elements = { ${list.join(', ')} };`;
}

/** `verb element` lines. */
export function elementLines(verb: 'add' | 'delete', names: Names, elements: ReadonlyMap<string, readonly string[]>): string {
  return [...elements].map(([map, list]) => `${verb} element inet ${names.table} ${map} { ${list.join(', ')} }\n`).join('');
}
