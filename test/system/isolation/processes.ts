/** Attacks on processes and namespaces of the host. */
import { closeSync, openSync, readFileSync } from 'node:fs';
import type { Attack } from './attack.ts';
import { inVe, onHost, scripted } from './attack.ts';
import { hostNamespace } from './lab.ts';

/** Looks for a process by its name. */
const FIND = String.raw`
my ($marker) = @ARGV;
my ($found) = grep { (slurp("/proc/$_/cmdline") // '') =~ /^\Q$marker\E/ } pids();
refused("no such process is in sight") if !$found;
`;

/** Opens the user namespace of a process and asks for the one above. NS_GET_PARENT: ioctl_ns(2). */
const PARENT = String.raw`
sysopen(my $f, $ARGV[0], O_RDONLY) or failed("open");
my $r = ioctl($f, 0xb702, 0); $errno = $!+0;
verdict("the namespace above $ARGV[0]", $r ? 0 : -1);
`;

/** Descriptors, working folders and roots whose mount is not one of the process's own mounts. Pipes and sockets have none; /dev/null is harmless. */
const FOREIGN = String.raw`
my @pids = $ARGV[0] eq 'self' ? ($$) : pids();
my $seen = 0;
for my $p (@pids) {
  my %mine = map { /^(\d+) / ? ($1 => 1) : () } split /\n/, slurp("/proc/$p/mountinfo", 1 << 20) // next;
  for my $fd (map { s{.*/}{}r } glob("/proc/$p/fd/*")) {
    my $to = readlink("/proc/$p/fd/$fd") // next;
    $seen++;
    next if $to =~ /^(?:pipe|socket|anon_inode|mqueue|net|mnt|pid|user|uts|ipc|cgroup|time):|^\/memfd:/ || $to =~ /^\/dev\/null$/;
    my ($id) = (slurp("/proc/$p/fdinfo/$fd") // next) =~ /^mnt_id:\s*(\d+)/m;
    reached("descriptor $fd of process $p is $to of a foreign mount") if !$mine{$id};
  }
  for my $link ('cwd', 'root') { my $to = readlink("/proc/$p/$link") // next; reached("$link of process $p is $to") if $to =~ /unreachable/ }
}
refused("$seen descriptors, all of own mounts");
`;

const WRITE_SECRET = String.raw`
sysopen(my $f, $ARGV[0], O_WRONLY|O_APPEND) or failed("open");
reached("opened for writing");
`;

/** Attempts that run with the host's own view, but as the attacker's root: what holds when all other namespaces have failed. */
function byUserNamespace(name: string, refusal: RegExp, code: string, args: Parameters<typeof scripted>[0]['args']): Attack {
  return {
    name, guard: 'user namespace alone: the VE\'s root is an ordinary user of the host', refusal,
    inside: (lab) => onHost(code, args?.(lab), { userOf: lab.attacker.pid as number }),
    off: (lab) => onHost(code, args?.(lab)),
  };
}

const marker = (lab: { marker: string }): string[] => [lab.marker];

