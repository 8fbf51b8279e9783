/** Pipes and FIFOs. */
import { category } from './program.ts';

export const pipes = category('pipes', {
  'pipe with data in it': String.raw`
pipe(my $r, my $w); my $data = pattern(1, 20000); give($w, $data);
check { same('data', get($r, 30000), $data); ok('more is there', !ready($r)); give($w, $data) };
harm { get($r, 10) };`,

  'full pipe of 1 MB': String.raw`
pipe(my $r, my $w); my $size = fcntl($w, F_SETPIPE_SZ, 1 << 20) || fcntl($w, F_SETPIPE_SZ, 1 << 18) or die "size: $!\n"; fcntl($_, F_SETFL, O_NONBLOCK) for $w, $r; my $data = pattern(2, $size); give($w, $data);
check { same('size', fcntl($r, F_GETPIPE_SZ, 0), $size); ok('there is room', !defined syswrite($w, 'x')); my $all = ''; while (defined(my $n = sysread($r, my $b, 65536))) { $all .= $b } same('data', $all, $data); give($w, $data) };
harm { get($r, 4096) };`,

  'pipe whose writer has gone': String.raw`
pipe(my $r, my $w); give($w, 'last words'); close $w; my $s = sub { my $b = "\0" x 4; ioctl($r, 0x541b, $b); unpack('i', $b) };
check { same('data', $s->(), 10); my $v = ''; ok('not readable', ready($r)) };
harm { get($r) };`,

  'pipe whose reader has gone': String.raw`
pipe(my $r, my $w); close $r;
check { ok('it can be written', !defined syswrite($w, 'x')); same('error', ename($!+0), 'EPIPE') };
harm { close $w; pipe($r, $w) };`,

  'pipe between processes': String.raw`
pipe(my $r, my $w); my $ask = child { give($w, $_[0]); 'given' }; close $w; my $turn = 0; $ask->('before');
check { same('from before', get($r), 'before'); my $word = 'turn ' . ++$turn; same('child', $ask->($word), 'given'); same('now', get($r), $word); $ask->('before') };
harm { $ask = sub { 'none' } };`,

  'end of a pipe in two processes': String.raw`
pipe(my $r, my $w); my ($ask, $pid) = child { 'here' }; close $w;
check { ok('the end has come', !ready($r)) };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'FIFO with data in it': String.raw`
POSIX::mkfifo("$D/fifo", 0600); my $f = opened("$D/fifo", O_RDWR); give($f, 'some data');
check { same('data', get($f, 100), 'some data'); give($f, 'some data'); my $g = opened("$D/fifo", O_WRONLY|O_NONBLOCK); same('by its name', inode($g), inode($f)); give($g, '!'); same('both', get($f), 'some data!'); give($f, 'some data') };
harm { get($f) ; give($f, 'other')};`,

  'deleted FIFO with data in it': String.raw`
POSIX::mkfifo("$T/fifo", 0600); my $f = opened("$T/fifo", O_RDWR); my $g = opened("$T/fifo", O_WRONLY); give($g, 'some data'); unlink "$T/fifo"; my $turn = 0;
check { same('data', get($f, 100), 'some data'); give($g, 'more'); same('by the other end', get($f), 'more'); give($g, 'some data'); ok('its name is back', !-e "$T/fifo") };
harm { get($f, 1) };`,

  'FIFO whose reader is another process': String.raw`
POSIX::mkfifo("$D/fifo", 0600); pipe(my $r, my $w); my $pid = forked { my $f = opened("$D/fifo", O_RDONLY); while (defined(my $l = line($f))) { give($w, "$l!\n") } give($w, "end\n") };
my $f = opened("$D/fifo", O_WRONLY); my $turn = 0;
check { my $n = ++$turn; give($f, "word $n\n"); same('answer', line($r), "word $n!") };
harm { kill 9, $pid; waitpid $pid, 0; close $w };`,

  'shell script that waits in read': String.raw`
pipe(my $r, my $w); pipe(my $br, my $bw); spew("$D/script", 'n=0; secret=$(cat /proc/sys/kernel/random/uuid); echo "$secret"; while read -r word; do n=$((n + 1)); echo "$n $word $secret"; done');
my $pid = fork // die; if (!$pid) { open(STDIN, '<&', $r); open(STDOUT, '>&', $bw); exec 'sh', "$D/script" } close $r; close $bw; my $secret = line($br); my $turn = 0;
check { $turn++; give($w, "word\n"); same('answer', line($br), "$turn word $secret") };
harm { kill 9, $pid };`,

  'pipeline of programs': String.raw`
pipe(my $r, my $w); pipe(my $br, my $bw);
my $pid = fork // die; if (!$pid) { open(STDIN, '<&', $r); open(STDOUT, '>&', $bw); exec 'bash', '-c', 'stdbuf -o0 cat | stdbuf -oL tr a-z A-Z | while IFS= read -r l; do echo "<$l>"; done' } close $r; close $bw; my $turn = 0;
check { my $n = ++$turn; give($w, "word $n\n"); same('answer', line($br), "<WORD $n>") };
harm { close $w };`,
});
