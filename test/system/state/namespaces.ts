/** Mounts and namespaces of a VE's own. */
import { category } from './program.ts';

export const MOUNT_HELPERS = String.raw`
sub do_mount { my ($source, $target, $type, $flags, $data) = @_; return sys('mount', $source, $target, $type, $flags // 0, $data // '') }
sub own_mounts { sys('unshare', 0x20000); do_mount('none', '/', '', 0x44000) }
sub mount_line { my ($target, $pid) = @_; my ($l) = grep { (split ' ')[4] eq $target } reverse split /\n/, slurp('/proc/' . ($pid // 'self') . '/mountinfo') // ''; return 'none' if !$l; my @f = split / /, $l; my ($type, undef, $options) = (split / - /, $l)[1] =~ /^(\S+) (\S+) (.*)/; my ($tags) = $l =~ / ((?:(?:shared|master|propagate_from|unbindable)\S* ?)*)- /; return "$f[3] $f[5] $type " . ($tags =~ s/:\d+//gr) . join(',', grep { /^(?:size|nr_inodes|mode)=/ } split /,/, $options) }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, MOUNT_HELPERS + code]));

export const namespaces = category('namespaces', both({
  'mounts of its own': String.raw`
mkdir "$D/$_" for qw(tmpfs bind source); spew("$D/source/file", 'source'); my ($ask, $pid) = child { if ($_[0] eq 'go') { own_mounts(); do_mount('state', "$D/tmpfs", 'tmpfs', 6, 'size=3m,nr_inodes=99,mode=711'); spew("$D/tmpfs/file", 'inside'); do_mount("$D/source", "$D/bind", '', 4096) } join ' ', map { slurp("$D/$_/file") // 'none' } qw(tmpfs bind) }; same('child', $ask->('go'), 'inside source'); my $look = sub { join '; ', map { mount_line("$D/$_", $pid) } qw(tmpfs bind) }; my $was = $look->();
check { same('mounts', $look->(), $was); same('files', $ask->('?'), 'inside source'); same('here', mount_line("$D/tmpfs"), 'none') };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'tmpfs of the VE': String.raw`
mkdir "$D/tmpfs"; do_mount('state', "$D/tmpfs", 'tmpfs', 2, 'size=5m,mode=1777'); mkdir "$D/tmpfs/sub"; spew("$D/tmpfs/sub/$_", pattern($_, 20000)) for 1 .. 20; my $was = mount_line("$D/tmpfs"); my $f = opened("$D/tmpfs/sub/3", O_RDONLY);
check { same('mount', mount_line("$D/tmpfs"), $was); same("file $_", slurp("$D/tmpfs/sub/$_"), pattern($_, 20000)) for 1 .. 20; same('open', inode($f), inode("$D/tmpfs/sub/3")) };
harm { run('umount', '-l', "$D/tmpfs") };`,

  'bind mounts': String.raw`
mkdir "$D/$_" for qw(source bind); spew("$D/source/file", 'by the bind'); spew("$D/$_", $_) for qw(one two); do_mount("$D/source", "$D/bind", '', 4096); do_mount('none', "$D/bind", '', 4096 | 32 | 4 | 1); do_mount("$D/one", "$D/two", '', 4096); my $look = sub { join '; ', map { mount_line("$D/$_") } qw(bind two) }; my $was = $look->();
check { same('mounts', $look->(), $was); same('folder', slurp("$D/bind/file"), 'by the bind'); same('file', slurp("$D/two"), 'one'); ok('it can be written', !sysopen(my $f, "$D/bind/file", O_WRONLY)); same('error', ename($!+0), 'EROFS') };
harm { run('umount', "$D/two") };`,

  'mounts over each other': String.raw`
mkdir "$D/over"; for (1, 2) { do_mount("state$_", "$D/over", 'tmpfs', 0, 'size=1m'); spew("$D/over/file", "layer $_") } my $f = opened("$D/over/file", O_RDONLY);
check { same('top', slurp("$D/over/file"), 'layer 2'); same('open', pread($f, 99, 0), 'layer 2'); same('mounts', scalar(grep { (split ' ')[4] eq "$D/over" } split /\n/, slurp('/proc/self/mountinfo')), 2) };
harm { run('umount', '-l', "$D/over") };`,

  'shared and slave mounts': String.raw`
mkdir "$D/$_" for qw(a b); my ($ask, $pid) = child { if ($_[0] eq 'go') { own_mounts(); do_mount('state', "$D/a", 'tmpfs', 0, 'size=1m'); do_mount('none', "$D/a", '', 1 << 20); do_mount("$D/a", "$D/b", '', 4096); do_mount('none', "$D/b", '', 1 << 19); mkdir "$D/a/sub" }
  do_mount('sub', "$D/a/sub", 'tmpfs', 0, 'size=1m'); my $r = mount_line("$D/b/sub") =~ /tmpfs/ ? 'it spreads' : 'it does not'; run('umount', "$D/a/sub"); $r }; same('child', $ask->('go'), 'it spreads'); my $look = sub { join '; ', map { mount_line("$D/$_", $pid) } qw(a b) }; my $was = $look->(); ok($was, $was =~ /shared.*master/);
check { same('mounts', $look->(), $was); same('child', $ask->('?'), 'it spreads') };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'working folder on a mount that is gone for others': String.raw`
mkdir "$D/m"; my ($ask, $pid) = child { if ($_[0] eq 'go') { own_mounts(); do_mount('state', "$D/m", 'tmpfs', 0, 'size=1m'); spew("$D/m/file", 'inside'); chdir "$D/m" } readlink('/proc/self/cwd') . ' ' . (slurp('file') // 'none') }; same('child', $ask->('go'), "$D/m inside");
check { same('child', $ask->('?'), "$D/m inside") };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'descriptor of a namespace': String.raw`
my $f = opened('/proc/self/ns/net', O_RDONLY); my $was = fdlink($f);
check { same('of the VE', fdlink($f), readlink('/proc/1/ns/net')); same('setns', tries('setns', fileno $f, 0x40000000), 0) };
harm { close $f; $f = opened('/dev/null') };`,
}));
