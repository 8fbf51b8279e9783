/** Sockets of the internet families, over the loopback and the VE's link. */
import { category } from './program.ts';

export const INET_HELPERS = String.raw`
sub name4 { return pack_sockaddr_in($_[1] // 0, inet_aton($_[0] // '127.0.0.1')) }
sub name6 { return pack_sockaddr_in6($_[1] // 0, inet_pton(AF_INET6, $_[0] // '::1')) }
sub listener { my ($name, $backlog) = @_; my $family = sockaddr_family($name); socket(my $l, $family, SOCK_STREAM, 0) or die "socket: $!\n"; bind($l, $name) or die "bind: $!\n"; listen($l, $backlog // 5) or die; return $l }
sub connected { my ($name) = @_; socket(my $c, sockaddr_family($name), SOCK_STREAM, 0) or die; connect($c, $name) or die "connect: $!\n"; return $c }
sub tcp { my ($name) = @_; my $l = listener($name // name4()); my $c = connected(getsockname $l); accept(my $s, $l) or die; close $l; return ($c, $s) }
sub udp { my ($name) = @_; socket(my $s, sockaddr_family($name // name4()), SOCK_DGRAM, 0) or die; bind($s, $name // name4()) or die "bind: $!\n"; return $s }
sub echo { my ($a, $b, $word) = @_; give($a, $word); same('one way', get($b), $word); give($b, "$word!"); same('the other', get($a), "$word!") }
sub setopt { return setsockopt($_[0], $_[1], $_[2], $_[3]) }
sub full { my ($s) = @_; fcntl($s, F_SETFL, O_RDWR|O_NONBLOCK); my $n = 0; while (1) { my $r = syswrite($s, pattern(9, 8192)); last if !defined $r; $n += $r; last if $n > 4 << 20 } fcntl($s, F_SETFL, O_RDWR); return $n }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, INET_HELPERS + code]));

/** One connection, and what is asked of it. */
const TCP = String.raw`
my ($c, $s) = tcp(); my @names = (getsockname $c, getpeername $c); my @d = (pattern(1, 20000), 'answer'); give($c, $d[0]); give($s, $d[1]);
check { my $all = ''; $all .= get($s) while length $all < 20000; same('one way', $all, $d[0]); same('the other', get($c), $d[1]); ok('names', $names[0] eq getsockname($c) && $names[1] eq getpeername($c)); echo($c, $s, 'word'); give($c, $d[0]); give($s, $d[1]) };
harm { get($s, 5) };`;

export const inetSockets = category('inet', both({
  'TCP connection with data in both queues': TCP,
  'TCP connection of IPv6': TCP.replace('tcp()', 'tcp(name6())'),
  'TCP connection of IPv4 in IPv6': TCP.replace('my ($c, $s) = tcp();', String.raw`my $l = listener(name6('::')); my ($port) = unpack_sockaddr_in6(getsockname $l); my $c = connected(name4('127.0.0.1', $port)); accept(my $s, $l); close $l;`),

  'TCP connection with full queues': String.raw`
my ($c, $s) = tcp(); my $n = full($c);
check { my ($got, $bad) = (0, 0); while ($got < $n) { my $b = get($s); last if $b eq ''; $got += length $b } same('bytes', $got, $n); echo($c, $s, 'word'); $n = full($c) };
harm { get($s, 100) ; shutdown($c, 1) };`,

  'TCP connection between processes': String.raw`
