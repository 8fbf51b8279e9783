/** Clocks, timers, and processes that sleep. */
import { category } from './program.ts';

const HELPERS = String.raw`
sub ticks { my ($what, $n) = @_; my $before = $$n; await("ticks of $what", sub { $$n > $before + 2 }) }
sub interval { my ($which) = @_; my $b = "\0" x 32; sys('getitimer', $which, $b); my @v = unpack('q4', $b); return ($v[2] + $v[3] / 1e6, $v[0] + $v[1] / 1e6) }
sub set_interval { my ($which, $first, $every) = @_; sys('setitimer', $which, pack('q4', map { (int $_, ($_ - int $_) * 1e6) } $every, $first), 0) }
sub posix_timer { my ($clock, $signal, $value, $first, $every) = @_; my $id = "\0" x 4; sys('timer_create', $clock, pack('q i i x48', $value, $signal, 0), $id); $id = unpack('i', $id); arm($id, $first, $every); return $id }
sub arm { my ($id, $first, $every) = @_; sys('timer_settime', $id, 0, pack('q4', map { (int $_, ($_ - int $_) * 1e9) } $every, $first), 0) }
sub timer_left { my $b = "\0" x 32; sys('timer_gettime', $_[0], $b); my @v = unpack('q4', $b); return $v[2] + $v[3] / 1e9 }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, HELPERS + code]));

/**
 * A child that sleeps again and again for 3 s: it tells how each sleep ended. A dump may end a sleep early with EINTR, and then says what is left.
 */
const sleeper = (how: string): string => String.raw`
pipe(my $r, my $w); my $pid = forked { close $r; for (my $n = 1;; $n++) { my ($begun, $left) = (now(), 0); ${how} my $took = now() - $begun; my $sum = $took + $left; give($w, ($sum > 2.9 && $sum < 3.0 + $took) ? "$n slept\n" : "$n: $took s, $left s left\n") } }; close $w; my $turn = 0;
check { my $l; do { $turn++; $l = line($r) // die "it has ended\n"; same('sleep', $l, "$turn slept") } while ready($r) };
harm { kill 9, $pid };`;

export const timers = category('timers', both({
  'clocks go on, and never back': String.raw`
my %names = (1 => 'monotonic', 7 => 'since boot', 4 => 'raw', 6 => 'coarse'); my %last = map { $_ => now($_ + 0) } keys %names; my $real = now(0);
check { my $passed = now(0) - $real; for my $c (sort keys %names) { my $t = now($c + 0) - $last{$c}; ok("$names{$c}: $t s of $passed s", $t >= 0 && $t <= $passed + 1) } $last{$_} = now($_ + 0) for keys %names; $real = now(0) };
harm { $last{1} += 1e6 };`,

  'alarm': String.raw`
my $begun = now(0); alarm 3600;
check { my ($s, $every) = interval(0); ok("$s s left", $s > 3600 - (now(0) - $begun) - 2 && $s <= 3600); same('interval', $every, 0) };
harm { alarm 0 };`,

  'interval timer of real time': String.raw`
my $n = 0; $SIG{ALRM} = sub { $n++ }; set_interval(0, 0.05, 0.05);
check { same('interval', sprintf('%.2f', (interval(0))[1]), '0.05'); ticks('alarm', \$n) };
harm { set_interval(0, 0, 0) };`,

  'interval timers of processor time': String.raw`
set_interval(1, 500, 600); set_interval(2, 700, 800);
check { my @v = (interval(1), interval(2)); ok("virtual: $v[0]", $v[0] > 400 && $v[0] <= 500.1); ok("profiling: $v[2]", $v[2] > 600 && $v[2] <= 700.1); same('intervals', sprintf('%.0f %.0f', @v[1, 3]), '600 800') };
harm { set_interval(2, 0, 0) };`,

  'POSIX timer, once': String.raw`
my $begun = now(0); my @id = map { posix_timer(1, 50, 7, 3600 + $_, 0) } 0, 1; my $list = slurp('/proc/self/timers');
check { for (0, 1) { my $s = timer_left($id[$_]); ok("$s s left", $s > 3600 + $_ - (now(0) - $begun) - 2 && $s <= 3600 + $_) } my ($is, $was) = map { s/sigev_value|signal: (\d+)\/\w+/signal $1/r } slurp('/proc/self/timers') // '', $list // ''; $_ = join ' ', /^(?:ID|notify|ClockID): \S+/mg for $is, $was; same('timers', $is, $was) };
harm { arm($id[1], 0, 0) };`,

  'POSIX timer, periodic': String.raw`
my $n = 0; $SIG{NUM50} = sub { $n++ }; my $id = posix_timer(0, 50, 9, 0.05, 0.05);
check { ticks('timer', \$n) };
harm { arm($id, 0, 0) };`,

  'sleep': sleeper(String.raw`my $rem = pack('q2', 0, 0); if (tries('nanosleep', pack('q2', 3, 0), $rem) != 0) { my @v = unpack('q2', $rem); $left = $v[0] + $v[1] / 1e9 }`),
  'sleep until a time': sleeper(String.raw`my $end = now() + 3; my $t = pack('q2', int $end, ($end - int $end) * 1e9); 1 while tries('clock_nanosleep', 1, 1, $t, 0) != 0;`),
  'waiting with a time limit': sleeper(String.raw`my $end = now() + 3; while ((my $more = $end - now()) > 0) { select(undef, undef, undef, $more) }`),

  'sleep(1)': String.raw`
my $begun = now(0); my $pid = fork // die; if (!$pid) { exec 'sleep', '7200' } await('it to run', sub { (slurp("/proc/$pid/comm") // '') eq "sleep\n" });
check { same('process', slurp("/proc/$pid/cmdline"), "sleep\0007200\0"); same('its end', waitpid($pid, 1), 0) };
harm { kill 9, $pid; pause(0.1) };`,

  'shell that sleeps in a loop': String.raw`
pipe(my $r, my $w); my $pid = fork // die; if (!$pid) { open(STDOUT, '>&', $w); exec 'sh', '-c', 'n=0; while sleep 0.2; do n=$((n+1)); echo $n; done; echo ended' } close $w; my $turn = 0;
check { my $l; do { $l = line($r) // 'nothing'; same('count', $l, ++$turn) } while ready($r) };
harm { kill 9, $pid };`,
}));
