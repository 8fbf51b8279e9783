/**
 * Programs that hold one object of the kernel each, and tell whether it is still what it was.
 *
 * A program is Perl after {@link PRELUDE}. It makes its object, remembers what it expects in its own variables, and names what is to be done when it is
 * asked: `check { ... }` looks at the object and uses it (so that another round finds it as it was), `harm { ... }` loses just that object, whereupon
 * `check` has to fail: a check that cannot fail shows nothing. Then the prelude's end waits for orders, for as long as the process lives.
 */

/** One row of the table. */
export interface Program {
  /** In words; unique within its category. */
  name: string;
  category: string;
  /** Name of its unit, of its files. */
  id: string;
  code: string;
}

/** A program whose object does not come through. */
export interface Exception extends Program {
  /** Why, for people. */
  reason: string;
  /** Why it may come through all the same, where nobody can say when. */
  sometimes?: string;
}

/** Rows of one category. @param table code by name */
export function category(category: string, table: Record<string, string>): Program[] {
  return Object.entries(table).map(([name, code]) => ({ name, category, code, id: `${category}-${name}`.toLowerCase().replace(/[^a-z0-9]+/g, '-') }));
}

/** Folder of the programs in the VE, on its disk. */
export const HOME = '/var/lib/state';
/** Where they are asked and answer, on a tmpfs. */
export const TALK = '/run/state';

/** System call numbers of the two machines (asm/unistd_64.h; asm-generic/unistd.h). */
const NUMBERS: Record<string, [x64: number, arm64: number]> = {
  poll: [7, 0], read: [0, 63], write: [1, 64], close: [3, 57], mmap: [9, 222], mprotect: [10, 226], munmap: [11, 215], ioctl: [16, 29], pread64: [17, 67], pwrite64: [18, 68], madvise: [28, 233],
  shmat: [30, 196], shmdt: [67, 197], nanosleep: [35, 101], getitimer: [36, 102], setitimer: [38, 103], sendmsg: [46, 211], recvmsg: [47, 212], fcntl: [72, 25], ptrace: [101, 117],
  setgroups: [116, 159], setresuid: [117, 147], getresuid: [118, 148], setresgid: [119, 149], capget: [125, 90], capset: [126, 91], rt_sigpending: [127, 136],
  rt_sigtimedwait: [128, 137], rt_sigqueueinfo: [129, 138], sigaltstack: [131, 132], personality: [135, 92], sched_setscheduler: [144, 119],
  sched_getscheduler: [145, 120], mlock: [149, 228], prctl: [157, 167], mount: [165, 40], umount2: [166, 39], gettid: [186, 178], futex: [202, 98], sched_setaffinity: [203, 122],
  sched_getaffinity: [204, 123], getdents64: [217, 61], timer_create: [222, 107], timer_settime: [223, 110], timer_gettime: [224, 108], clock_gettime: [228, 113], clock_nanosleep: [230, 115],
  epoll_ctl: [233, 21], tgkill: [234, 131], mq_open: [240, 180], mq_unlink: [241, 181], mq_timedsend: [242, 182], mq_timedreceive: [243, 183], mq_getsetattr: [245, 185],
  ioprio_set: [251, 30], ioprio_get: [252, 31], inotify_add_watch: [254, 27], openat: [257, 56], mknodat: [259, 33], unshare: [272, 97], ppoll: [271, 73], epoll_pwait: [281, 22],
  timerfd_create: [283, 85], timerfd_settime: [286, 86], timerfd_gettime: [287, 87], signalfd4: [289, 74], eventfd2: [290, 19], epoll_create1: [291, 20],
  inotify_init1: [294, 26], rt_tgsigqueueinfo: [297, 240], fanotify_init: [300, 262], fanotify_mark: [301, 263], prlimit64: [302, 261], setns: [308, 268], kcmp: [312, 272], seccomp: [317, 277],
  memfd_create: [319, 279], membarrier: [324, 283], pidfd_open: [434, 434], pidfd_send_signal: [424, 424], memfd_secret: [447, 447], io_uring_setup: [425, 425], userfaultfd: [323, 282],
  landlock_create_ruleset: [444, 444], bpf: [321, 280], keyctl: [250, 219], perf_event_open: [298, 241],
};
const index = process.arch === 'arm64' ? 1 : 0;

/**
 * Helpers. `sys` makes a system call or dies; `tries` gives -1 instead. `same` compares, `ok` asserts. `$D` and `$T` are folders of the program's own on
 * disk and on a tmpfs. `child { }` forks one that answers lines: its answer to `$ask->(LINE)` is what the block returned. `map_pages`, `peek`, `poke` are memory by address.
 */
