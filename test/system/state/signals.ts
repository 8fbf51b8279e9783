/** Signals: who blocks, ignores, handles them, and those that wait. */
import { category } from './program.ts';

const HELPERS = String.raw`
sub block { POSIX::sigprocmask(POSIX::SIG_BLOCK(), POSIX::SigSet->new(@_)) or die "sigprocmask: $!\n" }
sub queue_signal { my ($pid, $n, $value) = @_; my $info = pack('i i i x4 i i q x96', $n, 0, -1, $pid, 0, $value); sys('rt_sigqueueinfo', $pid + 0, $n, $info) }
sub take { my ($n) = @_; my $info = "\0" x 128; my $r = tries('rt_sigtimedwait', pack('Q', 1 << ($n - 1)), $info, pack('qq', 0, 0), 8); return 'none' if $r < 0; my ($no, undef, $code, $pid, $uid, $value) = unpack('i i i x4 i i q', $info); return "$no $code $pid" . ($code == -1 ? " $value" : '') }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, HELPERS + code]));

export const signals = category('signals', both({
  'blocked signals': String.raw`
block(1, 10, 15, 34, 63); my $was = status('SigBlk');
check { same('mask', status('SigBlk'), $was) };
harm { POSIX::sigprocmask(POSIX::SIG_UNBLOCK(), POSIX::SigSet->new(63)) };`,

  'signals that wait': String.raw`
block(10, 12); kill $_, $$ for 10, 12;
check { same('waiting', status('ShdPnd'), sprintf '%016x', 1 << 9 | 1 << 11); for (10, 12) { same('signal', take($_), "$_ 0 $$"); kill $_, $$ } };
harm { take(12) };`,

  'queued signals with values': String.raw`
block(40, 45); my $send = sub { queue_signal($$, 40, $_ * 1000) for 1 .. 5; queue_signal($$, 45, -7) }; $send->();
check { same('value', take(40), "40 -1 $$ " . $_ * 1000) for 1 .. 5; same('negative', take(45), "45 -1 $$ -7"); same('more', take(40), 'none'); $send->() };
harm { take(40) };`,

  'signal for one thread': String.raw`
block(41); my $send = sub { my $info = pack('i i i x4 i i q x96', 41, 0, -1, $$, 0, 77); sys('rt_tgsigqueueinfo', $$ + 0, $$ + 0, 41, $info) }; $send->();
check { same('waiting', status('SigPnd'), sprintf '%016x', 1 << 40); same('for the process', status('ShdPnd'), '0' x 16); same('signal', take(41), "41 -1 $$ 77"); $send->() };
harm { take(41) };`,

  'ignored and handled signals': String.raw`
my $n = 0; $SIG{$_} = 'IGNORE' for qw(HUP TTIN WINCH); $SIG{USR1} = sub { $n++ }; $SIG{NUM52} = sub { $n += 100 }; my @was = map { status($_) } qw(SigIgn SigCgt);
check { same('masks', join(' ', map { status($_) } qw(SigIgn SigCgt)), "@was"); my $before = $n; kill $_, $$ for 'HUP', 'USR1', 52; same('calls', $n - $before, 101) };
harm { $SIG{USR1} = 'DEFAULT'; $SIG{USR1} = 'IGNORE' };`,

  'flags of a handler': String.raw`
my $n = 0; my $set = POSIX::SigSet->new(12); POSIX::sigaction(10, POSIX::SigAction->new(sub { $n++ }, $set, POSIX::SA_RESTART() | POSIX::SA_NODEFER())) or die;
check { my $a = POSIX::SigAction->new('DEFAULT'); POSIX::sigaction(10, undef, $a); same('flags', $a->flags & (POSIX::SA_RESTART() | POSIX::SA_NODEFER()), POSIX::SA_RESTART() | POSIX::SA_NODEFER()); ok('mask', $a->mask->ismember(12)); my $before = $n; kill 10, $$; same('calls', $n - $before, 1) };
harm { POSIX::sigaction(10, POSIX::SigAction->new(sub { $n++ })) };`,

  'alternate stack': String.raw`
my $at = map_pages(8); sys('sigaltstack', pack('J i x4 J', $at, 0, 32768), 0);
check { my $b = "\0" x 24; sys('sigaltstack', 0, $b); my ($sp, $flags, $size) = unpack('J i x4 J', $b); same('stack', "$sp $flags $size", "$at 0 32768") };
harm { sys('sigaltstack', pack('J i x4 J', 0, 2, 0), 0) };`,

}));
