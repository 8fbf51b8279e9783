/** Attacks by packets. All of them travel between VEs, namespaces and sockets that the test made. */
import { createSocket } from 'node:dgram';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import type { VeDetail } from '../../../src/ve/types.ts';
import type { Attack, Outcome } from './attack.ts';
import { hostCommand, inVe, onHost, outcome } from './attack.ts';
import type { Lab } from './lab.ts';

/** Helpers of the scripts below: addresses, checksums (RFC 1071), frames, and a raw socket on eth0. */
const PACKETS = String.raw`
sub mac { pack('H*', $_[0] =~ s/://gr) }
sub sum { my $d = shift; $d .= "\0" if length($d) & 1; my $s = 0; $s += $_ for unpack('n*', $d); $s = ($s & 0xffff) + ($s >> 16) while $s >> 16; return ~$s & 0xffff }
sub ip4 { my ($from, $to, $proto, $data) = @_; my $h = pack('CCnnnCCna4a4', 0x45, 0, 20 + length $data, 7, 0, 64, $proto, 0, inet_aton($from), inet_aton($to)); substr($h, 10, 2) = pack('n', sum($h)); $h . $data }
sub ip6 { my ($from, $to, $proto, $hops, $data) = @_; pack('NnCC', 0x60000000, length $data, $proto, $hops) . Socket::inet_pton(AF_INET6, $from) . Socket::inet_pton(AF_INET6, $to) . $data }
sub udp4 { my ($from, $to, $port, $data) = @_; ip4($from, $to, 17, pack('nnnn', 4444, $port, 8 + length $data, 0) . $data) }
sub check6 { my ($from, $to, $proto, $data, $at) = @_; my $pseudo = Socket::inet_pton(AF_INET6, $from) . Socket::inet_pton(AF_INET6, $to) . pack('NN', length $data, $proto); substr($data, $at, 2) = pack('n', sum($pseudo . $data)); $data }
sub udp6 { my ($from, $to, $port, $data) = @_; ip6($from, $to, 17, 64, check6($from, $to, 17, pack('nnnn', 4444, $port, 8 + length $data, 0) . $data, 6)) }
sub raw { my ($type) = @_; socket(my $s, 17, SOCK_RAW, unpack('S', pack('n', $type))) or die "AF_PACKET: $!"; return $s }
sub link_number { my $i = slurp('/sys/class/net/eth0/ifindex'); chomp $i; $i + 0 }
sub frame { my ($to, $from, $type, $data, $times) = @_; my $s = raw($type); my $f = mac($to) . mac($from) . pack('n', $type) . $data; my $where = pack('SnlSCCa8', 17, $type, link_number(), 0, 0, 6, mac($to));
  for (1 .. $times // 3) { defined send($s, $f, 0, $where) or die "send: $!"; select undef, undef, undef, 0.02 } }
`;

/** The host's side of every pair (src/network/names.ts). */
const GATEWAY = '02:76:65:6c:64:01';

const PORT = 4477;

/** Sends a packet with a source that may be forged. */
const SEND = String.raw`${PACKETS}
my ($family, $mac, $from, $to, $port, $word) = @ARGV;
frame('${GATEWAY}', $mac, $family == 4 ? 0x0800 : 0x86dd, $family == 4 ? udp4($from, $to, $port, $word) : udp6($from, $to, $port, $word));
refused("sent");`;

/** Waits for a packet with a word on eth0, whoever it is for. */
const LISTEN = String.raw`${PACKETS}
my ($word, $seconds) = @ARGV; my $s = raw(3); my $want = 1; bind($s, pack('SnlSCCa8', 17, 3, link_number(), 0, 0, 0, ''));
setsockopt($s, 263, 1, pack('iSSa8', link_number(), 1, 0, '')); # PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC
print "LISTENING\n"; my $end = time + $seconds; $SIG{ALRM} = sub { refused("nothing arrived") }; alarm $seconds;
while (1) { recv($s, my $b, 65536, 0) // next; reached("a packet with the word") if index($b, $word) >= 0 }`;

const four = (ve: VeDetail): string => ve.addresses.find((address) => !address.includes(':')) as string;
const six = (ve: VeDetail): string => ve.addresses.find((address) => address.includes(':')) as string;

/** One attempt: somebody listens, packets are sent, and the listener says what came. */
async function heard(lab: Lab, listener: 'attacker' | 'neighbour', send: (word: string) => Promise<unknown>): Promise<Outcome> {
  const word = `${lab.marker}${Math.random().toString(36).slice(2, 8)}`;
  const listening = inVe(lab, listener, LISTEN, [word, 1]);
  let over = false;
  const ended = listening.finally(() => { over = true; });
  // When it listens is not known: it takes a while to get there.
  for (let left = 100; left > 0; left -= 1) {
    await Promise.race([ended, new Promise((resolve) => { setTimeout(resolve, 250); })]);
    if (over) break;
    await send(word);
  }
  return ended;
}

