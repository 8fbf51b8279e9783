/** Attacks on files, mounts, devices and kernel files of the host. */
import { cpSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Attack } from './attack.ts';
import { hostCommand, inVe, onHost, outcome, scripted } from './attack.ts';
import type { Lab } from './lab.ts';
import { PLANTED_PATH } from './lab.ts';

/** Tries to open every file below some folders for writing (nothing is written), with exceptions. */
const WRITABLE = String.raw`
my ($what, $except, @roots) = @ARGV; my $seen = 0;
own_mounts(); if ($what eq 'sysfs') { do_mount('none', '/sys', '', 0x1020) == 0 or die "remount: ".name($errno) }
my @todo = @roots;
while (defined(my $d = shift @todo)) {
  opendir(my $h, $d) or next;
  for my $n (readdir $h) {
    next if $n =~ /^\.\.?$/; my $p = "$d/$n"; next if -l $p || $p =~ /$except/;
    if (-d _) { push @todo, $p; next }
    next if -c _ && (stat _)[6] == 0x103; # /dev/null as a mask
    $seen++; sysopen(my $f, $p, O_WRONLY|O_NONBLOCK|O_NOCTTY) and reached("$p can be written");
  }
}
$seen > 20 or die "only $seen files seen"; refused("none of $seen files");
`;

/** The classic way out of a chroot: a second one below, while the working folder stays above. With a folder as first argument it goes to jail first. */
const CHROOT = String.raw`
my ($secret, $jail) = @ARGV;
if ($jail) { chroot($jail) && chdir('/') or die "jail: $!" }
mkdir "/tmp/.deep$$" or mkdir "/.deep$$"; my ($deep) = grep { -d } "/tmp/.deep$$", "/.deep$$";
chroot($deep) or failed("chroot"); chdir('..') for 1 .. 40; chroot('.') or failed("chroot");
my $found = defined slurp($secret); rmdir "/tmp/.deep$$"; reached("read") if $found; refused("the root above is the VE's own");
`;

/** Makes a block device node (7:0, a loop device without a file) where it can, and opens it. */
const MKNOD = String.raw`
my $e = '';
for my $dir (@ARGV) {
  my $node = "$dir/.node$$"; my $r = call('mknodat', -100, $node, 0060600, 7 << 8); 
  if ($r < 0) { $e .= " mknod in $dir: " . name($errno); next }
  my $ok = sysopen(my $f, $node, O_RDONLY); my $why = name($!+0); unlink $node;
  reached("opened a node in $dir") if $ok; absent("no loop device") if $why =~ /ENXIO|ENODEV/; $e .= " open in $dir: $why";
}
refused($e);
`;

/** Takes nodev off the root if it may, then opens a device. */
const OPEN_DEVICE = String.raw`
own_mounts(); do_mount('none', '/', '', 0x1020);
sysopen(my $f, $ARGV[0], O_RDONLY) and reached("opened $ARGV[0]"); absent("no loop device") if $!{ENXIO} || $!{ENODEV}; failed("open");
`;

/** Mounts a file system that shows or is the host's. Arguments: type, source, name of an entry that shows that it is the real one. */
const MOUNT = String.raw`
my ($type, $source, $entry) = @ARGV; own_mounts();
my $r = do_mount($source, '/tmp', $type, 1);
reached("$type is mounted") if $r == 0 && (!$entry || -e "/tmp/$entry"); refused("$type is another") if $r == 0; verdict("mount $type", $r, '', 'ENODEV');
`;

/** Takes the masks off, then looks behind them. */
const UNMASK = String.raw`
own_mounts(); my ($n, @why) = (0);
for my $p (@ARGV) { 1 while call('umount2', my $q = $p, 2) == 0; next if !-e $p; $n++;
  if (sysopen(my $f, $p, O_RDONLY|O_NONBLOCK)) { reached("$p can be read") if -d $p ? 0 : defined sysread($f, my $b, 1) }
  push @why, name($!+0) }
refused("$n files behind masks: @why");
`;

