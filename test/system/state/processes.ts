/** Processes: their tree, and what belongs to each. */
import { category } from './program.ts';

const HELPERS = String.raw`
sub state_of { return stat_of($_[0], 3) }
sub sleeping { my ($pid) = @_; await("process $pid to sleep", sub { state_of($pid) eq 'S' }) }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, HELPERS + code]));

export const processes = category('processes', both({
  'zombies': String.raw`
my $make = sub { my @p = (forked { POSIX::_exit(42) }); push @p, forked { kill 'TERM', $$; pause(9) }; await('their end', sub { !grep { state_of($_) ne 'Z' } @p }); return @p }; my @p = $make->();
check { same("state of $_", state_of($_), 'Z') for @p; waitpid $p[0], 0; same('status', $? >> 8, 42); waitpid $p[1], 0; same('signal', $? & 127, 15); @p = $make->() };
harm { waitpid $p[1], 0 };`,

  'tree of sessions and groups': String.raw`
my @p = (forked { POSIX::setsid(); forked { POSIX::setpgid(0, 0); pause(1e6) }; forked { pause(1e6) }; forked { POSIX::setsid(); forked { pause(1e6) }; pause(1e6) }; 1 while pause(1e6) || 1 }); push @p, forked { POSIX::setpgid(0, 0); pause(1e6) }; my @all;
my $look = sub { my @todo = @p; my @l; while (defined(my $p = shift @todo)) { push @l, join ',', $p, map { stat_of($p, $_) } 4, 5, 6; push @todo, split ' ', slurp("/proc/$p/task/$p/children") // '' } @all = map { (split /,/)[0] } @l; return join ' ', sort @l }; await('all', sub { $look->(); @all == 6 }); pause(0.3); my $was = $look->();
check { same('parent, group, session', $look->(), $was) };
harm { kill 9, $p[1]; waitpid $p[1], 0 };`,

  'group whose leader has gone': String.raw`
pipe(my $r, my $w); my $leader = forked { POSIX::setpgid(0, 0); my $p = forked { pause(1e6) }; give($w, "$p\n") }; my $pid = line($r); waitpid $leader, 0;
check { same('group', stat_of($pid, 5), $leader); same('signals', kill(0, -$leader), 1) };
harm { kill 9, $pid; pause(0.2) };`,

  'session whose leader has gone': String.raw`
pipe(my $r, my $w); my $leader = forked { POSIX::setsid(); my $p = forked { pause(1e6) }; give($w, "$p\n") }; my $pid = line($r); waitpid $leader, 0;
check { same('session', stat_of($pid, 6), $leader) };
harm { kill 9, $pid; pause(0.2) };`,

  'stopped child': String.raw`
my ($ask, $pid) = child { 'awake' }; kill 'STOP', $pid; await('it to stop', sub { state_of($pid) eq 'T' });
check { same('state', state_of($pid), 'T'); kill 'CONT', $pid; same('child', $ask->('?'), 'awake'); kill 'STOP', $pid; await('it to stop again', sub { state_of($pid) eq 'T' }) };
harm { kill 'CONT', $pid; pause(0.1) };`,

  '60 children': String.raw`
my %c; for my $i (1 .. 60) { my $secret = $i * 17; my ($ask, $pid) = child { $secret += $_[0]; "$secret of $$" }; $c{$pid} = [$ask, $secret] }
check { for my $pid (sort keys %c) { $c{$pid}[1] += 3; same("child $pid", $c{$pid}[0]->(3), "$c{$pid}[1] of $pid") } };
harm { my ($pid) = keys %c; kill 9, $pid; waitpid $pid, 0 };`,

  'orphan': String.raw`
pipe(my $r, my $w); pipe(my $br, my $bw); my $middle = forked { forked { POSIX::setsid(); give($bw, "$$\n"); while (defined(my $l = line($r))) { give($bw, getppid() . " $l\n") } } }; waitpid $middle, 0; close $r; close $bw; my $pid = line($br); my $turn = 0;
check { $turn++; give($w, "turn $turn\n"); same('answer', line($br), "1 turn $turn") };
harm { kill 9, $pid };`,

  'reaper of orphans': String.raw`
sys('prctl', 36, 1, 0, 0, 0); my $turn = 0;
check { my $b = "\0" x 4; sys('prctl', 37, $b, 0, 0, 0); same('PR_GET_CHILD_SUBREAPER', unpack('i', $b), 1); pipe(my $r, my $w); my $middle = forked { my $me = $$; forked { pause(0.01) while getppid() == $me; give($w, getppid() . " $$\n") } }; waitpid $middle, 0; my ($parent, $orphan) = split / /, line($r); same('parent of an orphan', $parent, $$); waitpid $orphan, 0 };
harm { sys('prctl', 36, 0, 0, 0, 0) };`,

  'waiting for a child': String.raw`
pipe(my $r, my $w); pipe(my $cr, my $cw); my $pid = forked { close $r; close $cw; while (1) { my $c = forked { my $l = line($cr) // ''; POSIX::_exit(length $l) }; 1 until waitpid($c, 0) == $c; give($w, ($? >> 8) . "\n") } }; close $w; close $cr;
check { give($cw, "four\n"); same('status', line($r), 4) };
harm { kill 9, $pid };`,

  'threads': String.raw`
eval { require threads; require threads::shared; 1 } or skip('this Perl has no threads'); my %n :shared; my @t = map { my $i = $_; threads->create(sub { while (1) { { lock(%n); $n{$i}++ } pause(0.02) } }) } 1 .. 4; pause(0.3); my @ids = sort map { s{.*/}{}r } glob("/proc/$$/task/*"); my %last = %n;
check { same('threads', join(' ', sort map { s{.*/}{}r } glob("/proc/$$/task/*")), "@ids"); for my $i (1 .. 4) { ok("thread $i has begun anew", $n{$i} >= $last{$i}); my $now = $n{$i}; await("thread $i", sub { $n{$i} > $now }); $last{$i} = $n{$i} } };
harm { lock(%n); $n{2} = -1e9; };`,

  'thread with a name and a mask of its own': String.raw`
eval { require threads; 1 } or skip('this Perl has no threads'); my $tid; pipe(my $r, my $w); my $t = threads->create(sub { sys('prctl', 15, 'second', 0, 0, 0); POSIX::sigprocmask(POSIX::SIG_BLOCK(), POSIX::SigSet->new(12, 35)); give($w, sys('gettid') . "\n"); pause(1e6) while 1 }); $tid = line($r);
my $look = sub { my $t = "/proc/$$/task/$tid"; join ' ', map { (slurp("$t/status") // '') =~ /^$_:\s*(.*)/m } qw(Name SigBlk) }; my $was = $look->(); ok('name', $was =~ /^second /);
check { same('name and mask', $look->(), $was); ok('the first one too', status('Name') ne 'second') };
harm { open(my $f, '>', "/proc/$$/task/$tid/comm"); syswrite($f, 'third') };`,

  'nice value': String.raw`
my $pid = forked { pause(1e6) }; setpriority(0, $pid, 7) or die "setpriority: $!\n";
check { same('nice', stat_of($pid, 19), 7) };
harm { setpriority(0, $pid, 9) };`,

  'scheduling policy': String.raw`
my @p = map { my $n = $_; forked { pause(1e6) } } 1, 2; sys('sched_setscheduler', $p[0], 3, pack('i', 0)); sys('sched_setscheduler', $p[1], 5, pack('i', 0));
check { same('policies', join(' ', map { tries('sched_getscheduler', $_ + 0) } @p), '3 5') };
harm { sys('sched_setscheduler', $p[0], 5, pack('i', 0)) };`,

  'limits': String.raw`
my %l = (4 => [1000, 2000], 7 => [111, 222], 1 => [1 << 30, 1 << 31], 12 => [33333, 44444], 15 => [5000000, 6000000]); my $limit = sub { my ($n) = @_; my $b = "\0" x 16; sys('prlimit64', 0, $n + 0, 0, $b); return join ',', unpack 'Q2', $b };
my ($see, $child) = child { if ($_[0] eq 'set') { for my $n (keys %l) { my $v = pack('Q2', @{ $l{$n} }); sys('prlimit64', 0, $n + 0, $v, 0) } } return join ' ', map { $limit->($_) } sort keys %l }; my $was = $see->('set'); ok($was, $was =~ /111,222/);
check { same('limits', $see->('see'), $was) };
harm { sys('prlimit64', $child + 0, 7, pack('Q2', 100, 222), 0) };`,

  'preference of the OOM killer': String.raw`
my $pid = forked { pause(1e6) }; my $path = "/proc/$pid/oom_score_adj"; open(my $f, '>', $path) or die; syswrite($f, 555) or die "oom_score_adj: $!\n"; close $f;
check { same('oom_score_adj', slurp($path), "555\n") };
harm { open(my $f, '>', $path); syswrite($f, 556) };`,

  'umask, working folder and root': String.raw`
mkdir "$D/root"; mkdir "$D/root/sub"; spew("$D/root/sub/file", 'inside'); my ($ask) = child { if ($_[0] eq 'go') { umask 0137; chroot "$D/root" or die; chdir '/sub' or die } join ' ', sprintf('%o', umask), readlink('/proc/self/cwd') // 'no proc', slurp('/sub/file') // 'none', slurp('file') // 'none', -e '/etc/passwd' ? 'out' : 'in' }; my $was = $ask->('go');
check { same('child', $ask->('?'), '137 no proc inside inside in'); same('before', $was, '137 no proc inside inside in') };
harm { unlink "$D/root/sub/file" };`,

  'program, arguments and environment': String.raw`
$ENV{STATE_WORD} = 'from the beginning'; my $pid = fork // die; if (!$pid) { exec { '/bin/sleep' } 'another name', '8000' } await('it to run', sub { (slurp("/proc/$pid/cmdline") // '') =~ /^another/ }); $0 = 'renamed by itself'; my $own = slurp('/proc/self/cmdline'); my $env = slurp("/proc/$pid/environ"); my $auxv = slurp("/proc/$pid/auxv");
check { same('exe', readlink("/proc/$pid/exe"), '/usr/bin/sleep'); same('arguments', slurp("/proc/$pid/cmdline"), "another name\0008000\0"); same('environment', slurp("/proc/$pid/environ"), $env); ok('word', $env =~ /STATE_WORD=from the beginning/); same('own', slurp('/proc/self/cmdline'), $own); same('auxv', slurp("/proc/$pid/auxv"), $auxv) };
harm { $0 = 'again' };`,

  'deleted program': String.raw`
run('cp', '/bin/sleep', "$D/program"); my $pid = fork // die; if (!$pid) { exec "$D/program", '9000' } await('it to run', sub { (slurp("/proc/$pid/comm") // '') eq "program\n" }); sleeping($pid); unlink "$D/program";
check { same('exe', readlink("/proc/$pid/exe"), "$D/program (deleted)"); same('state', state_of($pid), 'S'); ok('its name is back', !-e "$D/program") };
harm { kill 9, $pid; pause(0.1) };`,

  'program that another has replaced': String.raw`
run('cp', '/bin/sleep', "$D/program"); my $pid = fork // die; if (!$pid) { exec "$D/program", '9000' } await('it to run', sub { (slurp("/proc/$pid/comm") // '') eq "program\n" }); sleeping($pid); pause(0.3); spew("$D/new", "#!/bin/sh\n"); rename "$D/new", "$D/program"; my $maps = sub { join ' ', map { /^\S+ (\S+) \S+ \S+ \S+ +\S*program/ ? $1 : () } split /\n/, slurp("/proc/$pid/maps") // '' }; my $was = $maps->();
check { ok('exe', readlink("/proc/$pid/exe") =~ m{^\Q$D\E/program\S* \(deleted\)$}); same('the new one', slurp("$D/program"), "#!/bin/sh\n"); same('mapped', $maps->(), $was) };
harm { kill 9, $pid; pause(0.1) };`,

  'name, and the signal at the end of the parent': String.raw`
pipe(my $r, my $w); pipe(my $er, my $ew); my $parent; my $make = sub { $parent = forked { forked { sys('prctl', 1, 35, 0, 0, 0); sys('prctl', 15, 'by a name', 0, 0, 0); $SIG{NUM35} = sub { give($ew, "told\n"); POSIX::_exit(0) }; give($w, "$$\n"); 1 while pause(1e6) || 1 }; pause(1e6) while 1 }; return line($r) }; my $pid = $make->();
check { same('name', slurp("/proc/$pid/comm"), "by a name\n"); kill 9, $parent; waitpid $parent, 0; same('at the end', line($er), 'told'); $pid = $make->() };
harm { kill 9, $pid; };`,

  'answers of prctl': String.raw`
sys('prctl', 4, 0, 0, 0, 0); sys('prctl', 38, 1, 0, 0, 0); my $ask = sub { join ' ', map { sys('prctl', $_, 0, 0, 0, 0) } 3, 39 }; my $was = $ask->(); same('set', $was, '0 1');
check { same('dumpable, no new privileges', $ask->(), $was) };
harm { sys('prctl', 4, 1, 0, 0, 0) };`,

  'seccomp filter': String.raw`
my $make = sub { my ($filtered) = @_; child { if ($_[0] eq 'filter') { sys('prctl', 38, 1, 0, 0, 0); my @f = ([0x20, 0, 0, 0], [0x15, 0, 1, $NR{personality}], [6, 0, 0, 0x50000 + 99], [6, 0, 0, 0x7fff0000]); my $f = join '', map { pack('S C C L', @$_) } @f; my $p = pack('S x6 P', scalar @f, $f); sys('prctl', 22, 2, $p, 0, 0) } tries('personality', 0xffffffff) == -1 ? $! + 0 : 'allowed' } }; my $ask = $make->(); same('filter', $ask->('filter'), 99);
check { same('what it forbids', $ask->('?'), 99) };
harm { $ask = $make->() };`,

}));
