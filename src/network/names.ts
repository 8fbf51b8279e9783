/** Every name that this instance gives to something in the host's network, and the fixed numbers. */
import { VeldError } from '../lib/errors.ts';
import { LINK_NAME_MAX } from '../kernel/links.ts';
import { INTERFACES_MAX } from '../spec/interfaces.ts';

/**
 * Link-layer address of the host's side of every pair, the same for all VEs and nodes: a VE that moves to another node
 * keeps a true neighbour entry for its gateway. Locally administered; the bytes after 02 spell `veld`.
 */
export const GATEWAY_MAC = '02:76:65:6c:64:01';

/** Gateway of every VE for IPv6, on the host's side of each pair. */
export const GATEWAY_LINK_LOCAL = 'fe80::1';

/** Gateway of VEs that have an IPv4 address while no IPv4 pool is set. It is never sent: the neighbour entry is permanent. */
export const GATEWAY_NO_POOL = '169.254.1.1';

/** Next hop of IPv4 prefixes on the host's side of a pair. It is never sent: the neighbour entry is permanent. */
export const PREFIX_NEXT_HOP = '169.254.1.2';

/** Protocol number on the routes made here (see rtnetlink(7)); not one that iproute2 names. */
export const ROUTE_PROTOCOL = '118';

export interface Names {
  /** What all links of VEs begin with. */
  linkPrefix: string;
  /** What links begin with on which packets wait for a VE that is away for a moment. */
  holdPrefix: string;
  /** Carries the instance's own addresses. */
  gatewayLink: string;
  /** In family inet, and, for VEs on bridges, in family bridge. */
  table: string;
}

/**
 * The names of an instance.
 * @throws VeldError `settings.invalid` for instances whose links systemd-networkd would take for its own (ve-*, vb-*, vz-*)
 */
export function namesOf(instance: string): Names {
  if (['e', 'b', 'z'].includes(instance)) {
    throw new VeldError('settings.invalid', `The instance name ${instance} would give links named v${instance}-*, which systemd-networkd configures as its own.`);
  }
  return { linkPrefix: `v${instance}-`, holdPrefix: `v${instance}w`, gatewayLink: `v${instance}gw`, table: `veld_${instance}` };
}

/**
 * Host side of a VE's pair: `vmain-101` for eth0, `vmain-101-2` for eth2. (Numbers begin at 101, so the two cannot be confused.)
 * @param index 0 for eth0, 1 for eth1, ...
 * @throws VeldError `network.failed` when the name would be longer than the kernel takes
 */
export function linkOf(names: Names, number: number, index = 0): string {
  const link = `${names.linkPrefix}${number}${index === 0 ? '' : `-${index}`}`;
  if (link.length > LINK_NAME_MAX || !Number.isInteger(number) || number < 0) throw new VeldError('network.failed', `The VE number ${number} is too long for a link name.`);
  return link;
}

/** Link on which packets wait for a VE; its name is none of a VE's link. */
export function holdLinkOf(names: Names, number: number): string {
  return `${names.holdPrefix}${number}`;
}

/** Every name that a link of the VE can have. */
export function allLinksOf(names: Names, number: number): string[] {
  return Array.from({ length: INTERFACES_MAX + 1 }, (_, index) => `${names.linkPrefix}${number}${index === 0 ? '' : `-${index}`}`).filter((link) => link.length <= LINK_NAME_MAX);
}