export const PRELUDE = String.raw`
use strict; use warnings; use Fcntl qw(:DEFAULT :flock :mode :seek F_SETSIG F_GETSIG F_SETPIPE_SZ F_GETPIPE_SZ F_SETLEASE F_GETLEASE); use Socket qw(:all); use POSIX (); use Errno ();
my ($NAME, %NR, $asked); my $TALK = '${TALK}';
BEGIN { ($NAME) = $0 =~ m{([^/]+)\.pl$}; %NR = (${Object.entries(NUMBERS).map(([name, n]) => `${name} => ${n[index]}`).join(', ')});
  $SIG{__DIE__} = sub { put("$NAME.ready", "FAIL set-up: $_[0]") if defined $^S && !$^S || !defined $^S && $_[0] !~ /^Can't locate/ } }
my ($D, $T, $X64) = ("${HOME}/files/$NAME", "$TALK/files/$NAME", '${process.arch}' eq 'x64');
sub put { my ($name, $text) = @_; sysopen(my $f, "$TALK/.$name", O_WRONLY|O_CREAT|O_TRUNC); $text =~ s/\n/ /g; syswrite($f, "$text\n"); close $f; rename "$TALK/.$name", "$TALK/$name" }
sub skip { put("$NAME.ready", "SKIP @_"); POSIX::_exit(0) }
sub ename { my $n = $_[0]; my ($s) = grep { Errno->can($_)->() == $n } grep { !/EWOULDBLOCK|ENOTSUP/ } @Errno::EXPORT_OK; $s // $n }
sub tries { my $n = shift; for my $i (0 .. $#_) { splice(@_, $i, 1, my $c = $_[$i]) if Internals::SvREADONLY($_[$i]) } return syscall($NR{$n} // die("no number of $n"), @_) }
sub sys { my $n = $_[0]; my $r = &tries; die "$n: " . ename($!+0) . "\n" if $r == -1; return $r }
sub show { my $v = $_[0] // 'nothing'; $v =~ s/([^ -~])/sprintf '<%02x>', ord $1/ge; length $v > 160 ? substr($v, 0, 160) . '... (' . length($v) . ')' : $v }
sub same { my ($what, $is, $was) = @_; die "$what: " . show($is) . ', not ' . show($was) . "\n" if !defined $is || $is ne $was }
sub ok { my ($what, $is) = @_; die "not so: $what\n" if !$is }
sub await { my ($what, $look) = @_; for (1 .. 1000) { my $r = $look->(); return $r if $r; select(undef, undef, undef, 0.02) } die "waited in vain for $what\n" }
sub slurp { my ($path) = @_; open(my $f, '<', $path) or return undef; local $/; my $text = <$f>; return $text }
sub spew { my ($path, $text) = @_; open(my $f, '>', $path) or die "$path: $!\n"; print $f $text; close $f; return $path }
sub opened { my ($path, $flags, $mode) = @_; sysopen(my $f, $path, $flags // O_RDWR|O_CREAT, $mode // 0644) or die "$path: $!\n"; return $f }
sub adopt { open(my $f, $_[1] // '+<&=', $_[0]) or die "descriptor $_[0]: $!\n"; return $f }
sub get { my ($f, $most) = @_; my $r; die "nothing to read\n" if $asked && !waited($f); do { $r = sysread($f, my $b, $most // 65536); return $b if defined $r } while $!{EINTR}; die "read: " . ename($!+0) . "\n" }
sub waited { my ($f) = @_; for (my $end = now() + 10; now() < $end;) { return 1 if ready($f, 1) } return 0 }
sub give { my ($f, $text) = @_; my $r; do { $r = syswrite($f, $text) } while !defined $r && $!{EINTR}; die "write: " . ename($!+0) . "\n" if !defined $r; return $r }
sub line { my ($f) = @_; my $l = ''; while ((my $c = get($f, 1)) ne '') { return $l if $c eq "\n"; $l .= $c } return undef }
sub ready { my ($f, $seconds) = @_; my $v = ''; vec($v, fileno($f), 1) = 1; return select($v, undef, undef, $seconds // 0) > 0 }
sub at { return sysseek($_[0], 0, SEEK_CUR) + 0 }
sub pread { my ($f, $n, $at) = @_; my $b = "\0" x $n; my $r = sys('pread64', ref $f ? fileno $f : $f, $b, $n, $at); return substr($b, 0, $r) }
sub fdlink { return readlink('/proc/self/fd/' . (ref $_[0] ? fileno $_[0] : $_[0])) }
sub fdinfo { return slurp('/proc/self/fdinfo/' . (ref $_[0] ? fileno $_[0] : $_[0])) }
sub inode { my @s = ref $_[0] ? stat($_[0]) : lstat($_[0]); return @s ? $s[1] : 'none' }
sub status { my ($key, $pid) = @_; my ($v) = (slurp('/proc/' . ($pid // $$) . '/status') // '') =~ /^$key:\s*(.*)$/m; return $v }
sub stat_of { my ($pid, $n) = @_; my ($rest) = (slurp("/proc/$pid/stat") // return 'gone') =~ /.*\) (.*)/s; return (split ' ', $rest)[$n - 3] }
sub now { my $b = "\0" x 16; sys('clock_gettime', $_[0] // 1, $b); my ($s, $n) = unpack('qq', $b); return $s + $n / 1e9 }
sub pause { select(undef, undef, undef, $_[0]) }
sub map_pages { my ($n, $prot, $flags, $f, $off, $at) = @_; return sys('mmap', $at // 0, 4096 * $n, $prot // 3, $flags // 0x22, ref $f ? fileno $f : $f // -1, $off // 0) }
sub peek { my ($at, $n) = @_; return unpack("P$n", pack('J', $at)) }
sub poke { my ($at, $text) = @_; pipe(my $r, my $w); for (my $i = 0; $i < length $text; $i += 32768) { my $part = substr($text, $i, 32768); give($w, $part); sys('read', fileno $r, $at + $i, length $part) } }
sub pattern { my ($n, $size) = @_; my $word = pack('NN', ($n * 2654435761 + 12345) & 0xffffffff, $n); return substr($word x ($size / 8 + 1), 0, $size) }
sub vma { my ($at) = @_; for (split /^(?=[0-9a-f]+-[0-9a-f]+ )/m, slurp('/proc/self/smaps')) { my ($from, $to, $perms) = /^(\w+)-(\w+) (\S+)/; next if hex($from) > $at || hex($to) <= $at; my %v = /^(\w+):\s*(.*?)\s*$/mg; $v{perms} = $perms; return \%v } return undef }
sub forked(&) { my ($code) = @_; my $pid = fork // die "fork: $!\n"; return $pid if $pid; eval { $code->(); 1 } or print STDERR "child: $@"; POSIX::_exit(0) }
sub child(&) { my ($code) = @_; pipe(my $ar, my $aw); pipe(my $br, my $bw); my $pid = fork // die "fork: $!\n";
  if (!$pid) { close $aw; close $br; while (defined(my $l = line($ar))) { my $a = eval { $code->($l) }; $a = "FAIL $@" if !defined $a; $a =~ s/\n/ /g; give($bw, "$a\n") } POSIX::_exit(0) }
  close $ar; close $bw; my $ask = sub { give($aw, "$_[0]\n"); return line($br) // 'the child is gone' }; return wantarray ? ($ask, $pid) : $ask }
sub run { my $pid = open(my $f, '-|') // die "fork: $!\n"; if (!$pid) { open(STDERR, '>&', \*STDOUT); exec { $_[0] } @_ or POSIX::_exit(127) } local $/; my $text = <$f>; close $f; return $text // '' }
sub socket_pair { my ($type) = @_; socketpair(my $a, my $b, AF_UNIX, $type, 0) or die "socketpair: $!\n"; return ($a, $b) }
sub sockopt { my ($s, $level, $name) = @_; my $v = getsockopt($s, $level, $name) // die "getsockopt: $!\n"; return length $v == 4 ? unpack('i', $v) : $v }
my ($check, $harm); sub check(&) { $check = $_[0] } sub harm(&) { $harm = $_[0] }
for my $folder ($D, $T) { for (reverse split /\n/, slurp('/proc/self/mountinfo')) { my $at = (split ' ')[4]; run('umount', '-l', $at) if $at =~ m{^\Q$folder\E/} } run('rm', '-rf', $folder); run('mkdir', '-p', $folder) }
chdir '/'; $SIG{PIPE} = 'IGNORE'; srand;
`;

/** What every program ends with: it says its token, by which a fresh process would be known, and answers. */
export const WAIT = String.raw`
;{ my $orders = opened("$TALK/$NAME.orders", O_RDWR, 0); my $token = int rand 1e15; put("$NAME.ready", "READY $token");
  while (defined(my $l = line($orders))) { my ($round, $verb, $for) = split / /, $l; $asked = 1;
    my $said = $for ne $token ? 'FAIL another process' : eval { ($verb eq 'harm' ? $harm : $check)->(); 1 } ? 'ok' : "FAIL $@";
    $asked = 0; put("$NAME.result", "$round $said") } }
`;

/** Rows whose objects do not come through. @param table helpers and code, and the reason, by name */
export function exceptions(kind: string, table: Record<string, { reason: string; sometimes?: string; code: string }>): Exception[] {
  return category(kind, Object.fromEntries(Object.entries(table).map(([name, { code }]) => [name, code]))).map((row) => {
    const { reason, sometimes } = table[row.name]!;
    return { ...row, reason, ...sometimes !== undefined && { sometimes } };
  });
}
