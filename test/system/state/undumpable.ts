/** What criu cannot dump: a VE that has it is not suspended, runs on, and says why. */
import { EVENT_HELPERS } from './events.ts';
import { INET_HELPERS } from './inet-sockets.ts';
import { MOUNT_HELPERS } from './namespaces.ts';
import { exceptions } from './program.ts';
import { IN_FLIGHT } from './unix-sockets.ts';

export const UNDUMPABLE = exceptions('undumpable', {
  'packets in a pipe': {
    reason: 'a pipe that keeps packets apart (O_DIRECT)',
    code: String.raw`
pipe(my $r, my $w); fcntl($w, F_SETFL, O_DIRECT) or die "O_DIRECT: $!\n"; give($w, $_) for 'one', 'second', 'the third';
check { same('packet', get($r), $_) for 'one', 'second', 'the third'; ok('more is there', !ready($r)); give($w, $_) for 'one', 'second', 'the third'; ok('no O_DIRECT', fcntl($w, F_GETFL, 0) & O_DIRECT) };
harm { fcntl($w, F_SETFL, 0); get($r) for 1 .. 3; give($w, 'onesecondthe third') };`,
  },
  'message with credentials in the queue': {
    reason: 'a message in the queue of a unix socket with SO_PASSCRED: it carries the sender\'s credentials',
    code: IN_FLIGHT + String.raw`
my ($a, $b) = socket_pair(SOCK_DGRAM); setsockopt($b, SOL_SOCKET, 16, 1); give($a, 'word');
check { my ($text, $type, @who) = receive($b); same('message', "$text $type @who[0..2]", "word 2 $$ 0 0"); give($a, 'word') };
harm { receive($b); give($a, 'other') };`,
  },
  'unix connection that waits, with data': {
    reason: 'a connection to a unix socket that is not accepted, and has sent already',
    code: IN_FLIGHT + String.raw`
my $name = pack_sockaddr_un("$T/socket"); socket(my $l, AF_UNIX, SOCK_STREAM, 0); bind($l, $name) or die; listen($l, 5); my $c; my $more = sub { socket($c, AF_UNIX, SOCK_STREAM, 0); connect($c, $name) or die; give($c, 'hello') }; $more->();
check { accept(my $s, $l) or die "accept: $!\n"; same('data', get($s), 'hello'); echo($c, $s, 'word'); $more->() };
harm { close $l };`,
  },
  'TCP connection that waits': {
    reason: 'a TCP connection that is not accepted yet',
    code: INET_HELPERS + String.raw`
my $l = listener(name4()); my $c = connected(getsockname $l);
check { ok('none waits', ready($l, 5)); accept(my $s, $l); echo($c, $s, 'word'); $c = connected(getsockname $l) };
harm { close $l };`,
  },
  'inotify on a deleted file': {
    reason: 'a deleted file that is watched by inotify',
    code: EVENT_HELPERS + String.raw`
my $f = adopt(sys('inotify_init1', 2048)); my $g = opened("$T/file"); my $wd = sys('inotify_add_watch', fileno $f, "$T/file", 6); unlink "$T/file"; events_of($f);
check { give($g, 'x'); same('events', events_of($f), "$wd:2:") };
harm { close $f; $f = adopt(sys('inotify_init1', 2048)) };`,
  },
  'inotify on a link that leads nowhere': {
    reason: 'a link that is watched by inotify (as systemd does /etc/localtime) and leads nowhere: criu opens what it leads to',
    code: EVENT_HELPERS + String.raw`
symlink '/nowhere', '/etc/nowhere'; my $f = adopt(sys('inotify_init1', 2048)); sys('inotify_add_watch', fileno $f, '/etc/nowhere', 0x02000004);
check { ok('watches', fdinfo($f) =~ /^inotify wd:/m) };
harm { close $f; $f = opened('/dev/null') };`,
  },
  'inotify on a file of /proc': {
    reason: 'a file of /proc that is watched by inotify',
    code: EVENT_HELPERS + String.raw`
my $f = adopt(sys('inotify_init1', 2048)); sys('inotify_add_watch', fileno $f, '/proc/self/mounts', 4);
check { ok('watches', fdinfo($f) =~ /^inotify wd:/m) };
harm { close $f; $f = opened('/dev/null') };`,
  },
  'inotify on a file of the template that was changed since': {
    reason: 'a file of the template that is watched by inotify, and has been written to since: the overlay knows it by another handle',
    sometimes: 'until the kernel forgets the file it knows it by both',
    code: EVENT_HELPERS + String.raw`
my $f = adopt(sys('inotify_init1', 2048)); my ($path) = grep { -e } '/etc/debian_version', '/etc/issue'; my $wd = sys('inotify_add_watch', fileno $f, $path, 4); chmod 0600, $path; chmod 0644, $path;
check { ok('watches', fdinfo($f) =~ /^inotify wd:/m) };
harm { close $f; $f = opened('/dev/null') };`,
  },
  'network of its own': {
    reason: 'another network namespace: a unit with PrivateNetwork=, ip netns',
    code: MOUNT_HELPERS + String.raw`
my ($ask, $pid) = child { if ($_[0] eq 'go') { sys('unshare', 0x40000000); run('ip', 'link', 'set', 'lo', 'up'); run('ip', 'addr', 'add', '10.99.0.1/24', 'dev', 'lo'); socket(our $l, AF_INET, SOCK_STREAM, 0); bind($l, pack_sockaddr_in(777, inet_aton('10.99.0.1'))) or die "bind: $!\n"; listen($l, 3) }
  our $l; socket(my $c, AF_INET, SOCK_STREAM, 0); connect($c, pack_sockaddr_in(777, inet_aton('10.99.0.1'))) or die "connect: $!\n"; accept(my $s, $l); give($c, 'through lo'); get($s) }; same('child', $ask->('go'), 'through lo');
check { same('child', $ask->('?'), 'through lo'); ok('one network', readlink("/proc/$pid/ns/net") ne readlink('/proc/self/ns/net')) };
harm { kill 9, $pid; waitpid $pid, 0 };`,
  },
  'pids of its own': {
    reason: 'a pid namespace in the VE',
    code: String.raw`
my $pid = fork // die; if (!$pid) { exec 'unshare', '-p', '-f', '--kill-child', 'sleep', '9999' } await('it to run', sub { run('pgrep', '-P', $pid) });
check { ok('it has ended', waitpid($pid, 1) == 0) };
harm { kill 9, $pid; pause(0.2) };`,
  },
  'process that is traced': {
    reason: 'a process under a debugger',
    code: String.raw`
my ($ask, $pid) = child { 'here' }; sys('ptrace', 0x4206, $pid + 0, 0, 0);
check { same('tracer', status('TracerPid', $pid), $$); same('child', $ask->('?'), 'here') };
harm { kill 9, $pid };`,
  },
  'POSIX message queue': {
    reason: 'a POSIX message queue that is open',
    code: String.raw`
my $f = adopt(sys('mq_open', "state-$$", O_RDWR|O_CREAT|O_NONBLOCK, 0600, pack('q8', 0, 5, 100, 0, 0, 0, 0, 0))); my $send = sub { sys('mq_timedsend', fileno $f, "message $_", 9, $_, 0) for 1 .. 3 }; $send->();
check { for (3, 2, 1) { my $b = "\0" x 100; my $n = sys('mq_timedreceive', fileno $f, $b, 100, 0, 0); same('message', substr($b, 0, $n), "message $_") } $send->() };
harm { close $f };`,
  },
  'secret memory': {
    reason: 'memory that nobody else may read (memfd_secret)',
    code: String.raw`
my $r = tries('memfd_secret', 0); skip('memfd_secret: ' . ename($!+0)) if $r < 0; my $f = adopt($r); truncate($f, 4096); my $at = map_pages(1, 3, 1, $f); poke($at, 'secret');
check { same('content', peek($at, 6), 'secret') };
harm { map_pages(1, 3, 0x32, -1, 0, $at) };`,
  },
  'overlay of the VE': {
    reason: 'an overlay that the VE has mounted',
    code: MOUNT_HELPERS + String.raw`
own_mounts(); mkdir "$T/$_" for qw(lower upper work merged); spew("$T/lower/file", 'below'); eval { do_mount('overlay', "$T/merged", 'overlay', 0, "lowerdir=$T/lower,upperdir=$T/upper,workdir=$T/work"); 1 } or skip("overlay: $@");
check { same('file', slurp("$T/merged/file"), 'below'); spew("$T/merged/new", 'new'); same('upper', slurp("$T/upper/new"), 'new') };
harm { run('umount', "$T/merged") };`,
  },
  'ruleset of Landlock': {
    reason: 'a ruleset of Landlock that is open',
    code: String.raw`
my $r = tries('landlock_create_ruleset', pack('Q', 4), 8, 0); skip('landlock: ' . ename($!+0)) if $r < 0; my $f = adopt($r, '<&=');
check { ok('ruleset: ' . fdlink($f), fdlink($f) =~ /landlock/) };
harm { close $f; $f = opened('/dev/null') };`,
  },
});

