/** A VE's interfaces: what its properties and its record say together, in one form for eth0 and the others. Pure. */
import { createHash } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import type { Guard } from '../spec/interfaces.ts';
import { parseInterface } from '../spec/interfaces.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { isMac, parseCidr } from './ip.ts';
import type { Cidr } from './ip.ts';
import { GATEWAY_MAC, linkOf } from './names.ts';
import type { Names } from './names.ts';

export interface Interface {
  /** Inside the VE. */
  name: string;
  /** On the host. */
  link: string;
  mac: string;
  /** Link-layer address of the host's side. */
  hostMac: string;
  /** Bytes; undefined: the default of its mode. */
  mtu: number | undefined;
  /** The host's bridge of which it is a port; undefined: routed. */
  bridge: string | undefined;
  guard: Guard;
  /** Who sets addresses and routes: the host, the VE by DHCP and router advertisements (Veld writes its configuration), or the VE as it likes. */
  setup: 'host' | 'auto' | 'own';
  /** Routed: all of full length. */
  addresses: Cidr[];
  /** Host bits, where there are any, are an address of the VE itself. */
  prefixes: Cidr[];
  gateways: Cidr[];
  /** By family: whether its router is that of the VE, for whatever has no source yet. */
  main: { 4: boolean; 6: boolean };
  /** Of a VE with several: the routing table that packets from the interface's addresses look up, so that they leave by it. */
  table: number | undefined;
}

/** Routing tables in a VE with several interfaces are this and the interface's number. */
const TABLES = 1000;

/**
 * All interfaces of a VE, eth0 first. Addresses of families that this host has not are left out.
 * @throws VeldError `network.failed` for a record that no check has let through
 */
export function interfacesOf(ve: VeRecord, { names, ipv6 }: { names: Names; ipv6: boolean }): Interface[] {
  const properties = resolveProperties(ve.properties);
  const cidrs = (texts: readonly string[]): Cidr[] => texts.flatMap((text) => {
    const cidr = parseCidr(text);
    if (!cidr) throw new VeldError('network.failed', `The VE ${ve.name} has the address ${JSON.stringify(text)}, which is none.`);
    return cidr.family === 6 && !ipv6 ? [] : [cidr];
  });
  const make = (index: number, given: { name: string; bridge: string | undefined; mac: string; mtu: number | undefined; guard: Guard; addresses: string[] | null; prefixes: string[]; gateways: string[] }): Interface => {
    if (!isMac(given.mac)) throw new VeldError('network.failed', `The VE ${ve.name} has the link-layer address ${JSON.stringify(given.mac)}, which is none.`);
    const routed = given.bridge === undefined;
    return {
      ...given,
      link: linkOf(names, ve.number, index),
      hostMac: routed ? GATEWAY_MAC : portMac(given.mac),
      setup: given.addresses === null ? 'auto' : routed || given.addresses.length > 0 ? 'host' : 'own',
      addresses: cidrs(given.addresses ?? []),
      prefixes: routed ? cidrs(given.prefixes) : [],
      gateways: routed ? [] : cidrs(given.gateways),
      main: { 4: false, 6: false },
      table: undefined,
    };
  };

  const interfaces: Interface[] = [];
  const mode = properties['network.mode'];
  if (mode !== 'none') {
    interfaces.push(make(0, {
      name: 'eth0',
      bridge: mode === 'bridge' ? properties['network.bridge'] : undefined,
      mac: properties['network.mac'] ?? ve.mac,
      mtu: properties['network.mtu'] ?? undefined,
      guard: properties['network.guard'],
      addresses: mode === 'bridge' ? properties['network.addresses'] : ve.addresses,
      prefixes: properties['network.prefixes'],
      gateways: properties['network.gateway'],
    }));
  }
  for (const text of properties['network.interfaces']) {
    const spec = parseInterface(text);
    if (!spec) throw new VeldError('network.failed', `The VE ${ve.name} has the interface ${JSON.stringify(text)}, which is none.`);
    interfaces.push(make(Number(spec.name.slice(3)), { ...spec, mac: spec.mac ?? macOf(ve.uuid, spec.name), addresses: spec.addresses[0] === 'auto' ? null : spec.addresses }));
  }
  shareRoutes(interfaces);
  return interfaces;
}

/** The VE's own addresses on its routed links, in their one text, eth0's first. */
export function routedAddresses(ve: VeRecord, context: { names: Names; ipv6: boolean }): { text: string; family: 4 | 6 }[] {
  return interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).flatMap(({ addresses }) => addresses.map(({ address, family }) => ({ text: address, family })));
}

/** Whether the interface has a default route of the family that the host sets. */
export function hasDefault(one: Interface, family: 4 | 6): boolean {
  if (one.bridge !== undefined) return one.gateways.some((gateway) => gateway.family === family);
  return [...one.addresses, ...one.prefixes].some((cidr) => cidr.family === family);
}

/** Whether a change from one to the other needs a new link. */
export function sameLink(one: Interface, other: Interface): boolean {
  return one.link === other.link && one.bridge === other.bridge && one.mac === other.mac;
}

/**
 * The first interface with a router has the VE's default route. Where there are several, what an interface is asked it answers itself: by
 * another one its address would be a forgery.
 */
function shareRoutes(interfaces: readonly Interface[]): void {
  for (const family of [4, 6] as const) {
    const first = interfaces.find((one) => one.setup === 'auto' || hasDefault(one, family));
    if (first) first.main[family] = true;
  }
  if (interfaces.length > 1) for (const one of interfaces) one.table = TABLES + Number(one.name.slice(3));
}

/** The link-layer address of an interface besides eth0: of the VE's UUID and the name, so it is the same at each start and on each node. */
function macOf(uuid: string, name: string): string {
  const digest = createHash('sha256').update(`${uuid}/${name}`).digest('hex');
  return `02:${digest.slice(0, 10).match(/../g)!.join(':')}`;
}

/** Of a bridge's port. High: a bridge without an address of its own takes the lowest of its ports', which must not be one that comes and goes. */
function portMac(mac: string): string {
  return `fe${mac.slice(2)}`;
}