/** Put a rule at the head of a chain of the instance's own table for the time of the work. */
async function withRule<T>(lab: Lab, chain: string, rule: string, work: () => Promise<T>): Promise<T> {
  const { stdout, stderr } = await hostCommand(['nft', '-e', '-a', 'insert', 'rule', 'inet', lab.nftTable, chain, ...rule.split(' ')]);
  const handle = /# handle (\d+)/.exec(stdout)?.[1];
  if (handle === undefined) throw new Error(`nft: ${stderr}`);
  try {
    return await work();
  } finally {
    await hostCommand(['nft', 'delete', 'rule', 'inet', lab.nftTable, chain, 'handle', handle]);
  }
}

/** Set kernel settings of the attacker's own link for the time of the work. */
async function withSettings<T>(lab: Lab, settings: [family: 'ipv4' | 'ipv6', name: string, value: string][], work: () => Promise<T>): Promise<T> {
  const before: [string, string][] = [];
  for (const [family, name, value] of settings) {
    const file = `/proc/sys/net/${family}/conf/${lab.link}/${name}`;
    if (!existsSync(file)) continue;
    before.push([file, readFileSync(file, 'utf8')]);
    writeFileSync(file, value);
  }
  try {
    return await work();
  } finally {
    for (const [file, value] of before) writeFileSync(file, value);
  }
}

/** A packet with a forged source, seen or not seen by the neighbour. */
function forged(name: string, args: (lab: Lab, word: string) => (string | number)[]): Attack {
  const attempt = (lab: Lab): Promise<Outcome> => heard(lab, 'neighbour', (word) => inVe(lab, 'attacker', SEND, args(lab, word)));
  return {
    name, guard: 'nftables: a VE\'s link, link-layer address and addresses belong together', refusal: /nothing arrived/,
    inside: attempt,
    off: (lab) => withSettings(lab, [['ipv4', 'rp_filter', '0']], () => withRule(lab, 'from_ve', 'accept', () => attempt(lab))),
  };
}

/** Claims an address of the neighbour's by an unasked ARP reply and request, and by an unasked neighbour advertisement. */
const CLAIM = String.raw`${PACKETS}
my ($mac, $claim4, $claim6, $local6) = @ARGV;
for my $op (1, 2) { frame('ff:ff:ff:ff:ff:ff', $mac, 0x0806, pack('nnCCn', 1, 0x0800, 6, 4, $op) . mac($mac) . inet_aton($claim4) . mac($op == 1 ? '00:00:00:00:00:00' : $mac) . inet_aton($claim4), 1) }
my $na = pack('CCnN', 136, 0, 0, 0x20000000) . Socket::inet_pton(AF_INET6, $claim6) . pack('CC', 2, 1) . mac($mac);
frame('33:33:00:00:00:01', $mac, 0x86dd, ip6($local6, 'ff02::1', 58, 255, check6($local6, 'ff02::1', 58, $na, 2)), 2);
refused("sent");`;

/** Says that it is a router with a prefix, and no router by default (lifetime 0): so nothing of the host's own routes could change. */
const ADVERTISE = String.raw`${PACKETS}
my ($mac, $local6, $prefix) = @ARGV;
my $ra = pack('CCnCCnNN', 134, 0, 0, 64, 0, 0, 0, 0) . pack('CCCCNNN', 3, 4, 64, 0x80, 600, 600, 0) . Socket::inet_pton(AF_INET6, $prefix) . pack('CC', 1, 1) . mac($mac);
frame('33:33:00:00:00:01', $mac, 0x86dd, ip6($local6, 'ff02::1', 58, 255, check6($local6, 'ff02::1', 58, $ra, 2)), 2);
refused("sent");`;

/** EUI-64 link-local address (RFC 4291, appendix A). */
function linkLocal(mac: string): string {
  const b = mac.split(':').map((byte) => Number.parseInt(byte, 16));
  const w = [((b[0] as number) ^ 2) << 8 | (b[1] as number), (b[2] as number) << 8 | 0xff, 0xfe << 8 | (b[3] as number), (b[4] as number) << 8 | (b[5] as number)];
  return `fe80::${w.map((n) => n.toString(16)).join(':')}`;
}

async function neighbourEntries(lab: Lab, address: string): Promise<Outcome> {
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  const { stdout } = await hostCommand(['ip', 'neigh', 'show', 'dev', lab.link]);
  return outcome(stdout.split('\n').some((line) => line.startsWith(`${address} `)), stdout.includes(address) ? 'an entry' : 'no entry came of it');
}

