/**
 * What comes back in another state than it was in, without a word of criu. The test holds that it is lost: a newer criu or kernel that keeps it
 * fails the test, and its row moves to the others.
 */
import { EVENT_HELPERS } from './events.ts';
import { INET_HELPERS } from './inet-sockets.ts';
import { IPC_HELPERS } from './ipc.ts';
import { exceptions } from './program.ts';
import { TERMINAL_HELPERS } from './terminals.ts';
import { IN_FLIGHT } from './unix-sockets.ts';

export const LOST = exceptions('lost', {
  'eventfd as a semaphore': {
    reason: 'criu does not write down EFD_SEMAPHORE: the eventfd counts as an ordinary one afterwards',
    code: EVENT_HELPERS + String.raw`
my $f = counter(3, 2049); my $ask = child { count($f) };
check { same('one of three', count($f), 1); same('one for the child', $ask->('?'), 1); same('the third', count($f), 1); ok('a fourth', !defined sysread($f, my $b, 8)); add($f, 3) };
harm { $f = counter(3) };`,
  },
  'timerfd at a time of day': {
    reason: 'criu starts a timerfd with the time that was left, also one of CLOCK_REALTIME set to a time of day: it is late by as long as the VE was away',
    code: EVENT_HELPERS + String.raw`
my $at = int(now(0)) + 7200; my $t = timer(0, $at, 0, 1);
check { my ($s) = left($t); my $want = $at - now(0); ok("$s s left, not $want", abs($s - $want) < 0.3) };
harm { set_timer($t, $at + 100, 0, 1) };`,
  },
  'periodic timerfd with ticks to read': {
    reason: 'a periodic timerfd with ticks that nobody has read yet stands still until they are, and criu takes it for one that is not set',
    code: EVENT_HELPERS + String.raw`
my $t = timer(1, 0.05, 0.05);
check { same('interval', sprintf('%.2f', (left($t))[1]), '0.05'); count($t) if ready($t); ok('it does not tick', ready($t, 2)); count($t); ok('nor again', ready($t, 2)) };
harm { set_timer($t, 0.05, 0); ready($t, 1); };`,
  },
  'periodic timerfd that is read': {
    reason: 'while the VE stands still for its dump nobody reads it: the same as with ticks to read, for intervals shorter than that',
    code: EVENT_HELPERS + String.raw`
pipe(my $r, my $w); my $pid = forked { my $t = timer(1, 0.02, 0.02); fcntl($t, F_SETFL, O_RDWR); while (1) { my $n = eval { count($t) } // next; give($w, "tick\n") } }; close $w;
check { line($r) while ready($r); same('tick', line($r), 'tick') for 1 .. 3 };
harm { kill 9, $pid; waitpid $pid, 0 };`,
  },
  'membership in a multicast group': {
    reason: 'criu does not write down memberships of IPv4',
    code: INET_HELPERS + String.raw`
my $s = udp(name4('0.0.0.0')); my ($port) = unpack_sockaddr_in(getsockname $s); setsockopt($s, 0, 35, inet_aton('239.1.2.3') . inet_aton('127.0.0.1')) or die "join: $!\n"; my $c = udp(name4('127.0.0.1')); setsockopt($c, 0, 32, inet_aton('127.0.0.1')) or die;
check { send($c, 'to all', 0, name4('239.1.2.3', $port)) or die "send: $!\n"; ok('nothing came', ready($s, 2)); same('message', get($s), 'to all') };
harm { setsockopt($s, 0, 36, inet_aton('239.1.2.3') . inet_aton('127.0.0.1')) };`,
  },
  'empty datagram in a queue': {
    reason: 'criu writes down the bytes of a queue, and an empty message has none',
    code: IN_FLIGHT + String.raw`
my ($a, $b) = socket_pair(SOCK_DGRAM); my @m = ('one', '', 'the third'); give($a, $_) for @m;
check { same('message', get($b), $_) for @m; give($a, $_) for @m };
harm { get($b) };`,
  },
  'datagram in the queue of a UDP socket': {
    reason: 'criu does not read the queues of UDP sockets; what UDP carries may always get lost',
    code: INET_HELPERS + String.raw`
my $s = udp(); my $c = udp(); send($c, 'waiting', 0, getsockname $s); fcntl($s, F_SETFL, O_RDWR|O_NONBLOCK);
check { same('message', get($s), 'waiting'); send($c, 'waiting', 0, getsockname $s) };
harm { get($s) };`,
  },
  'semaphore that is given back at the end': {
    reason: 'criu does not know of SEM_UNDO',
    code: IPC_HELPERS + String.raw`
my $id = semget(KEY, 1, $CREAT | 0600) // die "semget: $!\n"; my ($ask, $pid); my $make = sub { semctl($id, 0, 17, pack('S', 5)); ($ask, $pid) = child { semop($id, pack('s3', 0, -2, 0x1000)) ? 'taken' : 'no' }; same('child', $ask->('take'), 'taken') }; $make->();
check { my $b = ''; semctl($id, 0, 13, $b); same('value', unpack('S', $b), 3); kill 9, $pid; waitpid $pid, 0; semctl($id, 0, 13, $b); same('given back', unpack('S', $b), 5); $make->() };
harm { semctl($id, 0, 17, pack('S', 9)) };`,
  },
  'affinity to processors': {
    reason: 'criu does not write down affinities: they belong to a host',
    code: String.raw`
my $pid = forked { pause(1e6) }; my $b = "\0" x 128; sys('sched_getaffinity', $pid + 0, 128, $b); my ($first) = grep { vec($b, $_, 1) } 0 .. 1023; my $m = "\0" x 128; vec($m, $first, 1) = 1; skip('only one processor') if $m eq $b; sys('sched_setaffinity', $pid + 0, 128, $m);
check { my $is = "\0" x 128; sys('sched_getaffinity', $pid + 0, 128, $is); ok('more processors', $is eq $m) };
harm { sys('sched_setaffinity', $pid + 0, 128, $b) };`,
  },
  'I/O priority': {
    reason: 'criu does not write down I/O priorities',
    code: String.raw`
my $pid = forked { pause(1e6) }; sys('ioprio_set', 1, $pid + 0, 2 << 13 | 6);
check { same('priority', sys('ioprio_get', 1, $pid + 0), 2 << 13 | 6) };
harm { sys('ioprio_set', 1, $pid + 0, 2 << 13 | 1) };`,
  },
  'slack of timers': {
    reason: 'criu does not write down PR_SET_TIMERSLACK',
    code: String.raw`
sys('prctl', 29, 123456, 0, 0, 0);
check { same('slack', sys('prctl', 30, 0, 0, 0, 0), 123456) };
harm { sys('prctl', 29, 50000, 0, 0, 0) };`,
  },
  'filter of core dumps': {
    reason: 'criu does not write down coredump_filter',
    code: String.raw`
spew('/proc/self/coredump_filter', '0x7f');
check { same('filter', slurp('/proc/self/coredump_filter'), "0000007f\n") };
harm { spew('/proc/self/coredump_filter', '0x33') };`,
  },
  'processor time used': {
    reason: 'the clocks of a process begin anew',
    code: String.raw`
my $x = 0; $x += $_ for 1 .. 20_000_000; my $last = now(2);
check { my $is = now(2); ok("$is s, $last s before", $is >= $last); $last = $is };
harm { $last += 1e6 };`,
  },
  'file of a tmpfs: when it was read': {
    reason: 'tar reads it, and so it has just been read',
    code: String.raw`
my $path = spew("$T/file", 'x'); utime 1111111111, 1222222222, $path;
check { same('time', (stat $path)[8], 1111111111) };
harm { utime 1, 1, $path };`,
  },
  'pty without anybody on its other end': {
    reason: 'a terminal whose other end has been closed is a fresh one afterwards, which nobody has hung up',
    code: TERMINAL_HELPERS + String.raw`
my ($m, $s, $path) = pty(); raw($s); close $s; my $turn = 0;
check { ok('not hung up', ready($m)); ok('it reads', !defined sysread($m, my $b, 10)); same('error', ename($!+0), 'EIO'); my $t = opened($path, O_RDWR|O_NOCTTY); give($m, 'typed'); same('typed', get($t), 'typed') };
harm { $s = opened($path, O_RDWR|O_NOCTTY) };`,
  },
  'script(1) with a shell': {
    reason: 'criu has poll(2) end with EINTR, although no signal came; script(1) takes that for its end',
    code: TERMINAL_HELPERS + String.raw`
pipe(my $r, my $w); pipe(my $br, my $bw); my $pid = fork // die; if (!$pid) { open(STDIN, '<&', $r); open(STDOUT, '>&', $bw); exec 'script', '-qfc', 'stty -echo; while read -r l; do echo "<$l>"; done', '/dev/null' } close $r; close $bw; my $turn = 0; pause(0.5);
check { $turn++; give($w, "word $turn\n"); says($br, qr/<word $turn>/) };
harm { kill 9, $pid; close $w };`,
  },
  'personality': {
    reason: 'criu does not write down personalities',
    code: String.raw`
my $ask = child { $_[0] eq 'set' ? sys('personality', 0x40000) : 0; sprintf '%x', sys('personality', 0xffffffff) }; $ask->('set');
check { same('personality', $ask->('?'), '40000') };
harm { $ask = sub { '0' } };`,
  },
  'poll without a time limit': {
    reason: 'criu has poll(2) end with EINTR, although no signal came (what the kernel would restart by restart_syscall(2))',
    code: String.raw`
skip('there is no poll on this machine') if !$NR{poll}; pipe(my $r, my $w); pipe(my $br, my $bw); my $pid = forked { my $fds = pack('i S S', fileno $r, 1, 0); while (1) { my $n = tries('poll', $fds, 1, -1); give($bw, $n < 0 ? 'error ' . ename($!+0) . "\n" : 'input ' . get($r, 1) . "\n") } }; my $turn = 0; pause(0.3);
check { give($w, 'x'); same('poll', line($br), 'input x') };
harm { kill 9, $pid; waitpid $pid, 0; close $bw; close $r };`,
  },
});
