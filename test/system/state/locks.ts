/** Locks on files, leases, and who is told of what. */
import { category } from './program.ts';

/** `struct flock` of 64 bits, and its parts. */
const FLOCK = String.raw`
sub lock_text { my ($type, $start, $len) = @_; return pack('s s x4 q q i x4', $type, 0, $start, $len, 0) }
sub lock_of { my ($type, undef, $start, $len, $pid) = unpack('s s x4 q q i', $_[0]); return "$type $start $len $pid" }
`;

export const locks = category('locks', {
  'flock, exclusive': String.raw`
my $f = opened("$D/file"); flock($f, LOCK_EX) or die;
my $ask = child { my $g = opened("$D/file"); my $r = flock($g, LOCK_SH|LOCK_NB) ? 'taken' : ename($!+0); close $g; $r };
check { same('another', $ask->('?'), 'EAGAIN'); ok('own', flock($f, LOCK_EX|LOCK_NB)) };
harm { flock($f, LOCK_UN) };`,

  'flock, shared': String.raw`
my ($f, $g) = map { opened("$D/file") } 1, 2; flock($_, LOCK_SH) or die for $f, $g;
my $ask = child { my $h = opened("$D/file"); my $r = flock($h, ($_[0] eq 'sh' ? LOCK_SH : LOCK_EX)|LOCK_NB) ? 'taken' : ename($!+0); close $h; $r };
check { same('shared', $ask->('sh'), 'taken'); same('exclusive', $ask->('ex'), 'EAGAIN'); ok('both hold it', !flock($f, LOCK_EX|LOCK_NB)); flock($f, LOCK_SH|LOCK_NB) };
harm { flock($g, LOCK_UN); };`,

  'flock on a deleted file': String.raw`
my $f = opened("$D/file"); flock($f, LOCK_EX) or die; my $g = opened("$D/file"); unlink "$D/file";
check { ok('the other can have it', !flock($g, LOCK_SH|LOCK_NB)); same('error', ename($!+0), 'EAGAIN') };
harm { flock($f, LOCK_UN) };`,

  'flock of a child on an inherited descriptor': String.raw`
my $f = opened("$D/file"); my ($ask, $pid) = child { flock($f, LOCK_EX|LOCK_NB) ? 'taken' : 'not' }; same('child', $ask->('lock'), 'taken'); my $g = opened("$D/file");
check { ok('another can have it', !flock($g, LOCK_EX|LOCK_NB)); ok('by the shared descriptor', flock($f, LOCK_EX|LOCK_NB)) };
harm { flock($f, LOCK_UN) };`,

  'POSIX locks on ranges': FLOCK + String.raw`
my $f = opened("$D/file"); for ([F_WRLCK, 100, 50], [F_RDLCK, 200, 0]) { my $l = lock_text(@$_); fcntl($f, F_SETLK, $l) or die "lock: $!\n" }
my $ask = child { my ($type, $start, $len) = split / /, $_[0]; my $g = opened("$D/file"); my $l = lock_text($type, $start, $len); fcntl($g, F_GETLK, $l); lock_of($l) };
check { same('written range', $ask->(F_WRLCK . ' 0 150'), F_WRLCK . " 100 50 $$"); same('read range', $ask->(F_WRLCK . ' 1000 5'), F_RDLCK . " 200 0 $$"); same('between', (split / /, $ask->(F_WRLCK . ' 150 50'))[0], F_UNLCK); same('a reader', (split / /, $ask->(F_RDLCK . ' 300 1'))[0], F_UNLCK) };
harm { my $l = lock_text(F_UNLCK, 120, 10); fcntl($f, F_SETLK, $l) };`,

  'locks of an open file description': FLOCK + String.raw`
my $f = opened("$D/file"); my $l = lock_text(F_WRLCK, 10, 10); fcntl($f, 37, $l) or die "lock: $!\n"; my $g = opened("$D/file");
check { my $l = lock_text(F_WRLCK, 15, 1); fcntl($g, 36, $l) or die; same('the other descriptor', lock_of($l), F_WRLCK . ' 10 10 -1'); my $m = lock_text(F_WRLCK, 10, 10); ok('own', fcntl($f, 37, $m)) };
harm { my $l = lock_text(F_UNLCK, 10, 10); fcntl($f, 37, $l) };`,

  'waiting for a lock': FLOCK + String.raw`
my $f = opened("$D/file"); flock($f, LOCK_EX) or die; pipe(my $r, my $w);
my $pid = forked { close $r; my $n = 0; while (1) { my $g = opened("$D/file"); 1 until flock($g, LOCK_EX); give($w, ++$n . "\n"); close $g; pause(0.2) } };
my $turn = 0;
check { pause(0.3); ok('it has the lock', !ready($r)); flock($f, LOCK_UN); same('it gets the lock', line($r), ++$turn); await('the lock', sub { flock($f, LOCK_EX|LOCK_NB) }); pause(0.1); while (ready($r)) { same('again', line($r), ++$turn) } };
harm { kill 9, $pid; waitpid $pid, 0; close $w };`,

  'lease on a file': String.raw`
spew("$T/file", 'content'); my $f = opened("$T/file", O_RDONLY); fcntl($f, F_SETLEASE, F_RDLCK) or skip("no lease: $!"); my $told = 0; $SIG{IO} = sub { $told++ };
check { same('lease', fcntl($f, F_GETLEASE, 0) + 0, F_RDLCK + 0); same('breaks', $told, 0);
  my $ask = child { sysopen(my $g, "$T/file", O_WRONLY|O_NONBLOCK) ? 'opened' : ename($!+0) }; same('a writer', $ask->('?'), 'EAGAIN'); await('word of it', sub { $told }); fcntl($f, F_SETLEASE, F_UNLCK); fcntl($f, F_SETLEASE, F_RDLCK) or die "again: $!\n"; $told = 0 };
harm { fcntl($f, F_SETLEASE, F_UNLCK) };`,

  'who is told of input': String.raw`
my ($a, $b) = socket_pair(SOCK_STREAM); my $told = 0; my $n = 42; $SIG{NUM42} = sub { $told++ }; fcntl($a, F_SETOWN, $$ + 0); fcntl($a, F_SETSIG, $n); fcntl($a, F_SETFL, fcntl($a, F_GETFL, 0) | O_ASYNC | O_NONBLOCK);
check { same('owner', fcntl($a, F_GETOWN, 0), $$); same('signal', fcntl($a, F_GETSIG, 0), $n); ok('no O_ASYNC', fcntl($a, F_GETFL, 0) & O_ASYNC); my $before = $told; give($b, 'word'); await('the signal', sub { $told > $before }); same('input', get($a), 'word') };
harm { fcntl($a, F_SETSIG, 0); $SIG{IO} = 'IGNORE' };`,
});