/** What the VE's filter or its user namespace refuses, so that it never stands in the way of a dump. The programs find it refused. */
export const PREVENTED = exceptions('prevented', {
  'io_uring': { reason: 'its requests under way are in the kernel only', code: String.raw`check { ok('it is allowed', tries('io_uring_setup', 1, pack('x120')) == -1); same('error', ename($!+0), 'ENOSYS') }; harm { die };` },
  'userfaultfd': { reason: 'faults that wait for an answer', code: String.raw`check { ok('it is allowed', tries('userfaultfd', 0) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'BPF': { reason: 'maps and programs are in the kernel only', code: String.raw`check { ok('it is allowed', tries('bpf', 0, pack('L4 x104', 1, 4, 4, 1), 120) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'performance counters': { reason: 'counters are in the kernel only', code: String.raw`check { ok('it is allowed', tries('perf_event_open', pack('L L x112', 1, 112), 0, -1, -1, 0) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'keyrings': { reason: 'keys have no namespace', code: String.raw`check { ok('it is allowed', tries('keyctl', 0, -3, 1) == -1); same('error', ename($!+0), 'ENOSYS') }; harm { die };` },
  'another host name': { reason: 'criu dumps one uts namespace', code: String.raw`check { ok('it is allowed', tries('unshare', 0x04000000) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'IPC of its own': { reason: 'criu dumps one ipc namespace', code: String.raw`check { ok('it is allowed', tries('unshare', 0x08000000) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'users of its own': { reason: 'criu dumps one user namespace', code: String.raw`check { ok('it is allowed', tries('unshare', 0x10000000) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'groups of its own': { reason: 'criu dumps one cgroup namespace', code: String.raw`check { ok('it is allowed', tries('unshare', 0x02000000) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
  'clocks of its own': { reason: 'criu dumps one time namespace', code: String.raw`check { ok('it is allowed', tries('unshare', 0x00000080) == -1); same('error', ename($!+0), 'EPERM') }; harm { die };` },
});