function claiming(family: 4 | 6): Attack {
  const address = (lab: Lab): string => (family === 4 ? four(lab.neighbour) : six(lab.neighbour));
  const attempt = async (lab: Lab): Promise<Outcome> => {
    await inVe(lab, 'attacker', CLAIM, [lab.attacker.mac, four(lab.neighbour), six(lab.neighbour), linkLocal(lab.attacker.mac)]);
    return neighbourEntries(lab, address(lab));
  };
  return {
    name: family === 4 ? 'draw another VE\'s traffic by ARP' : 'draw another VE\'s traffic by neighbour advertisements',
    guard: 'no neighbour is learnt on a VE\'s link: ARP and ND are off, entries are permanent', refusal: /no entry/,
    inside: attempt,
    async off(lab) {
      await hostCommand(['ip', 'link', 'set', lab.link, 'arp', 'on']);
      try {
        return await withSettings(lab, [['ipv4', 'arp_accept', '1'], ['ipv6', 'accept_untracked_na', '1'], ['ipv6', 'forwarding', '1']], () => attempt(lab));
      } finally {
        await hostCommand(['ip', 'link', 'set', lab.link, 'arp', 'off']);
        await hostCommand(['ip', 'neigh', 'del', address(lab), 'dev', lab.link]);
        // The change of the flag has flushed the permanent entries as well.
        for (const own of [...lab.attacker.addresses, linkLocal(lab.attacker.mac)]) {
          await hostCommand(['ip', 'neigh', 'replace', own, 'lladdr', lab.attacker.mac, 'dev', lab.link, 'nud', 'permanent']);
        }
      }
    },
  };
}

const CONNECT = String.raw`
my ($host, $port) = @ARGV; socket(my $s, AF_INET, SOCK_STREAM, 0) or die; $SIG{ALRM} = sub { refused("no answer") }; alarm 2;
connect($s, pack_sockaddr_in($port, inet_aton($host))) or failed("connect"); sysread($s, my $b, 100); reached("answered");`;

export const networkAttacks: Attack[] = [
  forged('send with the IPv4 address of another VE', (lab, word) => [4, lab.attacker.mac, four(lab.loose), four(lab.neighbour), PORT, word]),
  forged('send with the IPv6 address of another VE', (lab, word) => [6, lab.attacker.mac, six(lab.loose), six(lab.neighbour), PORT, word]),
  forged('send with the IPv4 address of the host', (lab, word) => [4, lab.attacker.mac, '192.0.2.77', four(lab.neighbour), PORT, word]),
  forged('send with another link-layer address', (lab, word) => [4, '02:00:00:00:00:77', four(lab.attacker), four(lab.neighbour), PORT, word]),
  claiming(4),
  claiming(6),
  {
    name: 'be a router for the host', guard: 'nftables drops router advertisements of VEs', refusal: /no route/,
    inside: advertise,
    off: (lab) => withSettings(lab, [['ipv6', 'accept_ra', '2'], ['ipv6', 'accept_ra_pinfo', '1']], () => withRule(lab, 'from_ve', 'accept', () => withRule(lab, 'to_host', 'accept', () => advertise(lab)))),
  },
  {
    name: 'listen to another VE\'s traffic', guard: 'routed pairs: only a VE\'s own packets pass its link', refusal: /nothing arrived/,
    inside: (lab) => heard(lab, 'attacker', (word) => fromHost(four(lab.neighbour), word)),
    off: (lab) => heard(lab, 'neighbour', (word) => fromHost(four(lab.neighbour), word)),
  },
  {
    name: 'reach a service of the host by the gateway\'s address', guard: 'nftables: nothing new from a VE to the host (network.veToHost)', refusal: /ECONNREFUSED/,
    inside: async (lab) => inVe(lab, 'attacker', CONNECT, [await gateway(lab), lab.service.port]),
    off: (lab) => withRule(lab, 'to_host', 'accept', async () => inVe(lab, 'attacker', CONNECT, [await gateway(lab), lab.service.port])),
  },
  {
    name: 'reach a service of the host by 127.0.0.1', guard: 'network namespace', refusal: /ECONNREFUSED/,
    inside: (lab) => inVe(lab, 'attacker', CONNECT, ['127.0.0.1', lab.service.port]),
    off: (lab) => onHost(CONNECT, ['127.0.0.1', lab.service.port]),
  },
  {
    name: 'reach a service on the host\'s loopback by a packet for 127.0.0.1 on its link', guard: 'the kernel takes loopback addresses from no other link, and nftables refuses', refusal: /nothing arrived/,
    inside: toLoopback,
    off: (lab) => withSettings(lab, [['ipv4', 'route_localnet', '1'], ['ipv4', 'rp_filter', '0']], () => withRule(lab, 'to_host', 'accept', () => toLoopback(lab))),
  },
  {
    name: 'reach the metadata service of the host\'s cloud', guard: 'nftables: 169.254.0.0/16 but for port 53', refusal: /nothing arrived/,
    inside: metadata,
    off: (lab) => withRule(lab, 'from_ve_checked', 'accept', () => metadata(lab)),
  },
  {
    name: 'change the host\'s end of another VE\'s link', guard: 'user namespace: rtnetlink asks for rights over the namespace behind the pair', refusal: /EPERM/,
    inside: (lab) => inVe(lab, 'attacker', SET_ALIAS, [index(lab.neighbour.link), lab.marker, 'through the pair']),
    off: (lab) => onHost(SET_ALIAS, [index(lab.neighbour.link), lab.marker]),
  },
];

