/** Descriptors by which programs are told of events. */
import { category } from './program.ts';

export const EVENT_HELPERS = String.raw`
sub wait_events { my ($e, $ms) = @_; my $b = "\0" x 12 x 16; my $size = $X64 ? 12 : 16; my $n = sys('epoll_pwait', fileno $e, $b, 12, $ms // 0, 0, 8); my %got = map { my ($ev, $data) = unpack($X64 ? 'L Q' : 'L x4 Q', substr($b, $_ * $size, $size)); $data => $ev } 0 .. $n - 1; return join ' ', sort map { "$_:$got{$_}" . '' } keys %got }
sub watch { my ($e, $f, $events, $data) = @_; sys('epoll_ctl', fileno $e, 1, fileno $f, pack($X64 ? 'L Q' : 'L x4 Q', $events, $data)) }
sub count { return unpack('Q', get($_[0])) } sub add { give($_[0], pack('Q', $_[1])) }
sub counter { my ($n, $flags) = @_; return adopt(sys('eventfd2', $n, $flags // 2048)) }
sub events_of { my ($f) = @_; my $b = ready($f, 0.2) ? get($f) : ''; my @e; while (length $b) { my ($wd, $mask, $cookie, $len) = unpack('i L L L', $b); my $name = unpack('Z*', substr($b, 16, $len)); push @e, sprintf '%d:%x:%s', $wd, $mask, $name; substr($b, 0, 16 + $len) = '' } return "@e" }
sub timer { my ($clock, $first, $every, $flags) = @_; my $t = adopt(sys('timerfd_create', $clock, 2048)); set_timer($t, $first, $every, $flags); return $t }
sub set_timer { my ($t, $first, $every, $flags) = @_; sys('timerfd_settime', fileno $t, $flags // 0, pack('q4', map { (int $_, ($_ - int $_) * 1e9) } $every, $first), 0) }
sub left { my ($t) = @_; my $b = "\0" x 32; sys('timerfd_gettime', fileno $t, $b); my ($es, $en, $s, $n) = unpack('q4', $b); return ($s + $n / 1e9, $es + $en / 1e9) }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, EVENT_HELPERS + code]));

export const events = category('events', both({
  'eventfd': String.raw`
my $f = counter(12345);
check { same('value', count($f), 12345); ok('it is not empty', !defined sysread($f, my $b, 8)); add($f, 12345); same('flags', fcntl($f, F_GETFL, 0) & O_NONBLOCK, O_NONBLOCK) };
harm { add($f, 1) };`,

  'epoll with descriptors of several kinds': String.raw`
my $e = adopt(sys('epoll_create1', 0)); pipe(my $r, my $w); my ($a, $b) = socket_pair(SOCK_STREAM); my $n = counter(0); my $t = timer(1, 3600, 0); my $gone = opened("$T/fifo" x !POSIX::mkfifo("$T/fifo", 0600) || "$T/fifo", O_RDWR);
watch($e, $r, 1, 11); watch($e, $a, 5, 22); watch($e, $n, 1, 33); watch($e, $t, 1, 44); watch($e, $gone, 1, 5 << 40);
check { same('at rest', wait_events($e), '22:4'); give($w, 'x'); give($b, 'x'); add($n, 1); give($gone, 'x'); same('all', wait_events($e), '11:1 22:5 33:1 ' . (5 << 40) . ':1'); get($r); get($a); count($n); get($gone) };
harm { sys('epoll_ctl', fileno $e, 2, fileno $n, 0) };`,

  'epoll, once and at edges': String.raw`
my $e = adopt(sys('epoll_create1', 0)); my ($once, $edge) = (counter(0), counter(0)); watch($e, $once, 1 | 1 << 30, 1); watch($e, $edge, 1 | 1 << 31, 2);
check { add($_, 1) for $once, $edge; same('both', wait_events($e), '1:1 2:1'); same('again', wait_events($e), ''); add($_, 1) for $once, $edge; same('an edge', wait_events($e), '2:1'); count($_) for $once, $edge; sys('epoll_ctl', fileno $e, 3, fileno $once, pack($X64 ? 'L Q' : 'L x4 Q', 1 | 1 << 30, 1)) };
harm { sys('epoll_ctl', fileno $e, 3, fileno $once, pack($X64 ? 'L Q' : 'L x4 Q', 1, 1)) };`,

  'epoll in epoll': String.raw`
my ($outer, $inner) = map { adopt(sys('epoll_create1', 0)) } 1, 2; my $n = counter(0); watch($inner, $n, 1, 5); watch($outer, $inner, 1, 6);
check { same('at rest', wait_events($outer), ''); add($n, 1); same('outside', wait_events($outer), '6:1'); same('inside', wait_events($inner), '5:1'); count($n) };
harm { sys('epoll_ctl', fileno $inner, 2, fileno $n, 0) };`,

  'process that waits in epoll': String.raw`
