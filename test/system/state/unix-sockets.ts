/** Sockets of the unix family. */
import { category } from './program.ts';

/** Descriptors in messages: sendmsg(2) and recvmsg(2) by hand (struct msghdr, struct cmsghdr of 64 bits). */
export const IN_FLIGHT = String.raw`
sub send_fd { my ($s, $f, $text) = @_; my $c = pack('q i i i x4', 20, 1, 1, ref $f ? fileno $f : $f); my $iov = pack('P J', $text, length $text); my $m = pack('J L x4 P J P J i x4', 0, 0, $iov, 1, $c, 24, 0); return sys('sendmsg', fileno $s, $m, 0) }
sub receive { my ($s) = @_; my $text = "\0" x 100; my $c = "\0" x 64; my $iov = pack('P J', $text, 100); my $m = pack('J L x4 P J P J i x4', 0, 0, $iov, 1, $c, 64, 0); my $n = sys('recvmsg', fileno $s, $m, 0);
  my $size = unpack('J', substr($m, 40, 8)); my ($len, undef, $type, @v) = unpack('q i i i i i', $c); return (substr($text, 0, $n), $size ? ($type, @v) : ()) }
sub echo { my ($a, $b, $word) = @_; give($a, $word); same('one way', get($b), $word); give($b, "$word!"); same('the other', get($a), "$word!") }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, IN_FLIGHT + code]));

export const unixSockets = category('unix', both({
  'pair of streams with data in both': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); my @d = (pattern(1, 30000), 'short'); give($a, $d[0]); give($b, $d[1]);
check { my $all = ''; $all .= get($b) while length $all < 30000; same('one way', $all, $d[0]); same('the other', get($a), $d[1]); ok('more', !ready($a) && !ready($b)); give($a, $d[0]); give($b, $d[1]) };
harm { get($b, 1) };`,

  'pair of datagram sockets with messages': String.raw`
my ($a, $b) = socket_pair(SOCK_DGRAM); my @m = ('one', 'two', 'the third'); give($a, $_) for @m;
check { same('message', get($b), $_) for @m; ok('more', !ready($b)); give($a, $_) for @m; give($b, 'back'); same('back', get($a), 'back') };
harm { get($b) };`,

  'pair of seqpacket sockets with messages': String.raw`
my ($a, $b) = socket_pair(SOCK_SEQPACKET); my @m = ('first', 'second message', pattern(2, 5000)); give($a, $_) for @m;
check { same('message', get($b), $_) for @m; ok('more', !ready($b)); give($a, $_) for @m };
harm { get($b) };`,

  'pair between processes': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); my $pid = forked { close $a; while (defined(my $l = line($b))) { give($b, "$l of $$\n") } }; close $b; my $turn = 0;
check { my $n = ++$turn; give($a, "word $n\n"); same('answer', line($a), "word $n of $pid") };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'descriptor in flight': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); pipe(my $r, my $w); my $send = sub { pipe($r, $w); send_fd($a, $r, 'take it'); close $r; give($w, 'by the pipe') }; $send->();
check { my ($text, $type, $fd) = receive($b); same('text', $text, 'take it'); same('type', $type, 1); my $f = adopt($fd, '<&='); give($w, '!'); same('by the pipe', get($f), 'by the pipe!'); close $f; $send->() };
harm { receive($b); give($a, 'take it') };`,

  'deleted file in flight': String.raw`
my ($a, $b) = socket_pair(SOCK_DGRAM); my $send = sub { my $f = opened("$D/file"); give($f, 'content'); sysseek($f, 3, SEEK_SET); unlink "$D/file"; send_fd($a, $f, 'take it') }; $send->();
check { my ($text, $type, $fd) = receive($b); same('text', $text, 'take it'); my $f = adopt($fd); same('offset', at($f), 3); same('content', pread($f, 99, 0), 'content'); close $f; $send->() };
harm { receive($b); give($a, 'take it') };`,

  'credentials asked for': String.raw`
my ($a, $b) = socket_pair(SOCK_DGRAM); setsockopt($b, SOL_SOCKET, 16, 1);
check { same('SO_PASSCRED', sockopt($b, SOL_SOCKET, 16), 1); give($a, 'word'); my ($text, $type, @who) = receive($b); same('message', "$text $type @who[0..2]", "word 2 $$ 0 0") };
harm { setsockopt($b, SOL_SOCKET, 16, 0) };`,

  'peer of a pair': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM);
check { same('SO_PEERCRED', join(' ', unpack 'i3', getsockopt($a, SOL_SOCKET, 17)), "$$ 0 0") };
harm { my ($c, $d) = (undef, undef); my $pid = forked { pause(60) }; socket($a, AF_UNIX, SOCK_STREAM, 0) };`,

  'half closed stream': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); give($a, 'last'); shutdown($a, 1); my $read;