const OPEN_FOR_WRITING = String.raw`
own_mounts(); my ($path, $top) = @ARGV; -e $path or absent("no $path"); do_mount('none', $top, '', 0x1020); 1 while call('umount2', my $q = $path, 2) == 0;
sysopen(my $f, $path, O_WRONLY) or failed("open"); reached("opened for writing");
`;

const WRITE_PRESENT = String.raw`
my ($path) = @ARGV; -e $path or absent("no $path"); defined(my $value = slurp($path)) or die "$path: $!";
sysopen(my $f, $path, O_WRONLY) or failed("open"); defined syswrite($f, $value) or failed("write"); reached("wrote the present value");
`;

/** Files of /sys and /proc that belong to the writer's own namespaces or processes, or throw away what is written. */
const OWN_SYS = String.raw`^/sys/fs/cgroup|^/sys/kernel/(?:debug|tracing|config)|^/sys/fs/fuse/connections|/net/(?:eth0|lo|tunl0|sit0|ip6tnl0|gre0|gretap0|erspan0|ip_vti0|ip6_vti0|ip6gre0)/`;
const OWN_SYSCTL = String.raw`^/proc/sys/(?:net|user|fs/mqueue|fs/binfmt_misc)/|^/proc/sys/kernel/(?:auto_msgmni|msg|sem|shm|ns_last_pid|pid_max|hostname|domainname)`;
const OWN_PROC = String.raw`^/proc/(?:\d+|self|thread-self|sys|net|bus|fs|irq|tty|driver|scsi|acpi|sysrq-trigger|sysvipc|asound)(?:/|$)|^/proc/pressure/`;