pipe(my $r, my $w); pipe(my $br, my $bw); my $pid = forked { my $e = adopt(sys('epoll_create1', 0)); watch($e, $r, 1, 7); while (1) { my $n = eval { wait_events($e, -1) } // next; get($r); give($bw, "$n\n") } }; my $turn = 0;
check { give($w, 'x'); same('it wakes', line($br), '7:1') };
harm { kill 9, $pid };`,

  'signalfd': String.raw`
my $mask = pack('Q', 1 << (SIGUSR2() - 1) | 1 << 40); sub SIGUSR2 { POSIX::SIGUSR2() } my $set = POSIX::SigSet->new(SIGUSR2(), 41); POSIX::sigprocmask(POSIX::SIG_BLOCK(), $set); my $f = adopt(sys('signalfd4', -1, $mask, 8, 2048)); kill 'USR2', $$;
check { my ($n, undef, $code, $pid) = unpack('L i i L', get($f)); same('signal', "$n $code $pid", SIGUSR2() . " 0 $$"); kill 41, $$; same('real time', unpack('L', get($f)), 41); kill 'USR2', $$; same('mask', (fdinfo($f) =~ /sigmask:\s*(\w+)/)[0], sprintf '%016x', unpack 'Q', $mask) };
harm { get($f) };`,

  'timerfd, once': String.raw`
my $t = timer(1, 3600, 0); my ($last, $since) = (left($t))[0, 0]; my $begun = now(0);
check { my ($s, $every) = left($t); ok("$s s left, $last s before", $s <= $last && $s >= 3600 - (now(0) - $begun) - 2); same('interval', $every, 0); $last = $s; pause(0.03); ok('it runs', (left($t))[0] < $s) };
harm { set_timer($t, 0, 0) };`,

  'timerfd that has expired': String.raw`
my $t = timer(1, 0.001, 0); pause(0.05);
check { ok('it has not', ready($t, 0)); same('times', count($t), 1); set_timer($t, 0.001, 0); pause(0.05) };
harm { count($t) };`,

  'inotify with events that wait': String.raw`
my $f = adopt(sys('inotify_init1', 2048)); mkdir "$T/one"; my @wd = (sys('inotify_add_watch', fileno $f, "$T/one", 0x300), sys('inotify_add_watch', fileno $f, "$D", 0x100));
check { spew("$T/one/new", ''); spew("$D/other$$", ''); same('events', events_of($f), "$wd[0]:100:new $wd[1]:100:other$$"); unlink "$T/one/new", "$D/other$$"; same('deleted', events_of($f), "$wd[0]:200:new"); my $wd = sys('inotify_add_watch', fileno $f, "$T/one", 0x300); same('the same watch', $wd, $wd[0]) };
harm { close $f; $f = adopt(sys('inotify_init1', 2048)); sys('inotify_add_watch', fileno $f, "$T/one", 0x300) };`,

  'inotify on files and folders of the system': String.raw`
my $f = adopt(sys('inotify_init1', 2048)); my @paths = ('/etc/debian_version', '/etc', '/run', '/tmp', '/var/log', '/usr/share/zoneinfo', '/dev'); my %wd = map { my $wd = tries('inotify_add_watch', fileno $f, $_, 4); $wd < 0 ? () : ($_ => $wd) } @paths;
check { my $n = () = fdinfo($f) =~ /^inotify wd:/mg; same('watches', $n, scalar keys %wd); my $file = spew("/var/log/$NAME", ''); chmod 0600, $file; ok('of the folder', events_of($f) =~ m{\b$wd{'/var/log'}:4:$NAME}); unlink $file; events_of($f) };
harm { close $f; $f = adopt(sys('inotify_init1', 2048)) };`,

  'inotify on a group that has gone': String.raw`
my $g = "/sys/fs/cgroup/gone$$"; mkdir $g or die "$g: $!\n"; my $f = adopt(sys('inotify_init1', 2048)); my ($gone, $other) = (sys('inotify_add_watch', fileno $f, "$g/cgroup.events", 2), sys('inotify_add_watch', fileno $f, "$T", 0x100)); rmdir $g or die "$g: $!\n";
check { spew("$T/new$$", ''); ok('the other', events_of($f) =~ /\b$other:100:new$$/); unlink "$T/new$$" };
harm { close $f; $f = adopt(sys('inotify_init1', 2048)) };`,

  'fanotify': String.raw`
my $r = tries('fanotify_init', 0x200, 0); skip('fanotify: ' . ename($!+0)) if $r < 0; my $f = adopt($r); sys('fanotify_mark', $r, 1, 2, -100, $D);
check { ok('marks', fdinfo($f) =~ /^fanotify ino:/m) };
harm { close $f; $f = opened('/dev/null') };`,

  'pidfd': String.raw`
my ($ask, $pid) = child { 'here' }; my $f = adopt(sys('pidfd_open', $pid + 0, 0), '<&=');
check { same('process', (fdinfo($f) =~ /^Pid:\s*(\d+)/m)[0], $pid); ok('it has ended', !ready($f)); same('signal', tries('pidfd_send_signal', fileno $f, 0, 0, 0), 0); same('child', $ask->('?'), 'here') };
harm { kill 9, $pid; waitpid $pid, 0 };`,
}));
