/** The rows of the table of properties that are about the interfaces of a VE and what may pass there: see properties.ts. */
import { LINK_NAME } from './addresses.ts';
import { GUARDS, INTERFACES_MAX, MTU_MAX, MTU_MIN } from './interfaces.ts';
import type { PropertyRow } from './types.ts';

export const NETWORK_PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'network.mode',
    type: { kind: 'choice', choices: ['routed', 'bridge', 'none'] },
    default: 'routed',
    change: 'live',
    help: 'What eth0 is: routed by the host, a port of the bridge `network.bridge`, or not there.',
  },
  {
    name: 'network.bridge',
    type: { kind: 'text', maxLength: 15, pattern: new RegExp(`^$|${LINK_NAME.source}`), patternHelp: 'the name of a bridge of the host' },
    default: '',
    change: 'live',
    help: 'Bridge of the host that eth0 is a port of, with `network.mode` bridge; it must be there when the VE starts.',
  },
  {
    name: 'network.addresses',
    type: { kind: 'list', item: 'address', maxItems: 64 },
    default: null,
    change: 'live',
    help: 'Addresses of eth0. Routed: without prefix length; `auto` takes one from each pool. On a bridge: with prefix length; `auto` is DHCP and router advertisements. `none` has none.',
    vzctl: { option: 'ipadd', key: 'IP_ADDRESS' },
  },
  {
    name: 'network.prefixes',
    type: { kind: 'list', item: 'prefix', maxItems: 16 },
    default: [],
    change: 'live',
    help: 'Whole prefixes routed to the VE (eth0 routed): 2001:db8:1:2::/64, or 2001:db8:1:2::1/64 to give eth0 that address of it, too.',
  },
  {
    name: 'network.gateway',
    // One of each family.
    type: { kind: 'list', item: 'gateway', maxItems: 2 },
    default: [],
    change: 'live',
    help: 'Routers of eth0 on a bridge with addresses by hand, one of each family.',
  },
  {
    name: 'network.mac',
    type: { kind: 'text', maxLength: 17, pattern: /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, patternHelp: 'a unicast link-layer address such as 02:00:5e:00:53:01 in lower case' },
    default: null,
    change: 'live',
    help: 'Link-layer address of eth0; `auto` keeps the one chosen when the VE was made.',
  },
  {
    name: 'network.guard',
    type: { kind: 'choice', choices: GUARDS },
    default: 'strict',
    change: 'live',
    help: 'What eth0 may send to a bridge: strict (its own link-layer address, its own addresses when given by hand, no router advertisements, no DHCP answers), router (its own link-layer address), off (anything).',
  },
  {
    name: 'network.interfaces',
    type: { kind: 'list', item: 'interface', maxItems: INTERFACES_MAX },
    default: [],
    change: 'live',
    help: 'Interfaces besides eth0, with spaces between: `eth1,bridge=br1,address=192.0.2.5/24 eth2,address=10.0.0.9`.',
    vzctl: { option: 'netif_add', key: 'NETIF' },
  },
  {
    name: 'network.dns',
    // Resolvers read three `nameserver` lines (MAXNS in resolv.h), and ignore the rest without a word.
    type: { kind: 'list', item: 'resolver', maxItems: 3 },
    default: null,
    change: 'restart',
    help: 'Addresses of name servers; `auto` is the resolver that knows the names of VEs, or else those of the host.',
    vzctl: { option: 'nameserver', key: 'NAMESERVER' },
  },
  {
    name: 'network.search',
    // Six is what every resolver reads (MAXDNSRCH in resolv.h).
    type: { kind: 'list', item: 'domain', maxItems: 6 },
    default: [],
    change: 'restart',
    help: 'Domains in which short names are looked up.',
    vzctl: { option: 'searchdomain', key: 'SEARCHDOMAIN' },
  },
  {
    name: 'network.mtu',
    type: { kind: 'integer', min: MTU_MIN, max: MTU_MAX, unit: 'bytes' },
    default: null,
    change: 'live',
    help: 'Largest packet of eth0; `auto` is 1500, on a bridge what the bridge has.',
  },
  {
    name: 'network.rate.in',
    type: { kind: 'rate', min: 8000, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most that the VE receives by all its interfaces of a kind, in bits a second: `10mbit`. What it did not use of the last second it may have at once.',
    vzctl: { option: 'rate', key: 'RATE' },
  },
  {
    name: 'network.rate.out',
    type: { kind: 'rate', min: 8000, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most that the VE sends, likewise.',
  },
  {
    name: 'network.connections',
    type: { kind: 'integer', min: 16, max: 65_536, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most connections of the VE, in and out, that the host\'s connection table holds at a time; more are not opened. Counted are those opened since the limit was set.',
  },
  {
    name: 'network.publish',
    type: { kind: 'list', item: 'publish', maxItems: 64 },
    default: [],
    change: 'live',
    help: 'Ports of the host that lead to ports of the VE: `8080:80`, `192.0.2.1:53:53/udp`, `[2001:db8::1]:8000-8010:80-90/tcp`.',
  },
  {
    name: 'network.allow',
    type: { kind: 'list', item: 'rule', maxItems: 128 },
    default: [],
    change: 'live',
    help: 'Firewall: where one rule stands, nothing else passes in its direction: `22/tcp`, `192.0.2.0/24:443`, `out:any:53`, `any/icmp`.',
  },
  {
    name: 'network.deny',
    type: { kind: 'list', item: 'rule', maxItems: 128 },
    default: [],
    change: 'live',
    help: 'Firewall: what never passes, whatever network.allow says: `192.0.2.7`, `out:any:25/tcp`.',
  },
];
