/** Memory: what is in it, where it is, and how it is shared and guarded. */
import { category } from './program.ts';

export const memory = category('memory', {
  'anonymous pages': String.raw`
my $at = map_pages(2048); poke($at + 4096 * $_, pattern($_, 4096)) for 0 .. 2047;
check { same("page $_", peek($at + 4096 * $_, 4096), pattern($_, 4096)) for 0 .. 2047 };
harm { poke($at + 4096 * 77, 'x') };`,

  'sparse mapping of 1 GB': String.raw`
my $at = map_pages(262144, 3, 0x4022); sys('madvise', $at, 1 << 30, 15); poke($at + 4096 * 4096 * $_ + 10, "page $_") for 0 .. 63;
check {
  my ($size) = vma($at)->{Rss} =~ /(\d+)/; ok("$size kB are in memory, of 256 touched", $size >= 256 && $size < 1024);
  same("page $_", peek($at + 4096 * 4096 * $_ + 10, 8), pack('a8', "page $_")) for 0 .. 63;
  same("hole $_", peek($at + 4096 * (4096 * $_ + 5), 4096), "\0" x 4096) for 0 .. 63;
};
harm { sys('madvise', $at + 4096 * 4096 * 63, 4096, 4) };`,

  'memory shared with a child': String.raw`
my $at = map_pages(4, 3, 0x21); my $turn = 0; poke($at + 8192, 'from the beginning');
my $ask = child { my ($verb, $word) = split / /, $_[0]; return peek($at, 9) if $verb eq 'see'; poke($at + 4096, $word); 'done' };
check {
  my $word = sprintf 'turn-%04d', ++$turn; poke($at, $word); same('what the child sees', $ask->('see'), $word);
  same('the child', $ask->("write $word"), 'done'); same('what it wrote', peek($at + 4096, 9), $word); same('the old content', peek($at + 8192, 18), 'from the beginning');
};
harm { map_pages(4, 3, 0x32, -1, 0, $at) };`,

  'private mapping of a file, partly changed': String.raw`
my $f = opened("$D/file"); give($f, ('a' x 4096) . ('b' x 4096) . ('c' x 4096)); my $turn = 0;
my $at = map_pages(3, 3, 2, $f); poke($at + 4096, 'mine');
check {
  same('untouched', peek($at, 4096), 'a' x 4096); same('changed', peek($at + 4096, 4096), 'mine' . 'b' x 4092); same('the file', pread($f, 4, 4096), 'bbbb');
  my $word = sprintf 'turn%04d', ++$turn; sys('pwrite64', fileno $f, $word, 8, 8192); same('what follows the file', peek($at + 8192, 8), $word);
};
harm { map_pages(3, 3, 0x12, $f, 0, $at) };`,

  'shared mapping of a file': String.raw`
my $f = opened("$D/file"); give($f, pattern(1, 65536)); my $at = map_pages(16, 3, 1, $f); my $turn = 0; poke($at + 20000, 'by memory');
my $other = child { my $g = opened("$D/file", O_RDWR); my $there = map_pages(16, 1, 1, $g); my $seen = peek($there, 8); sys('munmap', $there, 65536); $seen };
check {
  same('the file', pread($f, 9, 20000), 'by memory'); my $word = sprintf 'turn%04d', ++$turn; poke($at, $word); same('by the file', pread($f, 8, 0), $word); same('another process', $other->('see'), $word);
  sys('pwrite64', fileno $f, $word, 8, 40000); same('by memory', peek($at + 40000, 8), $word);
};
harm { map_pages(16, 3, 0x12, $f, 0, $at) };`,

  'mapping of a deleted file': String.raw`
my $f = opened("$D/file"); give($f, pattern(2, 40960)); my ($one, $two) = map { map_pages(10, 3, 1, $f) } 1, 2; close $f; unlink "$D/file"; my $turn = 0;
check { same('content', peek($two + 4096, 4096), pattern(2, 4096)); my $word = sprintf 'turn%04d', ++$turn; poke($one, $word); same('the second mapping', peek($two, 8), $word) };
harm { map_pages(10, 3, 0x32, -1, 0, $two) };`,

  'locked memory': String.raw`
my $at = map_pages(16); poke($at, pattern(3, 65536)); sys('mlock', $at, 65536);
check { my $v = vma($at); ok("locked: $v->{VmFlags}", $v->{VmFlags} =~ /\blo\b/); same('size', $v->{Locked}, '64 kB'); same('content', peek($at, 65536), pattern(3, 65536)) };
harm { sys('mmap', $at, 65536, 3, 0x32, -1, 0) };`,

  'protection of pages': String.raw`
my $at = map_pages(8); my %prot = (0 => [0, '---p'], 2 => [1, 'r--p'], 4 => [5, 'r-xp'], 6 => [3, 'rw-p']);
for my $i (sort keys %prot) { poke($at + 4096 * $i, "page $i"); sys('mprotect', $at + 4096 * $i, 4096, $prot{$i}[0]) }
check { for my $i (sort keys %prot) { same("page $i", vma($at + 4096 * $i)->{perms}, $prot{$i}[1]);
  sys('mprotect', $at + 4096 * $i, 4096, 1); same("content of $i", peek($at + 4096 * $i, 6), "page $i"); sys('mprotect', $at + 4096 * $i, 4096, $prot{$i}[0]) } };
harm { sys('mprotect', $at, 4096, 3) };`,

  'advice on memory': String.raw`
my %advice = (dc => 10, dd => 16, hg => 14, nh => 15, mg => 12); my %at;
for my $flag (sort keys %advice) { my $at = map_pages(3); sys('mprotect', $at + 8192, 4096, 0); poke($at, $flag); delete $advice{$flag}, next if tries('madvise', $at, 8192, $advice{$flag}) == -1; $at{$flag} = $at }
check { for my $flag (sort keys %at) { my $v = vma($at{$flag})->{VmFlags}; ok("$flag in $v", $v =~ /\b$flag\b/); same('content', peek($at{$flag}, 2), $flag) } };
harm { sys('madvise', $at{dc}, 8192, 11) };`,

  'memory wiped on fork': String.raw`
my $at = map_pages(2); sys('madvise', $at, 8192, 18); poke($at, 'secret');
check { same('content', peek($at, 6), 'secret'); my $ask = child { peek($at, 6) eq "\0" x 6 ? 'wiped' : 'seen' }; same('the content in a child', $ask->('?'), 'wiped') };
harm { sys('madvise', $at, 8192, 19) };`,

  'mapping that grows down': String.raw`
my $at = map_pages(4, 3, 0x122); poke($at, 'bottom');
check { my $v = vma($at); ok("gd in $v->{VmFlags}", $v->{VmFlags} =~ /\bgd\b/); same('content', peek($at, 6), 'bottom') };
harm { map_pages(4, 3, 0x32, -1, 0, $at) };`,

  '/dev/zero mapped': String.raw`
my $f = opened('/dev/zero', O_RDWR); my ($own, $shared) = (map_pages(4, 3, 2, $f), map_pages(4, 3, 1, $f)); poke($_, 'written') for $own, $shared;
my $ask = child { poke($shared, $_[0]); peek($own, 7) };
check { same('private', peek($own, 7), 'written'); same('private in the child', $ask->('changed'), 'written'); same('shared', peek($shared, 7), 'changed'); poke($shared, 'written') };
harm { map_pages(4, 3, 0x32, -1, 0, $shared) };`,

  'memfd': String.raw`
my $f = adopt(sys('memfd_create', 'state', 1)); give($f, pattern(4, 100000)); sysseek($f, 555, SEEK_SET);
check { same('offset', at($f), 555); same('size', -s $f, 100000); same('content', pread($f, 100000, 0), pattern(4, 100000)); same('name', fdlink($f), '/memfd:state (deleted)') };
harm { truncate($f, 50000) };`,

  'memfd with seals': String.raw`
my $f = adopt(sys('memfd_create', 'sealed', 3)); give($f, 'as it is'); fcntl($f, 1033, 14) or die "seal: $!\n";
check { same('seals', fcntl($f, 1034, 0), 14); ok('it can be written', !defined syswrite($f, 'x')); same('content', pread($f, 99, 0), 'as it is') };
harm { close $f; $f = adopt(sys('memfd_create', 'sealed', 3)); give($f, 'as it is') };`,

  'memfd mapped twice': String.raw`
my $f = adopt(sys('memfd_create', 'twice', 1)); truncate($f, 65536); my ($all, $end) = (map_pages(16, 3, 1, $f), map_pages(1, 3, 1, $f, 61440)); my $turn = 0; poke($all, 'head');
check { my $word = sprintf 'turn%04d', ++$turn; poke($end, $word); same('the other mapping', peek($all + 61440, 8), $word); same('the descriptor', pread($f, 8, 61440), $word); same('head', peek($all, 4), 'head') };
harm { map_pages(1, 3, 0x32, -1, 0, $end) };`,

  'deep stack': String.raw`
# Comparisons of sort run in a loop of their own: the C stack grows.
my ($r, $w, $br, $bw); pipe($r, $w); pipe($br, $bw); my $deep; my $orders;
$deep = sub { my ($n) = @_; my $mine = "frame $n of $$"; if ($n == 0) { give($bw, "bottom\n"); $orders = line($r) // POSIX::_exit(0); return 0 }
  my $below; no warnings 'recursion'; my @x = sort { $below //= $deep->($n - 1); 0 } 1, 2; die "frame $n is spoilt" if $mine ne "frame $n of $$"; return $below + 1 };
my $pid = forked { close $w; close $br; while (1) { give($bw, $deep->(2000) . "\n") } };
close $r; close $bw; line($br);
check { give($w, "up\n"); same('frames', line($br), 2000); same('and down again', line($br), 'bottom') };
harm { kill 9, $pid };`,

  'heap with a large structure': String.raw`
my %big = map { $_ => { list => [1 .. $_ % 7], text => "number $_" x ($_ % 5) } } 1 .. 30000;
check { for (1 .. 30000) { same("text $_", $big{$_}{text}, "number $_" x ($_ % 5)); same("list $_", "@{$big{$_}{list}}", join ' ', 1 .. $_ % 7) } };
harm { $big{4711}{text} = 'x' };`,

  'huge pages switched off': String.raw`
sys('prctl', 41, 1, 0, 0, 0);
check { same('PR_GET_THP_DISABLE', sys('prctl', 42, 0, 0, 0, 0), 1) };
harm { sys('prctl', 41, 0, 0, 0, 0) };`,

  'registered memory barrier': String.raw`
my $make = sub { child { tries('membarrier', $_[0] + 0, 0, 0) == 0 ? 'ok' : ename($!+0) } }; my $ask = $make->();
same('registration', $ask->(16), 'ok');
check { same('barrier', $ask->(8), 'ok') };
harm { $ask = $make->() };`,
});