check { same('data', get($b), 'last') if !$read++; same('end', get($b), ''); ok('written', !defined syswrite($a, 'x')); give($b, 'back'); same('back', get($a), 'back') };
harm { ($a, $b) = socket_pair(SOCK_STREAM); fcntl($_, F_SETFL, O_NONBLOCK) for $a, $b };`,

  'stream whose peer has gone': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); close $b;
check { same('end', get($a), ''); ok('written', !defined syswrite($a, 'x')); same('error', ename($!+0), 'EPIPE') };
harm { ($a, $b) = socket_pair(SOCK_STREAM); fcntl($a, F_SETFL, O_NONBLOCK) };`,

  'listener on a file': String.raw`
socket(my $l, AF_UNIX, SOCK_STREAM, 0); bind($l, pack_sockaddr_un("$D/socket")) or die; listen($l, 5); chmod 0620, "$D/socket"; my $inode = inode("$D/socket");
check { same('mode', sprintf('%o', (stat "$D/socket")[2]), '140620'); socket(my $c, AF_UNIX, SOCK_STREAM, 0); connect($c, pack_sockaddr_un("$D/socket")) or die "connect: $!\n"; accept(my $s, $l) or die; same('name', (unpack_sockaddr_un(getsockname $s))[0], "$D/socket"); echo($c, $s, 'word') };
harm { unlink "$D/socket" };`,

  'listener of an abstract name': String.raw`
my $name = pack_sockaddr_un("\0state/$NAME"); socket(my $l, AF_UNIX, SOCK_SEQPACKET, 0); bind($l, $name) or die; listen($l, 5);
check { socket(my $c, AF_UNIX, SOCK_SEQPACKET, 0); connect($c, $name) or die "connect: $!\n"; accept(my $s, $l) or die; echo($c, $s, 'word') };
harm { close $l };`,

  'listener with connections that wait': String.raw`
my $name = pack_sockaddr_un("$T/socket"); socket(my $l, AF_UNIX, SOCK_STREAM, 0); bind($l, $name) or die; listen($l, 5); my @c;
my $more = sub { for (1, 2) { socket($c[$_], AF_UNIX, SOCK_STREAM, 0); connect($c[$_], $name) or die } }; $more->();
check { for (1, 2) { ok("none waits ($_)", ready($l)); accept(my $s, $l) or die "accept: $!\n"; echo($c[$_], $s, 'word') } ok('more wait', !ready($l)); $more->() };
harm { accept(my $s, $l) };`,

  'connection by a file that is gone': String.raw`
my $name = pack_sockaddr_un("$T/socket"); socket(my $l, AF_UNIX, SOCK_STREAM, 0); bind($l, $name) or die; listen($l, 5); socket(my $c, AF_UNIX, SOCK_STREAM, 0); connect($c, $name) or die; accept(my $s, $l); close $l; unlink "$T/socket"; give($c, 'waiting');
check { same('in the queue', get($s), 'waiting'); echo($c, $s, 'word'); ok('its name is back', !-e "$T/socket"); give($c, 'waiting') };
harm { get($s) ; give($c, 'x') };`,

  'datagrams to a name': String.raw`
my $name = pack_sockaddr_un("$D/socket"); my @s; for (0 .. 2) { socket($s[$_], AF_UNIX, SOCK_DGRAM, 0) } bind($s[0], $name) or die; bind($s[1], pack_sockaddr_un("\0state/$NAME/1")) or die; connect($s[$_], $name) or die for 1, 2; my $send = sub { give($s[$_], "from $_") for 1, 2 }; $send->();
check { my $from = recv($s[0], my $b, 100, 0); same('message', $b, 'from 1'); same('sender', unpack('Z*', substr((unpack_sockaddr_un($from))[0], 1)), "state/$NAME/1"); same('message', get($s[0]), 'from 2'); send($s[0], 'back', 0, pack_sockaddr_un("\0state/$NAME/1")) or die "send: $!\n"; same('back', get($s[1]), 'back'); $send->() };
harm { get($s[0]) };`,

  'options of a unix socket': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); setsockopt($a, SOL_SOCKET, $_, 65536) for SO_SNDBUF, SO_RCVBUF; setsockopt($a, SOL_SOCKET, SO_RCVTIMEO, pack('qq', 7, 0)); fcntl($b, F_SETFL, O_NONBLOCK|O_RDWR); my $look = sub { join ' ', (map { sockopt($a, SOL_SOCKET, $_) } SO_SNDBUF, SO_RCVBUF, SO_TYPE), unpack('q', sockopt($a, SOL_SOCKET, SO_RCVTIMEO)), fcntl($b, F_GETFL, 0) & O_NONBLOCK }; my $was = $look->();
check { same('options', $look->(), $was); echo($a, $b, 'word') };
harm { setsockopt($a, SOL_SOCKET, SO_SNDBUF, 99999) };`,
}));
