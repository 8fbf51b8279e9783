/**
 * What VEs may send to the bridges of which they are ports: one table of the family `bridge`, which sees frames before the bridge does.
 *
 * A frame from a VE's port that is in none of the sets is dropped, so a port that has no elements yet sends nothing. Rules do not grow with
 * VEs. The sets hold, by port: the link-layer address; which ports have addresses by hand (`fixed`), and these; which may announce
 * themselves as routers; which may send anything.
 */
import type { VeRecord } from '../store/types.ts';
import { nftApply } from '../kernel/nftables.ts';
import { NO_METADATA } from './firewall.ts';
import { interfacesOf } from './interfaces.ts';
import { linkLocal, parseIp } from './ip.ts';
import type { Names } from './names.ts';
import type { PlanContext } from './plan.ts';
import { RATE_MAPS, RATE_RULE } from './rates.ts';

/** One element: the set, and the element in nft's language. */
export interface PortElement {
  set: 'ports' | 'open' | 'routers' | 'fixed' | 'fixed4' | 'fixed6' | 'targets';
  element: string;
}

/** Everything that the VE's ports may do. Empty for a VE without one. */
export function portsOf(ve: VeRecord, context: PlanContext): PortElement[] {
  return interfacesOf(ve, context).filter(({ bridge }) => bridge !== undefined).flatMap(({ link, mac, guard, setup, addresses }): PortElement[] => {
    const port = `"${link}"`;
    if (guard === 'off') return [{ set: 'open', element: port }];
    const own: PortElement = { set: 'ports', element: `${port} . ${mac}` };
    if (guard === 'router') return [own, { set: 'routers', element: port }];
    if (setup !== 'host') return [own];
    const four = addresses.filter(({ family }) => family === 4).map(({ address }) => address);
    const six = [...addresses.filter(({ family }) => family === 6).map(({ address }) => address), linkLocal(mac)];
    return [
      own, { set: 'fixed', element: port },
      ...four.map((address): PortElement => ({ set: 'fixed4', element: `${port} . ${address}` })),
      // `::` asks whether an address is free.
      ...[...six, '::'].map((address): PortElement => ({ set: 'fixed6', element: `${port} . ${address}` })),
      ...six.map((address): PortElement => ({ set: 'targets', element: `${port} . 0x${hex(address)}` })),
    ];
  });
}

/**
 * The whole table, replaced as one transaction.
 *
 * VLAN tags are refused with every other unknown protocol: a bridge that knows no VLANs would carry them on, out of the customer's network.
 * A client of DHCP is told by its own port alone, whatever port the answer comes from.
 */
export function bridgeTableScript(names: Names, ports: readonly PortElement[]): string {
  const set = (name: PortElement['set'], type: string): string => {
    const elements = ports.filter((port) => port.set === name).map(({ element }) => element).join(', ');
    return `set ${name} { ${type}; ${elements === '' ? '' : `elements = { ${elements} };`} }`;
  };
  return `add table bridge ${names.table}
delete table bridge ${names.table}
table bridge ${names.table} {
  counter forged {}
  counter refused_server {}
  counter refused_protocol {}
  ${set('ports', 'type ifname . ether_addr')}
  ${set('open', 'type ifname')}
  ${set('routers', 'type ifname')}
  ${set('fixed', 'type ifname')}
  ${set('fixed4', 'type ifname . ipv4_addr')}
  ${set('fixed6', 'type ifname . ipv6_addr')}
  ${set('targets', 'typeof iifname . @th,64,128')}

  chain prerouting {
    type filter hook prerouting priority -310; policy accept;
    ${RATE_RULE}
    iifname "${names.linkPrefix}*" jump from_ve
  }
${RATE_MAPS}
  chain from_ve {
    iifname @open accept
    iifname . ether saddr != @ports counter name forged drop
    ether type != { ip, ip6, arp } counter name refused_protocol drop
    ether type arp iifname . arp saddr ether != @ports counter name forged drop
    ${NO_METADATA}
    iifname @routers accept
    icmpv6 type { nd-router-advert, nd-redirect } counter name refused_server drop
    icmp type { redirect, router-advertisement } counter name refused_server drop
    udp dport { 68, 546 } counter name refused_server drop
    ip6 daddr ff00::/8 exthdr frag exists counter name refused_server drop
    iifname @fixed goto from_fixed
  }
  chain from_fixed {
    ether type arp arp saddr ip 0.0.0.0 accept
    ether type arp iifname . arp saddr ip @fixed4 accept
    icmpv6 type nd-neighbor-advert iifname . @th,64,128 != @targets counter name forged drop
    ether type ip iifname . ip saddr @fixed4 accept
    ether type ip6 iifname . ip6 saddr @fixed6 accept
    counter name forged drop
  }
  chain input {
    type filter hook input priority -310; policy accept;
    iifname "${names.linkPrefix}*" iifname != @open ether daddr & ff:ff:ff:ff:ff:f0 == 01:80:c2:00:00:00 counter name refused_protocol drop
  }
}
`;
}

/** Let ports do this, and no longer that, in one transaction. Elements to remove that are not there are no error: they are added first. */
export async function changePorts(names: Names, add: readonly PortElement[], remove: readonly PortElement[]): Promise<void> {
  if (add.length + remove.length > 0) await nftApply(lines('add', names, [...add, ...remove]) + lines('delete', names, remove));
}

function lines(verb: 'add' | 'delete', names: Names, ports: readonly PortElement[]): string {
  return ports.map(({ set, element }) => `${verb} element bridge ${names.table} ${set} { ${element} }\n`).join('');
}

function hex(address: string): string {
  return parseIp(address)!.value.toString(16).padStart(32, '0');
}