export const processAttacks: Attack[] = [
  scripted({
    name: 'see a process of the host', guard: 'pid namespace', refusal: /in sight/, off: { where: 'host' }, args: marker,
    code: `${FIND} reached("process $found");`,
  }),
  scripted({
    name: 'see a process of the host by mounting /proc anew', guard: 'pid namespace: a new proc shows that of the mounter', refusal: /in sight/, off: { where: 'host', unshare: ['-m'] }, args: marker,
    code: String.raw`own_mounts(); do_mount('proc', '/proc', 'proc', 0) == 0 or die "mount: ".name($errno); ${FIND} reached("process $found");`,
  }),
  scripted({
    name: 'signal a process of the host by its number', guard: 'pid namespace', refusal: /ESRCH|another process/, off: { where: 'host' }, args: (lab) => [lab.marker, lab.victim.pid],
    code: String.raw`my ($marker, $pid) = @ARGV;
kill('WINCH', $pid) or failed("kill");
(slurp("/proc/$pid/cmdline") // '') =~ /^\Q$marker\E/ or refused("another process has that number");
reached("signalled $pid");`,
  }),
  scripted({
    name: 'trace a process of the host', guard: 'pid namespace', refusal: /ESRCH|another process/, off: { where: 'host' }, args: (lab) => [lab.marker, lab.victim.pid],
    code: String.raw`my ($marker, $pid) = @ARGV;
my $r = call('ptrace', 0x4206, $pid+0, 0, 0); my $e = $errno;
(slurp("/proc/$pid/cmdline") // '') =~ /^\Q$marker\E/ or refused("ESRCH or another process");
$errno = $e; verdict("ptrace $pid", $r);`,
  }),
  byUserNamespace('signal a process of the host whose number is in sight', /EPERM/, String.raw`my ($pid) = @ARGV; kill('WINCH', $pid) or failed("kill"); reached("signalled $pid");`, (lab) => [lab.victim.pid]),
  byUserNamespace('read the memory of a process of the host whose number is in sight', /EPERM|EACCES/, String.raw`sysopen(my $f, "/proc/$ARGV[0]/mem", O_RDONLY) or failed("open"); reached("opened");`, (lab) => [lab.victim.pid]),
  byUserNamespace('write to a file of the host whose path is in sight', /EACCES/, WRITE_SECRET, (lab) => [lab.secret]),
  byUserNamespace('change the address of a link of the host', /EPERM/, String.raw`
socket(my $s, 16, 3, 0) or die; my $alias = "$ARGV[1]\0";
my $attr = pack('SS', 4 + length $alias, 20) . $alias; $attr .= "\0" x (-length($attr) & 3);
my $body = pack('CxSlLL', 0, 0, $ARGV[0], 0, 0) . $attr;
send($s, pack('LSSLL', 16 + length $body, 16, 5, 1, 0) . $body, 0, pack('SSLL', 16, 0, 0, 0)) or failed("send");
recv($s, my $answer, 4096, 0); my $code = unpack('l', substr($answer, 16, 4)); $errno = -$code;
verdict("alias of link $ARGV[0]", $code);`, (lab) => [Number(readFileSync(`/sys/class/net/${lab.neighbour.link}/ifindex`, 'utf8')), lab.marker]),
  scripted({
    name: 'read a file of the host through the root of process 1', guard: 'mount namespace', refusal: /ENOENT/, args: (lab) => [`/proc/1/root${lab.secret}`],
    // Process 1 of the host may be closed even to root; any other will do.
    off: { where: 'host', args: (lab) => [`/proc/${process.pid}/root${lab.secret}`] },
    code: String.raw`reached("read") if defined slurp($ARGV[0]); failed("open");`,
  }),
  scripted({
    name: 'enter a namespace of the host', guard: 'no process in sight has one, no descriptor leads to one', refusal: /no link/, off: { where: 'host' },
    args: () => (['net', 'mnt', 'pid', 'user'] as const).flatMap((kind) => [kind, hostNamespace(kind)]),
    code: String.raw`
my %want = @ARGV; 
for my $p (pids()) { for my $kind (keys %want) {
  my $path = "/proc/$p/ns/$kind"; my @s = stat($path) or next; next if $s[1] != $want{$kind};
  next if $kind eq 'user'; # setns(2) into one's own user namespace is always refused
  sysopen(my $f, $path, O_RDONLY) or next;
  call('setns', fileno $f, 0) == 0 and reached("setns to $path");
} }
refused("no link leads to a namespace of the host");`,
  }),
  scripted({
    name: 'climb from the own user namespace to the one above', guard: 'user namespace: ioctl_ns(2) shows none above the caller\'s', refusal: /EPERM/,
    args: () => ['/proc/self/ns/user'], code: PARENT, off: { where: 'host', args: (lab) => [`/proc/${lab.attacker.pid}/ns/user`] },
  }),
  scripted({
    name: 'climb from the own pid namespace to the one above', guard: 'pid namespace: ioctl_ns(2) shows none above the caller\'s', refusal: /EPERM/,
    args: () => ['/proc/self/ns/pid'], code: PARENT, off: { where: 'host', args: (lab) => [`/proc/${lab.attacker.pid}/ns/pid`] },
  }),
  {
    name: 'list the mounts of the host', guard: 'user namespace: listmount(2) asks for rights over the owner of a mount namespace', refusal: /EPERM|ENOENT|EINVAL/,
    inside: async (lab) => inVe(lab, 'attacker', LISTMOUNT, [await mountNamespaceId()]),
    off: async () => onHost(LISTMOUNT, [await mountNamespaceId()]),
  },
  {
    name: 'use a descriptor, working folder or root that leaked in', guard: 'close-on-exec everywhere; crun closes what it was not told to keep', refusal: /all of own mounts/,
    inside: (lab) => inVe(lab, 'attacker', FOREIGN, ['all']),
    async off(lab) {
      const fd = openSync(lab.dir, 'r');
      try {
        return await onHost(FOREIGN, ['self'], { unshare: ['-m'], descriptor: fd });
      } finally {
        closeSync(fd);
      }
    },
  },
  scripted({
    name: 'find a word of the daemon\'s environment', guard: 'fixed environment of init, exec and every program of the host', refusal: /nowhere/, off: { where: 'host' },
    args: (lab) => [`VELD_ISOLATION_SECRET=${lab.marker}`],
    code: String.raw`my ($word) = @ARGV;
for my $p (pids()) { next if $p == $$; reached("environment of process $p") if index(slurp("/proc/$p/environ") // '', $word) >= 0 }
reached("own environment") if exists $ENV{VELD_ISOLATION_SECRET}; refused("nowhere");`,
  }),
];

/** struct mnt_id_req of listmount(2) (linux/mount.h), version 1, at the root of the namespace with this id. */
const LISTMOUNT = String.raw`
my ($id) = @ARGV; absent("no ids of mount namespaces") if $id eq '';
my $req = pack('LLQQQ', 32, 0, 0xffffffffffffffff, 0, $id); my $list = "\0" x 800;
verdict("listmount", call('listmount', $req, $list, 100, 0), '', 'ENOSYS');
`;

/** NS_GET_MNTNS_ID (linux/nsfs.h) of this process's mount namespace, or nothing where the kernel has none. */
async function mountNamespaceId(): Promise<string> {
  const { said, state } = await onHost(String.raw`
sysopen(my $f, '/proc/self/ns/mnt', O_RDONLY) or die; my $id = "\0" x 8;
ioctl($f, 0x8008b705, $id) or refused("none"); reached(unpack('Q', $id));`);
  return state === 'reached' ? said : '';
}
