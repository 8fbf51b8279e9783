/**
 * An item of `network.interfaces` as text: `eth1,bridge=br1,mac=02:00:5e:00:00:01,mtu=9000,address=192.0.2.5/24,gateway=192.0.2.1`. Pure.
 *
 * After the name come fields in any order; `address`, `prefix` and `gateway` may be given several times. With `bridge` the link is a port
 * of that bridge of the host, without it is routed, as eth0 is by default.
 */
import { canonicalAddress, canonicalCidr, canonicalGateway, canonicalMac, canonicalPrefix, LINK_NAME } from './addresses.ts';

/** How far a VE is trusted on a bridge: see `network.guard` in the table. */
export type Guard = 'strict' | 'router' | 'off';
export const GUARDS: readonly Guard[] = ['strict', 'router', 'off'];

export interface InterfaceSpec {
  /** Inside the VE: eth1 to eth15. (eth0 is what the other `network.*` properties say.) */
  name: string;
  /** Undefined: routed. */
  bridge: string | undefined;
  /** Undefined: made of the VE's UUID and the name, so that it stays the same everywhere. */
  mac: string | undefined;
  /** Bytes. */
  mtu: number | undefined;
  guard: Guard;
  /** On a bridge with prefix length, or the word `auto`: the VE asks by DHCP and hears router advertisements. */
  addresses: string[];
  /** Routed to the VE as a whole. */
  prefixes: string[];
  gateways: string[];
}

/** Most interfaces besides eth0. */
export const INTERFACES_MAX = 15;

/** Longest text of one item. */
export const INTERFACE_TEXT_MAX = 1000;

/** Bytes: the least that IPv6 works with (RFC 8200), and the most of a veth. */
export const MTU_MIN = 1280;
export const MTU_MAX = 65_535;

/** What {@link parseInterface} reads, in words. */
export const INTERFACE_HELP = 'NAME[,FIELD=VALUE...], NAME being eth1 to eth15 and the fields bridge, mac, mtu, guard, address, prefix, gateway';

/** Read one item; undefined when it is none. Whether its parts fit each other and the host is asked later. */
export function parseInterface(text: string): InterfaceSpec | undefined {
  const [name = '', ...fields] = text.split(',').map((part) => part.trim());
  const index = /^eth([1-9]\d?)$/.exec(name)?.[1];
  if (index === undefined || Number(index) > INTERFACES_MAX || text.length > INTERFACE_TEXT_MAX) return undefined;
  const spec: InterfaceSpec = { name, bridge: undefined, mac: undefined, mtu: undefined, guard: 'strict', addresses: [], prefixes: [], gateways: [] };
  const seen = new Set<string>();
  for (const field of fields) {
    const at = field.indexOf('=');
    const key = field.slice(0, Math.max(at, 0));
    if (!read(spec, key, field.slice(at + 1), seen.has(key))) return undefined;
    seen.add(key);
  }
  const whole = spec.addresses.includes('auto') && spec.addresses.length > 1;
  return whole ? undefined : spec;
}

/** The one text of an interface. */
export function formatInterface(spec: InterfaceSpec): string {
  const one = (key: string, value: string | number | undefined): string[] => (value === undefined ? [] : [`${key}=${value}`]);
  return [
    spec.name, ...one('bridge', spec.bridge), ...one('mac', spec.mac), ...one('mtu', spec.mtu), ...one('guard', spec.guard === 'strict' ? undefined : spec.guard),
    ...spec.addresses.map((value) => `address=${value}`), ...spec.prefixes.map((value) => `prefix=${value}`), ...spec.gateways.map((value) => `gateway=${value}`),
  ].join(',');
}

/** {@link formatInterface} of what {@link parseInterface} reads. */
export function canonicalInterface(text: string): string | undefined {
  const spec = parseInterface(text);
  return spec && formatInterface(spec);
}

/** Put one field into the specification. @returns whether it could be read */
function read(spec: InterfaceSpec, key: string, text: string, again: boolean): boolean {
  const append = (list: string[], value: string | undefined): boolean => {
    if (value === undefined || list.includes(value)) return false;
    list.push(value);
    return true;
  };
  switch (key) {
    case 'address': return append(spec.addresses, text === 'auto' || text === 'dhcp' ? 'auto' : canonicalAddress(text) ?? canonicalCidr(text));
    case 'prefix': return append(spec.prefixes, canonicalPrefix(text));
    case 'gateway': return append(spec.gateways, canonicalGateway(text));
    default: break;
  }
  if (again) return false;
  switch (key) {
    case 'bridge':
      spec.bridge = text;
      return LINK_NAME.test(text);
    case 'mac':
      spec.mac = canonicalMac(text);
      return spec.mac !== undefined;
    case 'mtu':
      spec.mtu = Number(text);
      return /^\d{1,5}$/.test(text) && spec.mtu >= MTU_MIN && spec.mtu <= MTU_MAX;
    case 'guard':
      spec.guard = text as Guard;
      return GUARDS.includes(spec.guard);
    default: return false;
  }
}