export const fileAttacks: Attack[] = [
  scripted({
    name: 'read a file of the host by its path', guard: 'mount namespace', refusal: /ENOENT/, off: { where: 'host' }, args: (lab) => [lab.secret],
    code: String.raw`reached("read") if defined slurp($ARGV[0]); failed("open");`,
  }),
  scripted({
    name: 'leave the root by a second chroot', guard: 'pivot_root: nothing is mounted above the root', refusal: /VE's own/, code: CHROOT,
    args: (lab) => [lab.secret], off: { where: 'host', args: (lab) => [lab.secret, jail(lab)] },
  }),
  {
    name: 'write through to the template', guard: 'overlay: what is written is copied up; the lower layer is a read-only mount', refusal: /as it was/,
    async inside(lab) {
      const file = layerFile(lab, 'etc/passwd');
      const before = readFileSync(file);
      const { exitCode } = await lab.veld.exec('attacker', 'sh', '-c', 'cp -p /etc/passwd /tmp/p && echo "#" >>/etc/passwd && chmod 666 /etc/passwd && cp -p /tmp/p /etc/passwd && touch /etc/passwd');
      if (exitCode !== 0) throw new Error('the file could not be written inside');
      const others = await lab.veld.exec('neighbour', 'tail', '-1', '/etc/passwd');
      return outcome(!readFileSync(file).equals(before) || others.stdout.startsWith('#'), 'the template is as it was');
    },
    async off(lab) {
      const folder = scratch(lab, 'layer');
      writeFileSync(join(folder, 'passwd'), 'root\n');
      await hostCommand(['unshare', '-m', '--propagation', 'private', 'sh', '-c', 'mount --bind "$0" /mnt && echo "#" >>/mnt/passwd', folder]);
      return outcome(readFileSync(join(folder, 'passwd'), 'utf8').includes('#'), 'a plain bind writes through');
    },
  },
  scripted({
    name: 'change the options of the root overlay', guard: 'user namespace: its superblock belongs to the host\'s', refusal: /EPERM/, args: () => [''], off: { where: 'host', unshare: ['-m'], args: (lab) => [scratch(lab, 'over')] },
    code: String.raw`my ($make) = @ARGV; own_mounts(); my $target = '/';
if ($make) { mkdir "$make/$_" for qw(l u w m); $target = "$make/m"; do_mount('x', $target, 'overlay', 0, "lowerdir=$make/l,upperdir=$make/u,workdir=$make/w") == 0 or die name($errno) }
verdict("remount", do_mount('none', $target, '', 32, ''));`,
  }),
  scripted({
    name: 'make a device node of a disk', guard: 'user namespace: mknod(2) of devices needs the host\'s CAP_MKNOD', refusal: /mknod in \S+: EPERM/, code: MKNOD,
    args: () => ['/root', '/dev', '/run', '/tmp'], off: { where: 'host', args: (lab) => [lab.dir] },
  }),
  scripted({
    name: 'open a disk\'s device node that a template brought', guard: 'nodev on the root, locked by the user namespace', refusal: /EACCES|EPERM|ENOENT/, code: OPEN_DEVICE, args: () => [PLANTED_PATH],
    off: { where: 'host', unshare: ['-m'], args: (lab) => [layerFile(lab, PLANTED_PATH)] },
  }),
  scripted({
    name: 'find an unsafe device in /dev', guard: 'crun binds null, zero, full, random, urandom and tty, nothing else', refusal: /only/, off: { where: 'host' },
    code: String.raw`my @bad; my @todo = ('/dev');
while (defined(my $d = shift @todo)) { next if $d eq '/dev/pts'; for my $p (glob "$d/*") { next if -l $p; if (-d _) { push @todo, $p } elsif ((-b _ || -c _) && $p !~ m{^/dev/(?:null|zero|full|random|urandom|tty|ptmx|console)$}) { push @bad, $p } } }
reached("@bad[0..0]") if @bad; refused("only safe ones");`,
  }),
  {
    name: 'mount a disk', guard: 'user namespace: file systems of disks are mounted by the host\'s root only', refusal: /EPERM/,
    inside: (lab) => inVe(lab, 'attacker', MOUNT, ['ext4', '/dev/loop0', '']),
    async off(lab) {
      const image = join(scratch(lab, 'disk'), 'image');
      await hostCommand(['truncate', '-s', '4M', image]);
      await hostCommand(['/sbin/mkfs.ext4', '-q', image]);
      const { stdout: loop, stderr } = await hostCommand(['losetup', '-f', '--show', image]);
      if (loop === '') return { state: 'absent', said: `no loop device: ${stderr}` };
      try {
        return await onHost(MOUNT, ['ext4', loop.trim(), 'lost+found'], { unshare: ['-m'] });
      } finally {
        await hostCommand(['losetup', '-d', loop.trim()]);
      }
    },
  },
  scripted({ name: 'mount the host\'s device file system', guard: 'user namespace', refusal: /EPERM/, code: MOUNT, args: () => ['devtmpfs', 'none', 'null'], off: { where: 'host', unshare: ['-m'] } }),
  scripted({ name: 'mount the kernel\'s debugging files', guard: 'user namespace', refusal: /EPERM/, code: MOUNT, args: () => ['debugfs', 'none', ''], off: { where: 'host', unshare: ['-m'] } }),
  scripted({ name: 'mount the kernel\'s tracing files', guard: 'user namespace', refusal: /EPERM/, code: MOUNT, args: () => ['tracefs', 'none', ''], off: { where: 'host', unshare: ['-m'] } }),
  scripted({ name: 'mount the security modules\' files', guard: 'user namespace', refusal: /EPERM/, code: MOUNT, args: () => ['securityfs', 'none', ''], off: { where: 'host', unshare: ['-m'] } }),
  scripted({
    name: 'take the masks off and read behind them', guard: 'user namespace: the files behind the masks belong to the host\'s root', refusal: /[1-9]\d* files.*(?:EACCES|EPERM)/, code: UNMASK, off: { where: 'host', unshare: ['-m'] },
    args: () => ['/proc/kcore', '/proc/timer_list', '/proc/sched_debug', '/proc/kmsg', '/proc/kpagecount', '/proc/kpageflags', '/proc/vmallocinfo', '/proc/slabinfo', '/proc/iomem-private', '/sys/kernel/notes-private'],
  }),
  scripted({
    name: 'open the magic SysRq trigger', guard: 'user namespace: the file belongs to the host\'s root', refusal: /EACCES|EPERM/, code: OPEN_FOR_WRITING, args: () => ['/proc/sysrq-trigger', '/proc/sysrq-trigger'],
    off: { where: 'host', unshare: ['-m'] },
  }),
  scripted({ name: 'name a program of the host that gets core dumps', guard: 'user namespace: the sysctl belongs to the host\'s root', refusal: /EACCES/, code: WRITE_PRESENT, args: () => ['/proc/sys/kernel/core_pattern'], off: { where: 'host' } }),
  scripted({ name: 'name a program of the host that loads modules', guard: 'user namespace: the sysctl belongs to the host\'s root', refusal: /EACCES/, code: WRITE_PRESENT, args: () => ['/proc/sys/kernel/modprobe'], off: { where: 'host' } }),
  scripted({ name: 'write to any sysctl that is not the VE\'s own', guard: 'user namespace', refusal: /none of/, code: WRITABLE, args: () => ['sysctl', OWN_SYSCTL, '/proc/sys'], off: { where: 'host', unshare: ['-m'] } }),
  scripted({ name: 'write to any other file of /proc', guard: 'user namespace', refusal: /none of/, code: WRITABLE, args: () => ['proc', OWN_PROC, '/proc'], off: { where: 'host', unshare: ['-m'] } }),
  scripted({ name: 'remount /sys for writing and write to the host\'s devices', guard: 'user namespace', refusal: /none of/, code: WRITABLE, args: () => ['sysfs', OWN_SYS, '/sys'], off: { where: 'host', unshare: ['-m'] } }),
  scripted({
    name: 'write an overlay\'s own attributes, which a layer made of this upper would obey', guard: 'user namespace: trusted.* is for the host\'s root', refusal: /EPERM/, off: { where: 'host' },
    code: String.raw`my $p = "/var/tmp/.attr$$"; sysopen(my $f, $p, O_WRONLY|O_CREAT|O_EXCL, 0600) or die; my ($path, $name, $value) = ("$p\0", "trusted.overlay.redirect\0", '/etc');
my $r = call('setxattr', $path, $name, $value, 4, 0); my $e = $errno; unlink $p; $errno = $e; verdict('setxattr', $r, '', 'EOPNOTSUPP');`,
  }),
  {
    name: 'set the host name of the host', guard: 'uts namespace', refusal: /its own/,
    async inside(lab) {
      const before = readFileSync('/proc/sys/kernel/hostname', 'utf8');
      const { exitCode } = await lab.veld.exec('attacker', 'sh', '-c', 'hostname stolen && test "$(uname -n)" = stolen && hostname attacker');
      if (exitCode !== 0) throw new Error('the VE could not set its own host name');
      return outcome(readFileSync('/proc/sys/kernel/hostname', 'utf8') !== before, 'it set its own');
    },
    async off() {
      const { stdout } = await hostCommand(['unshare', '-u', 'sh', '-c', '(hostname stolen); uname -n']);
      return outcome(stdout.trim() === 'stolen', 'another process of the same namespace has the name');
    },
  },
];

/** A file of the template's tree, in this instance's copy. */
function layerFile(lab: Lab, path: string): string {
  return join(lab.veld.settings.stateDir, 'layers', topLayer(lab), 'fs', path);
}

function topLayer(lab: Lab): string {
  const mounts = readFileSync(join(lab.veld.settings.runDir, 'ves', String(lab.attacker.number), 'fstab'), 'utf8');
  return [...mounts.matchAll(/layers\/([^/]+)\//g)].at(-1)?.[1] as string;
}

/** A fresh folder of the host. */
function scratch(lab: Lab, name: string): string {
  const folder = join(lab.dir, name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder);
  return folder;
}

function jail(lab: Lab): string {
  const folder = scratch(lab, 'jail');
  mkdirSync(join(folder, 'tmp'));
  cpSync('/etc/hostname', join(folder, 'hostname'));
  return folder;
}