my $l = listener(name4()); my $pid = forked { my $c = connected(getsockname $l); while (defined(my $w = line($c))) { give($c, "$w of $$\n") } }; accept(my $s, $l); close $l; my $turn = 0;
check { my $n = ++$turn; give($s, "word $n\n"); same('answer', line($s), "word $n of $pid") };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'TCP over the VE\'s own address': String.raw`
my ($own) = run('ip', '-4', '-o', 'addr', 'show', 'scope', 'global') =~ /inet ([\d.]+)/ or skip('the VE has no address'); my ($c, $s) = tcp(name4($own)); give($c, 'waiting');
check { same('in the queue', get($s), 'waiting'); echo($c, $s, 'word'); give($c, 'waiting') };
harm { close $s };`,

  'TCP listener': String.raw`
my $l = listener(name4(), 17); my ($port) = unpack_sockaddr_in(getsockname $l);
check { my ($backlog) = run('ss', '-Hltn', "sport = :$port") =~ /^LISTEN\s+\d+\s+(\d+)/; same('backlog', $backlog, 17); my $c = connected(name4('127.0.0.1', $port)); ok('none waits', ready($l, 5)); accept(my $s, $l); echo($c, $s, 'word') };
harm { listen($l, 3) };`,

  'TCP closed on one side': String.raw`
my ($c, $s) = tcp(); give($c, 'last'); shutdown($c, 1); my $read;
check { same('data', get($s), 'last') if !$read++; same('end', get($s), ''); ok('written', !defined syswrite($c, 'x')); give($s, 'back'); same('back', get($c), 'back') };
harm { ($c, $s) = tcp(); fcntl($s, F_SETFL, O_RDWR|O_NONBLOCK) };`,

  'TCP closed by the other side': String.raw`
my ($c, $s) = tcp(); give($c, 'last'); close $c; my $read;
check { same('data', get($s), 'last') if !$read++; same('end', get($s), '') };
harm { ($c, $s) = tcp(); fcntl($s, F_SETFL, O_RDWR|O_NONBLOCK) };`,

  'TCP socket that is only bound': String.raw`
socket(my $f, AF_INET, SOCK_STREAM, 0); bind($f, name4()); my $name = getsockname $f;
check { same('name', unpack('H*', getsockname $f), unpack('H*', $name)); socket(my $g, AF_INET, SOCK_STREAM, 0); ok('another can have it', !bind($g, $name)); same('error', ename($!+0), 'EADDRINUSE') };
harm { close $f; socket($f, AF_INET, SOCK_STREAM, 0) };`,

  'fresh TCP socket': String.raw`
socket(my $f, AF_INET, SOCK_STREAM, 0); setsockopt($f, SOL_SOCKET, SO_KEEPALIVE, 1); my $l = listener(name4());
check { same('SO_KEEPALIVE', sockopt($f, SOL_SOCKET, SO_KEEPALIVE), 1); connect($f, getsockname $l) or die "connect: $!\n"; accept(my $s, $l); echo($f, $s, 'word'); socket($f, AF_INET, SOCK_STREAM, 0); setsockopt($f, SOL_SOCKET, SO_KEEPALIVE, 1) };
harm { setsockopt($f, SOL_SOCKET, SO_KEEPALIVE, 0) };`,

  'options of a TCP connection': String.raw`
my ($c, $s) = tcp(); my @set = ([SOL_SOCKET, SO_SNDBUF, 50000], [SOL_SOCKET, SO_RCVBUF, 60000], [SOL_SOCKET, SO_KEEPALIVE, 1], [6, 1, 1], [6, 4, 321], [6, 5, 12], [6, 6, 7]); setopt($c, @$_) or die "option @$_: $!\n" for @set;
my $look = sub { join ' ', map { sockopt($c, $$_[0], $$_[1]) } @set }; my $was = $look->();
check { same('options', $look->(), $was); echo($c, $s, 'word') };
harm { setsockopt($c, 6, 1, 0) };`,

  'options of an idle socket': String.raw`
socket(my $f, AF_INET, SOCK_STREAM, 0); my @set = ([SOL_SOCKET, SO_REUSEADDR, 1], [SOL_SOCKET, 15, 1], [SOL_SOCKET, 12, 5], [SOL_SOCKET, SO_BROADCAST, 1], [SOL_SOCKET, SO_OOBINLINE, 1]); setopt($f, @$_) or die "option @$_: $!\n" for @set; setsockopt($f, SOL_SOCKET, SO_LINGER, pack('ii', 1, 9)); setsockopt($f, SOL_SOCKET, SO_RCVTIMEO, pack('qq', 5, 0)); bind($f, name4());
my $look = sub { join ' ', (map { sockopt($f, $$_[0], $$_[1]) } @set), unpack('ii', getsockopt($f, SOL_SOCKET, SO_LINGER)), unpack('qq', getsockopt($f, SOL_SOCKET, SO_RCVTIMEO)) }; my $was = $look->();
check { same('options', $look->(), $was) };
harm { setsockopt($f, SOL_SOCKET, SO_LINGER, pack('ii', 0, 0)) };`,

  'options of IP': String.raw`
my $f = udp(); my @set = ([0, 1, 16], [0, 2, 33], [0, 8, 1], [0, 10, 1], [0, 15, 1]); setopt($f, @$_) or die "option @$_: $!\n" for @set; my $look = sub { join ' ', map { my ($l, $n) = @$_[0, 1]; my $v = getsockopt($f, $l, $n); unpack(length $v == 1 ? 'C' : 'i', $v) } @set }; my $was = $look->();
check { same('options', $look->(), $was) };
harm { setsockopt($f, 0, 2, 44) };`,

  'option of IPv6 alone': String.raw`
socket(my $f, AF_INET6, SOCK_STREAM, 0); setsockopt($f, 41, 26, 1); bind($f, name6('::')); listen($f, 5); my ($port) = unpack_sockaddr_in6(getsockname $f);
check { same('IPV6_V6ONLY', sockopt($f, 41, 26), 1); socket(my $c, AF_INET, SOCK_STREAM, 0); ok('IPv4 gets there', !connect($c, name4('127.0.0.1', $port))); my $d = connected(name6('::1', $port)); accept(my $s, $f); echo($d, $s, 'word') };
harm { close $f; socket($f, AF_INET6, SOCK_STREAM, 0); setsockopt($f, 41, 26, 0) };`,

  'two listeners on one port': String.raw`
my @l; for (0, 1) { socket($l[$_], AF_INET, SOCK_STREAM, 0); setsockopt($l[$_], SOL_SOCKET, 15, 1); bind($l[$_], $_ ? getsockname $l[0] : name4()) or die "bind: $!\n"; listen($l[$_], 50) } my $name = getsockname $l[0];
check { my %got; my @c = map { connected($name) } 1 .. 40; pause(0.05); for my $i (0, 1) { while (ready($l[$i])) { accept(my $s, $l[$i]); $got{$i}++ } } same('both get some', join(' ', sort keys %got), '0 1'); same('all', $got{0} + $got{1}, 40) };
harm { close $l[1]; $l[1] = $l[0] };`,

  'UDP socket, bound': String.raw`
my $s = udp(); my $c = udp();
check { send($c, 'word', 0, getsockname $s) or die "send: $!\n"; my $from = recv($s, my $b, 100, 0); same('message', $b, 'word'); same('sender', unpack('H*', $from), unpack('H*', getsockname $c)) };
harm { my $name = getsockname $s; close $s; $s = udp(); shutdown($c, 1) };`,

  'UDP sockets, connected': String.raw`
my ($a, $b) = (udp(), udp()); connect($a, getsockname $b); connect($b, getsockname $a); my $other = udp();
check { send($other, 'foreign', 0, getsockname $b); echo($a, $b, 'word'); ok('a foreign one came', !ready($b)); same('peer', unpack('H*', getpeername $a), unpack('H*', getsockname $b)) };
harm { connect($b, getsockname $other) };`,

  'UDP sockets of IPv6': String.raw`
my ($a, $b) = (udp(name6()), udp(name6())); connect($a, getsockname $b); connect($b, getsockname $a);
check { echo($a, $b, 'word') };
harm { close $b };`,

  'raw socket': String.raw`
socket(my $s, AF_INET, SOCK_RAW, 253) or skip("socket: $!"); bind($s, name4()); setsockopt($s, 0, 2, 7);
check { send($s, 'payload', 0, name4()) or die "send: $!\n"; ok('nothing came', ready($s, 2)); my $p = get($s); same('payload', substr($p, 20), 'payload'); same('hops', ord substr($p, 8, 1), 7) };
harm { setsockopt($s, 0, 2, 8) };`,

  'ping socket': String.raw`
spew('/proc/sys/net/ipv4/ping_group_range', '0 100'); socket(my $s, AF_INET, SOCK_DGRAM, 1) or skip("socket: $!");
check { send($s, pack('C C n n n a4', 8, 0, 0, 0, 7, 'word'), 0, pack_sockaddr_in(0, inet_aton('127.0.0.1'))) or die "send: $!\n"; ok('nothing came', ready($s, 2)); same('answer', ord get($s), 0) };
harm { close $s; socket($s, AF_INET, SOCK_DGRAM, 0) };`,

  'packet socket': String.raw`
socket(my $s, 17, SOCK_DGRAM, 0) or skip("socket: $!"); my ($lo) = run('cat', '/sys/class/net/lo/ifindex') =~ /(\d+)/; bind($s, pack('S n i x12', 17, 0x88b5, $lo)) or die "bind: $!\n"; socket(my $c, 17, SOCK_DGRAM, 0);
check { send($c, 'payload', 0, pack('S n i S C C a8', 17, 0x88b5, $lo, 0, 0, 6, '')) or die "send: $!\n"; ok('nothing came', ready($s, 2)); same('payload', get($s), 'payload'); get($s) if ready($s, 0.1) };
harm { close $s; socket($s, 17, SOCK_DGRAM, 0) };`,

  'netlink socket': String.raw`
socket(my $s, 16, SOCK_RAW, 0) or die; bind($s, pack('S x2 L L', 16, 0, 1)) or die "bind: $!\n"; my $name = getsockname $s;
check { same('name', unpack('H*', getsockname $s), unpack('H*', $name)); send($s, pack('L S S L L C x3', 20, 18, 0x301, 7, 0, 0), 0, pack('S x2 L L', 16, 0, 0)) or die "send: $!\n"; ok('no answer', ready($s, 2)); my ($len, $type) = unpack('L S', get($s)); same('answer', $type, 16); while (ready($s, 0.1)) { get($s) } };
harm { close $s; socket($s, 16, SOCK_RAW, 0) };`,
}));