/** RTM_NEWLINK with IFLA_IFALIAS (20); through the pair: with IFLA_TARGET_NETNSID (46) 0, which is where the other end is. A dump first makes the number known. */
const SET_ALIAS = String.raw`
my ($index, $alias, $through) = @ARGV; socket(my $s, 16, 3, 0) or die;
my $ask = sub { my ($type, $flags, $body) = @_; send($s, pack('LSSLL', 16 + length $body, $type, $flags, 1, 0) . $body, 0, pack('SSLL', 16, 0, 0, 0)) or die; recv($s, my $answer, 65536, 0); return $answer };
my $attr = sub { my ($type, $data) = @_; my $a = pack('SS', 4 + length $data, $type) . $data; $a . "\0" x (-length($a) & 3) };
my $own = 0;
if ($through) { my $i = slurp('/sys/class/net/eth0/ifindex'); $ask->(18, 1, pack('CxSlLL', 0, 0, $i + 0, 0, 0)); $own = 1 }
my $answer = $ask->(16, 5, pack('CxSlLL', 0, 0, $index, 0, 0) . ($own ? $attr->(46, pack('l', 0)) : '') . $attr->(20, "$alias\0"));
my $code = unpack('l', substr($answer, 16, 4)); $errno = -$code; verdict("alias", $code);`;

const PREFIX = '2001:db8:5e1d::';

async function advertise(lab: Lab): Promise<Outcome> {
  await inVe(lab, 'attacker', ADVERTISE, [lab.attacker.mac, linkLocal(lab.attacker.mac), PREFIX]);
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  const { stdout } = await hostCommand(['ip', '-6', 'route', 'show', 'dev', lab.link]);
  await hostCommand(['ip', '-6', 'route', 'del', `${PREFIX}/64`, 'dev', lab.link]);
  return outcome(stdout.includes(PREFIX), stdout.includes(PREFIX) ? 'the host has a route' : 'no route came of it');
}

async function metadata(lab: Lab): Promise<Outcome> {
  // Not the real address: the neighbour plays the service on another one of the same rule.
  const address = '169.254.77.77';
  await hostCommand(['ip', 'route', 'replace', `${address}/32`, 'dev', lab.neighbour.link]);
  await hostCommand(['ip', 'neigh', 'replace', address, 'lladdr', lab.neighbour.mac, 'dev', lab.neighbour.link, 'nud', 'permanent']);
  try {
    return await heard(lab, 'neighbour', (word) => inVe(lab, 'attacker', SEND, [4, lab.attacker.mac, four(lab.attacker), address, 80, word]));
  } finally {
    await hostCommand(['ip', 'neigh', 'del', address, 'dev', lab.neighbour.link]);
    await hostCommand(['ip', 'route', 'del', `${address}/32`, 'dev', lab.neighbour.link]);
  }
}

async function toLoopback(lab: Lab): Promise<Outcome> {
  const socket = createSocket('udp4');
  await new Promise<void>((resolve) => { socket.bind(0, '127.0.0.1', resolve); });
  let came = false;
  socket.on('message', () => { came = true; });
  await inVe(lab, 'attacker', SEND, [4, lab.attacker.mac, four(lab.attacker), '127.0.0.1', socket.address().port, lab.marker]);
  await new Promise((resolve) => { setTimeout(resolve, 100); });
  socket.close();
  return outcome(came, came ? 'the packet arrived' : 'nothing arrived');
}

/** The neighbour's traffic: a packet with the word from the host. */
function fromHost(to: string, word: string): Promise<void> {
  const socket = createSocket('udp4');
  return new Promise((resolve, reject) => {
    socket.send(word, PORT, to, (error) => {
      socket.close();
      if (error) reject(error);
      else resolve();
    });
  });
}

async function gateway(lab: Lab): Promise<string> {
  const { stdout } = await hostCommand(['ip', '-4', '-j', 'addr', 'show', 'dev', `v${lab.veld.name}gw`]);
  return (JSON.parse(stdout) as { addr_info: { local: string }[] }[])[0]?.addr_info[0]?.local as string;
}

function index(link: string): number {
  return Number(readFileSync(`/sys/class/net/${link}/ifindex`, 'utf8'));
}
