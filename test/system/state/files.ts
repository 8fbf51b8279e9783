/** Open files: offsets, flags, names that are gone or changed. */
import { category } from './program.ts';

export const files = category('files', {
  'offset of a file': String.raw`
my $f = opened("$D/file"); give($f, pattern(1, 5000)); sysseek($f, 1234, SEEK_SET);
check { same('offset', at($f), 1234); same('content', get($f, 100), substr(pattern(1, 5000), 1234, 100)); sysseek($f, 1234, SEEK_SET) };
harm { sysseek($f, 1235, SEEK_SET) };`,

  'append and non-blocking': String.raw`
my $f = opened("$D/file", O_RDWR|O_CREAT|O_APPEND|O_NONBLOCK); give($f, 'begin '); my $flags = fcntl($f, F_GETFL, 0); my $all = 'begin ';
check { same('flags', fcntl($f, F_GETFL, 0), $flags); sysseek($f, 0, SEEK_SET); give($f, 'more '); $all .= 'more '; same('content', pread($f, 1000, 0), $all) };
harm { fcntl($f, F_SETFL, O_NONBLOCK) };`,

  'access modes': String.raw`
spew("$D/file", 'content'); my ($r, $w) = (opened("$D/file", O_RDONLY), opened("$D/file", O_WRONLY|O_SYNC)); my @flags = map { fcntl($_, F_GETFL, 0) } $r, $w;
check { same('flags', join(' ', map { fcntl($_, F_GETFL, 0) } $r, $w), "@flags"); ok('a reader can write', !defined syswrite($r, 'x')); ok('a writer can read', !defined sysread($w, my $b, 1)); same('content', pread($r, 99, 0), 'content') };
harm { close $w; $w = opened("$D/file", O_WRONLY) };`,

  'close-on-exec': String.raw`
my ($kept, $closed) = map { opened("$D/$_") } 'kept', 'closed'; fcntl($kept, F_SETFD, 0); my @n = map { fileno($_) } $kept, $closed;
check { same('flags', join(' ', map { fcntl($_, F_GETFD, 0) + 0 } $kept, $closed), '0 1'); same('after exec', run('sh', '-c', join '; ', map { "readlink /proc/self/fd/$_ || echo none" } @n), "$D/kept\nnone\n") };
harm { fcntl($closed, F_SETFD, 0) };`,

  'deleted file': String.raw`
my $f = opened("$D/file"); give($f, pattern(3, 30000)); sysseek($f, 77, SEEK_SET); unlink "$D/file";
check { same('offset', at($f), 77); same('content', pread($f, 30000, 0), pattern(3, 30000)); same('names', (stat $f)[3], 0); ok('its name is back', !-e "$D/file") };
harm { truncate($f, 77) };`,

  'deleted file on a tmpfs': String.raw`
my $f = opened("$T/file", undef, 0640); give($f, pattern(4, 30000)); unlink "$T/file"; chown 7, 8, $f;
check { same('content', pread($f, 30000, 0), pattern(4, 30000)); same('owner and mode', join(' ', map { sprintf '%o', $_ } (stat $f)[4, 5, 2]), '7 10 100640'); ok('its name is back', !-e "$T/file") };
harm { chmod 0600, $f };`,

  'deleted file of 16 MB': String.raw`
my $f = opened("$D/file"); give($f, pattern($_, 1 << 20)) for 1 .. 16; unlink "$D/file";
check { same("megabyte $_", pread($f, 1 << 20, ($_ - 1) << 20), pattern($_, 1 << 20)) for 1 .. 16 };
harm { sys('pwrite64', fileno $f, 'x', 1, 5 << 20) };`,

  'deleted file with a hole': String.raw`
my $f = opened("$D/file"); give($f, 'head'); sysseek($f, 256 << 20, SEEK_SET); give($f, 'tail'); unlink "$D/file"; my $blocks = (stat $f)[12];
check { same('size', -s $f, (256 << 20) + 4); same('head', pread($f, 4, 0), 'head'); same('tail', pread($f, 4, 256 << 20), 'tail'); same('hole', pread($f, 99, 99999), "\0" x 99); ok('the hole is filled: ' . (stat $f)[12] . ' blocks', (stat $f)[12] <= $blocks + 64) };
harm { truncate($f, 4) };`,

  'deleted file of the template': String.raw`
my ($path) = glob('/usr/share/common-licenses/A*') or skip('no such file'); my $text = slurp($path); my $f = opened($path, O_RDONLY); unlink $path or die "unlink: $!\n";
check { same('content', pread($f, 1 << 20, 0), $text); ok('its name is back', !-e $path) };
harm { close $f; $f = opened("$D/other") };`,

  'deleted file that another name holds': String.raw`
my $f = opened("$D/one"); give($f, 'content'); link("$D/one", "$D/two") or die "link: $!\n"; unlink "$D/one"; my $turn = 0; my $inode = inode("$D/two");
check { same('inode', inode($f), inode("$D/two")); same('names', (stat $f)[3], 1); my $word = sprintf 'turn%04d', ++$turn; sys('pwrite64', fileno $f, $word, 8, 0); same('by the other name', slurp("$D/two"), $word);
  same('names in the folder', join(' ', map { s{.*/}{}r } glob "$D/{.,}*"), '. .. two') };
harm { close $f; $f = opened("$D/three") };`,

  'deleted file by two descriptors': String.raw`
my $f = opened("$D/file"); my $g = opened("$D/file"); unlink "$D/file"; give($f, 'first'); my $turn = 0; sysseek($g, 3, SEEK_SET);
my $ask = child { pread($g, 8, 0) };
check { same('one file', inode($g), inode($f)); same('offsets', at($f) . ' ' . at($g), '5 3'); my $word = sprintf 'turn%04d', ++$turn; sys('pwrite64', fileno $f, $word, 8, 0); same('by the second', pread($g, 8, 0), $word); same('in the child', $ask->('?'), $word) };
harm { close $g; $g = opened("$D/file"); unlink "$D/file"; sysseek($g, 3, SEEK_SET) };`,

  'deleted folder as working folder': String.raw`
mkdir "$D/gone"; chdir "$D/gone" or die; rmdir "$D/gone";
check { same('cwd', readlink('/proc/self/cwd'), "$D/gone (deleted)"); ok('a file can be made there', !sysopen(my $f, 'file', O_WRONLY|O_CREAT)); same('error', ename($!+0), 'ENOENT') };
harm { chdir $D };`,

  'deleted folder of a tmpfs, open': String.raw`
mkdir "$T/gone", 0750; my $f = opened("$T/gone", O_RDONLY|O_DIRECTORY); rmdir "$T/gone";
check { same('link', fdlink($f), "$T/gone (deleted)"); same('mode', sprintf('%o', (stat $f)[2]), '40750') };
harm { close $f; $f = opened($T, O_RDONLY) };`,

  'renamed file': String.raw`
my $f = opened("$D/before"); give($f, 'content'); rename "$D/before", "$D/after";
check { same('name', fdlink($f), "$D/after"); same('inode', inode($f), inode("$D/after")); same('content', pread($f, 99, 0), 'content') };
harm { unlink "$D/after" };`,

  'file that another has replaced': String.raw`
my $f = opened("$D/file"); give($f, 'old'); spew("$D/new", 'new'); rename "$D/new", "$D/file"; my $g = opened("$D/file");
check { same('old', pread($f, 9, 0), 'old'); same('new', slurp("$D/file"), 'new'); same('new, open', pread($g, 9, 0), 'new'); ok('both are one', inode($f) != inode($g)); same('names', (stat $f)[3], 0) };
harm { close $f; $f = opened("$D/file") };`,

  'file in a renamed folder': String.raw`
mkdir "$D/one"; my $f = opened("$D/one/file"); give($f, 'content'); my $dir = opened("$D/one", O_RDONLY); rename "$D/one", "$D/two"; mkdir "$D/one"; spew("$D/one/file", 'another');
check { same('name', fdlink($f), "$D/two/file"); same('folder', fdlink($dir), "$D/two"); same('content', pread($f, 99, 0), 'content') };
harm { rename "$D/two", "$D/three" };`,

  'file without a name from the beginning': String.raw`
my $f = adopt(sys('openat', -100, $T, O_RDWR | ($X64 ? 0x410000 : 0x404000), 0600)); give($f, pattern(5, 9000));
check { same('content', pread($f, 9000, 0), pattern(5, 9000)); same('names', (stat $f)[3], 0) };
harm { truncate($f, 0) };`,

  'duplicates share an offset': String.raw`
my $f = opened("$D/file"); give($f, pattern(6, 1000)); open(my $g, '+<&', $f) or die; my $turn = 0; sysseek($f, 10, SEEK_SET);
my $ask = child { sysseek($f, $_[0], SEEK_CUR) + 0 };
check { same('offset', at($g), 10 + $turn); $turn += 5; same('moved by the child', $ask->(5), 10 + $turn); same('seen here', at($f) . ' ' . at($g), join ' ', (10 + $turn) x 2) };
harm { close $f; $f = opened("$D/file") };`,

  'separate opens have separate offsets': String.raw`
spew("$D/file", pattern(7, 1000)); my ($f, $g) = map { opened("$D/file") } 1, 2; sysseek($f, 11, SEEK_SET); sysseek($g, 22, SEEK_SET);
check { same('offsets', at($f) . ' ' . at($g), '11 22'); same('one is the other', tries('kcmp', $$ + 0, $$ + 0, 0, fileno $f, fileno $g) > 0 ? 'no' : 'yes', 'no') };
harm { open($g, '+<&', $f) };`,

  'O_PATH': String.raw`
spew("$D/file", 'content'); symlink 'file', "$D/link"; my $f = sys('openat', -100, "$D/file", 0x200000); my $l = sys('openat', -100, "$D/link", 0x200000 | O_NOFOLLOW);
check { same('file', fdlink($f), "$D/file"); same('link', fdlink($l), "$D/link"); for ($f, $l) { ok("flags of $_", (oct((fdinfo($_) =~ /^flags:\s*(\d+)/m)[0]) & 0x200000)) } my $b = ' '; ok('it can be read', tries('read', $f, $b, 1) == -1) };
harm { sys('close', $l) };`,

  'folder that is being read': String.raw`
spew("$D/file$_", '') for 100 .. 199; my $f = opened($D, O_RDONLY|O_DIRECTORY);
my $some = sub { my $b = "\0" x 400; my $n = sys('getdents64', fileno $f, $b, 400); my @names; for (my $i = 0; $i < $n;) { my $size = unpack('S', substr($b, $i + 16, 2)); push @names, unpack('Z*', substr($b, $i + 19, $size - 19)); $i += $size } return @names };
my @first = map { $some->() } 1 .. 3; my $at = at($f);
check { same('position', at($f), $at); my (@rest, @part); push @rest, @part while @part = $some->(); my %seen; $seen{$_}++ for @first, @rest;
  same('entries', scalar keys %seen, 102); ok('one came twice', !grep { $_ > 1 } values %seen); sysseek($f, $at, SEEK_SET) };
harm { sysseek($f, 0, SEEK_SET) };`,

  'file by a symbolic link': String.raw`
spew("$D/file", 'content'); symlink 'file', "$D/link"; my $f = opened("$D/link"); unlink "$D/link"; symlink 'elsewhere', "$D/link"; my $turn = 0;
check { same('name', fdlink($f), "$D/file"); same('link', readlink("$D/link"), 'elsewhere'); same('content', pread($f, 99, 0), 'content') };
harm { spew("$D/file", 'changed') };`,

  'files of /proc': String.raw`
my ($own, $init, $sys) = map { opened($_, O_RDONLY) } '/proc/self/status', '/proc/1/stat', '/proc/sys/kernel/hostname'; my $host = get($sys); my $pid = $$; get($own, 50);
check { same('own', (pread($own, 65536, 0) =~ /^Pid:\s*(\d+)/m)[0], $pid); same('init', (split ' ', pread($init, 100, 0))[0], 1); same('host name', pread($sys, 100, 0), $host); same('offset', at($own), 50) };
harm { close $own; $own = opened('/proc/1/status', O_RDONLY) };`,

  'file of /proc of a dead process': String.raw`
my ($ask, $pid) = child { 'here' }; my $f = opened("/proc/$pid/status", O_RDONLY); kill 9, $pid; waitpid $pid, 0;
check { ok('it is alive', !defined sysread($f, my $b, 10)); same('error', ename($!+0), 'ESRCH') };
harm { close $f; $f = opened("/proc/$$/status", O_RDONLY) };`,

  'device files': String.raw`
my %f = map { $_ => opened("/dev/$_", O_RDWR) } qw(null zero full); $f{urandom} = opened('/dev/urandom', O_RDONLY);
check { same('null', get($f{null}, 9), ''); same('zero', get($f{zero}, 9), "\0" x 9); ok('full takes', !defined syswrite($f{full}, 'x')); same('error', ename($!+0), 'ENOSPC'); ok('urandom', get($f{urandom}, 16) ne get($f{urandom}, 16)) };
harm { close $f{zero}; $f{zero} = opened('/dev/null') };`,

  'files of /sys': String.raw`
my ($f, $g) = map { opened($_, O_RDONLY) } '/sys/fs/cgroup/cgroup.controllers', '/sys/kernel/mm/transparent_hugepage/enabled'; my @text = (pread($f, 999, 0), pread($g, 999, 0));
check { same('controllers', pread($f, 999, 0), $text[0]); same('huge pages', pread($g, 999, 0), $text[1]) };
harm { close $g; $g = opened('/dev/null') };`,

  '500 descriptors, some of high numbers': String.raw`
my %at; for my $i (1 .. 500) { my $f = opened("$D/file" . $i % 50); sysseek($f, $i * 3, SEEK_SET); $at{$i} = $f } POSIX::dup2(fileno $at{1}, $_) for 900, 1023, 2000;
check { same("offset of $_", at($at{$_}), $_ * 3) for 1 .. 500; for (900, 1023, 2000) { same("descriptor $_", fdlink($_), "$D/file1"); same("offset of $_", POSIX::lseek($_, 0, SEEK_CUR) + 0, 3) } };
harm { POSIX::close(2000) };`,

  'file of a tmpfs with owner, mode, time and names': String.raw`
my $f = opened("$T/file", undef, 04711); chown 11, 12, $f; chmod 04711, $f; utime 1111111111, 1222222222, $f; link("$T/file", "$T/second"); symlink 'nowhere', "$T/link"; POSIX::mkfifo("$T/fifo", 0620);
check { my @s = stat "$T/file"; same('mode, owner, names', sprintf('%o %d %d %d', @s[2, 4, 5, 3]), '104711 11 12 2'); same('time of change', $s[9], 1222222222); same('link', readlink("$T/link"), 'nowhere'); ok('no fifo', -p "$T/fifo"); same('open', inode($f), inode("$T/second")) };
harm { utime 1, 1, $f };`,
});
