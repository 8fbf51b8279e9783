/** Checks what properties say of a VE's network, and chooses addresses. The host is asked by files of /proc and /sys only. */
import { readFileSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { readIfExists } from '../lib/files.ts';
import { parseInterface } from '../spec/interfaces.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { interfacesOf } from './interfaces.ts';
import type { Interface } from './interfaces.ts';
import { contains, formatPrefix, overlaps, parseCidr, parsePrefix, prefixOf, width } from './ip.ts';
import type { Cidr, Prefix } from './ip.ts';
import { GATEWAY_MAC } from './names.ts';
import type { Names } from './names.ts';
import { hostSubnets } from './pools.ts';
import type { Allocator, Pool } from './pools.ts';
import { isSmall } from './proxies.ts';

export interface AssignContext {
  names: Names;
  pools: readonly Pool[];
  allocator: Allocator;
  /** Whose links are ours, which a prefix may meet. */
  isOwn: (link: string) => boolean;
}

/** See NetworkManager.assign. */
export function assign(context: AssignContext, ve: VeRecord, others: readonly VeRecord[], before?: VeRecord): string[] {
  const candidate = { ...ve, addresses: wantedOf(ve) };
  checkForm(candidate);
  const mine = interfacesOf(candidate, { names: context.names, ipv6: true });
  const routed = mine.filter(({ bridge }) => bridge === undefined);
  if (routed.length === 0) {
    const guarded = GUARDED.find((name) => (resolveProperties(ve.properties)[name]).length > 0);
    if (guarded) throw invalid(`${guarded} is for routed interfaces, and this VE has none: what passes a bridge is no business of the host's firewall.`, `Unset \`${guarded}\`, or use a firewall inside the VE.`);
  }
  checkConnections(resolveProperties(ve.properties)['network.connections'], routed.length > 0);
  // A VE with nothing by hand cannot collide: pools and prefixes are kept apart.
  const byHand = mine.some((one) => one.bridge !== undefined || one.addresses.length > 0 || one.prefixes.length > 0);
  const theirs = byHand ? others.flatMap((other) => interfacesOf(other, { names: context.names, ipv6: true }).map((one) => ({ ...one, owner: other.name }))) : [];
  const theirRouted = theirs.filter(({ bridge }) => bridge === undefined);

  const taken = byHand ? new Set(theirRouted.flatMap((one) => one.addresses.map(({ address }) => address))) : new Set(others.flatMap(({ addresses }) => addresses));
  context.allocator.allocate(routed.flatMap((one) => one.addresses.map(({ address }) => address)), taken);
  for (const one of routed) {
    for (const cidr of one.addresses) {
      const inside = theirRouted.find((other) => other.prefixes.some((prefix) => contains(prefixOf(prefix), cidr)));
      if (inside) throw new VeldError('address.taken', `The address ${cidr.address} lies in a prefix of ${inside.owner}.`);
    }
  }
  for (const one of routed) if (one.mac === GATEWAY_MAC) throw invalid(`The link-layer address ${one.mac} is that of the host's side of every routed link.`);
  checkPrefixes(context, routed.flatMap(({ prefixes }) => prefixes), theirRouted);
  for (const one of mine) if (one.bridge !== undefined) checkOnBridge(one, [...theirs, ...mine.filter((other) => other !== one).map((other) => ({ ...other, owner: 'this VE itself' }))]);

  const mode = resolveProperties(ve.properties)['network.mode'];
  if (mode !== 'routed' || resolveProperties(ve.properties)['network.addresses'] !== null) return candidate.addresses;
  const was = before && resolveProperties(before.properties);
  // Left to the pools before and now: it keeps what it has.
  if (before && was?.['network.mode'] === 'routed' && was['network.addresses'] === null) return before.addresses;
  return context.allocator.allocate(undefined, taken);
}

/** Properties that act where the host routes. */
const GUARDED = ['network.publish', 'network.allow', 'network.deny'] as const;

/** A limit that nothing would hold is none. @param most null: none */
function checkConnections(most: number | null, routed: boolean): void {
  if (most === null) return;
  if (!routed) throw invalid('network.connections is for routed interfaces, and this VE has none: what passes a bridge is in no connection table of the host.', 'Unset `network.connections`.');
  const host = Number(readSysctl('net', 'netfilter', 'nf_conntrack_max') ?? Infinity);
  if (most > host) throw invalid(`network.connections is ${most}, and the connection table of this host holds ${host} in all.`, 'Give a smaller number, or raise net.netfilter.nf_conntrack_max of the host.');
}

/** Addresses of eth0 that are given by hand, without length. */
function wantedOf(ve: VeRecord): string[] {
  const properties = resolveProperties(ve.properties);
  const wanted = properties['network.mode'] === 'none' ? [] : properties['network.addresses'] ?? [];
  return wanted.map((text) => text.replace(/\/.*/, ''));
}

/** What the parts of each interface need of each other. */
function checkForm(ve: VeRecord): void {
  const properties = resolveProperties(ve.properties);
  const mode = properties['network.mode'];
  if (mode === 'bridge' && properties['network.bridge'] === '') throw invalid('network.mode=bridge needs the name of a bridge of the host.', 'Set `network.bridge` too.');
  if (mode !== 'none') {
    checkInterface('network.addresses', 'eth0', mode === 'bridge', properties['network.addresses'] ?? 'auto', properties['network.prefixes'], properties['network.gateway'], true);
  }
  const routed = mode === 'routed' || properties['network.interfaces'].some((text) => parseInterface(text)?.bridge === undefined);
  const held = (['network.publish', 'network.allow', 'network.deny'] as const).find((name) => properties[name].length > 0);
  // Silence would be taken for safety.
  if (!routed && held !== undefined) throw invalid(`${held} is held where the host routes, and this VE has no routed interface.`, 'Unset it, and use a firewall in the VE or on that network.');
  const names = new Set<string>();
  for (const text of properties['network.interfaces']) {
    const spec = parseInterface(text);
    if (!spec) continue; // the table has refused it
    if (names.has(spec.name)) throw invalid(`network.interfaces has ${spec.name} twice.`);
    names.add(spec.name);
    const addresses = spec.addresses[0] === 'auto' ? 'auto' : spec.addresses;
    if (spec.bridge === undefined && addresses === 'auto') throw invalid(`The interface ${spec.name} is routed, where there is no DHCP.`, 'Give it an address, or a bridge.');
    if (spec.bridge === undefined && addresses.length + spec.prefixes.length === 0) throw invalid(`The interface ${spec.name} has neither a bridge nor an address nor a prefix.`);
    if (spec.bridge === undefined && spec.guard !== 'strict') throw invalid(`The interface ${spec.name} is routed, where only its own addresses pass.`, '`guard` is for interfaces on a bridge.');
    checkInterface('network.interfaces', spec.name, spec.bridge !== undefined, addresses, spec.prefixes, spec.gateways, false);
  }
}

/** @param kept values of another mode may stand in their properties until the mode changes back */
function checkInterface(property: string, name: string, bridged: boolean, addresses: readonly string[] | 'auto', prefixes: readonly string[], gateways: readonly string[], kept: boolean): void {
  if (!bridged) {
    for (const text of addresses === 'auto' ? [] : addresses) {
      const cidr = parseCidr(text);
      if (cidr && cidr.bits < width(cidr.family)) {
        throw invalid(`${property} has ${text}, but ${name} is routed: its addresses have no subnet.`, 'Leave the length out; to route a whole prefix to the VE use `network.prefixes`; for a subnet set `network.mode=bridge`.');
      }
    }
    if (gateways.length > 0 && !kept) throw invalid(`The interface ${name} is routed: its gateway is the host.`, '`gateway` is for interfaces on a bridge.');
    return;
  }
  if (prefixes.length > 0 && !kept) throw invalid(`The interface ${name} is on a bridge: prefixes are routed by the host only to routed interfaces.`);
  if (addresses === 'auto') {
    if (gateways.length > 0) throw invalid(`${name} asks for its addresses by DHCP, and for its gateway too.`, 'Leave the gateway out, or give addresses.');
    return;
  }
  const cidrs = addresses.map((text) => ({ text, cidr: parseCidr(text) as Cidr }));
  for (const { text } of cidrs) if (!text.includes('/')) throw invalid(`${property} has ${text}, but ${name} is on a bridge: its addresses need the length of their subnet.`, `For example ${text}/${text.includes(':') ? 64 : 24}.`);
  if (new Set(cidrs.map(({ cidr }) => cidr.address)).size < cidrs.length) throw invalid(`${name} has an address twice.`);
  for (const { text, cidr } of cidrs) {
    if (cidr.family === 6 || cidr.bits > 30) continue;
    const subnet = prefixOf(cidr);
    if (cidr.value === subnet.value || cidr.value === (subnet.value | ((1n << BigInt(32 - cidr.bits)) - 1n))) throw invalid(`${text} is the network or the broadcast address of its subnet.`);
  }
  const families = new Set<number>();
  for (const text of gateways) {
    const gateway = parseCidr(text) as Cidr;
    if (families.has(gateway.family)) throw invalid(`${name} has two IPv${gateway.family} gateways.`);
    families.add(gateway.family);
    const same = cidrs.filter(({ cidr }) => cidr.family === gateway.family);
    if (same.some(({ cidr }) => cidr.address === gateway.address)) throw invalid(`${name} has its own address ${text} for a gateway.`);
    const reached = /^fe[89ab]/.test(text) || same.some(({ cidr }) => contains(prefixOf(cidr), gateway) || cidr.bits === width(cidr.family));
    if (!reached) throw invalid(`The gateway ${text} lies in no subnet of ${name}.`);
  }
}

function checkPrefixes({ pools, isOwn }: AssignContext, mine: readonly Cidr[], theirs: readonly (Interface & { owner: string })[]): void {
  for (const [i, cidr] of mine.entries()) {
    const prefix = prefixOf(cidr);
    const name = formatPrefix(prefix);
    const refuse = (what: string, hint?: string): never => {
      throw new VeldError('address.taken', `The prefix ${name} ${what}.`, { details: { prefix: name }, ...(hint !== undefined && { hint }) });
    };
    if (mine.some((other, j) => j < i && overlaps(prefixOf(other), prefix))) throw invalid(`The prefix ${name} overlaps another one of the same VE.`);
    const pool = pools.find((range) => overlaps(range, prefix));
    if (pool) refuse(`overlaps the pool ${formatPrefix(pool)}`, 'Addresses of a pool are given one by one; choose a prefix outside.');
    for (const other of theirs) {
      if (other.prefixes.some((one) => overlaps(prefixOf(one), prefix))) refuse(`overlaps one of ${other.owner}`);
      const address = other.addresses.find((one) => contains(prefix, one));
      if (address) refuse(`holds ${address.address} of ${other.owner}`);
    }
    for (const subnet of hostSubnets()) {
      const own = parseCidr(subnet.address);
      if (isOwn(subnet.link) || !own) continue;
      if (contains(prefix, own)) refuse(`holds the host's own address ${subnet.address} on ${subnet.link}`);
      if (contains(subnet.prefix, prefix) && !isSmall(prefix)) {
        refuse(`is a part of ${formatPrefix(subnet.prefix)} on ${subnet.link}, and too large for the host to answer for each of its addresses there`,
          'At most 256 addresses of a subnet can be answered for. Let the router route another prefix to this host.');
      }
    }
    const route = hostRoutes().find((one) => !isOwn(one.link) && one.prefix.bits >= prefix.bits && overlaps(one.prefix, prefix));
    if (route) refuse(`holds ${formatPrefix(route.prefix)}, which the host routes to ${route.link}`);
  }
}

/** No two on a bridge with the same address or link-layer address. */
function checkOnBridge(one: Interface, others: readonly (Interface & { owner: string })[]): void {
  const bridge = one.bridge as string;
  for (const other of others) {
    if (other.bridge !== bridge) continue;
    if (other.mac === one.mac) throw new VeldError('address.taken', `The link-layer address ${one.mac} belongs to ${other.owner}, on the same bridge ${bridge}.`);
    const same = one.addresses.find(({ address }) => other.addresses.some((its) => its.address === address));
    if (same) throw new VeldError('address.taken', `The address ${same.address} belongs to ${other.owner}, on the same bridge ${bridge}.`);
  }
  for (const subnet of hostSubnets()) {
    if (subnet.link === bridge && one.addresses.some(({ address }) => address === subnet.address)) throw new VeldError('address.taken', `The address ${subnet.address} is the host's own, on ${bridge}.`);
  }
  if (readIfExists(`/sys/class/net/${bridge}/address`)?.trim() === one.mac) throw new VeldError('address.taken', `The link-layer address ${one.mac} is that of the bridge ${bridge} itself.`);
}

/** The host's own routes but for default ones. Format of both files: hexadecimal, see proc_pid_net(5) and net/ipv6/route.c. */
function hostRoutes(): { link: string; prefix: Prefix }[] {
  const four = readFileSync('/proc/net/route', 'utf8').trim().split('\n').slice(1).map((line) => {
    const [link = '', destination = '', , , , , , mask = ''] = line.split('\t');
    const swapped = (hex: string): bigint => BigInt(`0x${hex.match(/../g)!.reverse().join('')}`);
    const bits = swapped(mask).toString(2).replaceAll('0', '').length;
    return { link, prefix: { family: 4 as const, bits, value: swapped(destination) } };
  });
  const six = (readIfExists('/proc/net/ipv6_route') ?? '').trim().split('\n').flatMap((line) => {
    const [destination = '', length = '', , , , , , , , link = ''] = line.split(/\s+/);
    const prefix = parsePrefix(`${(destination.match(/.{4}/g) ?? []).join(':')}/${Number.parseInt(length, 16)}`);
    return prefix ? [{ link, prefix }] : [];
  });
  return [...four, ...six].filter(({ prefix }) => prefix.bits > 0);
}

function invalid(message: string, hint?: string): VeldError {
  return new VeldError('property.invalid', message, hint === undefined ? {} : { hint });
}
