/** Attacks on control groups, limits, and what the kernel shares between processes: IPC, keys, sockets without a path. */
import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Attack, Outcome } from './attack.ts';
import { inVe, onHost, outcome, scripted } from './attack.ts';
import type { Lab } from './lab.ts';

const hybrid = existsSync('/sys/fs/cgroup/unified/cgroup.procs');
const UNIFIED = hybrid ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup';

/** Directory of a VE's group: in the hierarchy of a controller on a hybrid host, else in the one hierarchy. */
function group(lab: Lab, number: number, controller?: string): string {
  const path = /^0::(.*)$/m.exec(readFileSync(`/proc/${(number === lab.neighbour.number ? lab.neighbour : lab.attacker).pid}/cgroup`, 'utf8'))?.[1] ?? '';
  const base = path.slice(0, path.indexOf(`/${number}`) + 1 + String(number).length);
  return (controller !== undefined && hybrid ? `/sys/fs/cgroup/${controller}` : UNIFIED) + base;
}

/** Writes its present value to a file of a group. With `mount` it first mounts the hierarchy of that controller and uses the root of what it sees. */
const WRITE_LIMIT = String.raw`
my ($file, $mount) = @ARGV;
if ($mount) { own_mounts(); do_mount('none', '/tmp', 'cgroup', 0, $mount) == 0 or die "mount: ".name($errno); $file = "/tmp/$file" }
defined(my $value = slurp($file)) or failed("read $file"); chomp $value;
sysopen(my $f, $file, O_WRONLY) or failed("open"); defined syswrite($f, $value) or failed("write"); reached("wrote to $file");
`;

/** Forks until it may not, at most so often; the children wait for the end of the parent. */
const FORKS = String.raw`
my ($most) = @ARGV; pipe(my $r, my $w); my ($n, $why) = (0, '');
for (1 .. $most) { my $p = fork; if (!defined $p) { $why = name($!+0); last } if (!$p) { close $w; sysread($r, my $b, 1); POSIX::_exit(0) } $n++ }
close $w; 1 while waitpid(-1, 0) > 0; reached("$n processes") if $n == $most; refused("$why after $n");
`;

const ALLOCATE = String.raw`
my ($mib) = @ARGV; my $p = fork // die "fork: $!";
if (!$p) { my @keep; push @keep, 'x' x (1 << 20) for 1 .. $mib; POSIX::_exit(0) }
waitpid($p, 0); reached("$mib MiB") if $? == 0; refused("killed by signal " . ($? & 127));
`;

const INOTIFY = String.raw`
my ($most) = @ARGV; my ($n, $why) = (0, '');
my @kids; pipe(my $r, my $w);
while ($n < $most && @kids < 40) {
  pipe(my $cr, my $cw); my $p = fork // last;
  if (!$p) { close $w; close $cr; my $i = 0; while ($i < 900 && $n + $i < $most) { last if call('inotify_init1', 0) < 0; $i++ } syswrite($cw, "$i " . name($errno // 0) . "\n"); close $cw; sysread($r, my $b, 1); POSIX::_exit(0) }
  close $cw; push @kids, $p; my $line = <$cr>; my ($i, $e) = split ' ', $line; $n += $i; $why = $e; last if $i < 900;
}
close $w; waitpid($_, 0) for @kids; reached("$n instances") if $n >= $most; refused("$why after $n");
`;

/** Timers, each of which has a place in the queue of signals, kept for 20 s by a process that outlives the script. */
const TIMERS = String.raw`
my ($most) = @ARGV; pipe(my $r, my $w); my $p = fork // die;
if (!$p) { close $r; POSIX::setsid(); open STDOUT, '>', '/dev/null'; open STDERR, '>', '/dev/null';
  my ($n, $b) = (0, "\0" x 8); while ($n < $most) { last if call('timer_create', 1, 0, $b) < 0; $n++ } syswrite($w, "$$ $n\n"); close $w; sleep 20; POSIX::_exit(0) }
close $w; my ($pid, $n) = split ' ', <$r>; $n == $most ? reached("$pid") : refused("after $n");
`;

/** Signals that are queued for the host's root, or count for it. */
function queuedOfRoot(): number {
  return Number(/^SigQ:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}

/** Whether timers that somebody makes count for the host's root. */
async function countedForRoot(make: () => Promise<Outcome>): Promise<Outcome> {
  const before = queuedOfRoot();
  const made = await make();
  if (made.state !== 'reached') throw new Error(`No timers: ${made.said}`);
  const more = queuedOfRoot() - before;
  return outcome(more >= TIMERS_MADE / 2, `${more >= TIMERS_MADE / 2 ? '' : 'not '}counted for the host's root`);
}

const TIMERS_MADE = 2000;

export const groupAttacks: Attack[] = [
  {
    name: 'raise the own memory limit', guard: 'delegation of four files only, and none of a v1 group', refusal: /EACCES|EPERM/,
    inside: (lab) => (hybrid ? inVe(lab, 'attacker', WRITE_LIMIT, ['memory.limit_in_bytes', 'memory']) : inVe(lab, 'attacker', WRITE_LIMIT, ['/sys/fs/cgroup/memory.max'])),
    off: (lab) => onHost(WRITE_LIMIT, [`${group(lab, lab.attacker.number, 'memory')}/${hybrid ? 'memory.limit_in_bytes' : 'memory.max'}`]),
  },
  {
    name: 'raise the own limit of nested groups', guard: 'delegation of four files only', refusal: /EACCES/,
    inside: (lab) => inVe(lab, 'attacker', WRITE_LIMIT, ['/sys/fs/cgroup/cgroup.max.descendants']),
    off: (lab) => onHost(WRITE_LIMIT, [`${group(lab, lab.attacker.number)}/cgroup.max.descendants`]),
  },
  {
    name: 'thaw itself', guard: 'delegation of four files only', refusal: /EACCES/,
    inside: (lab) => inVe(lab, 'attacker', WRITE_LIMIT, ['/sys/fs/cgroup/cgroup.freeze']),
    off: (lab) => onHost(WRITE_LIMIT, [`${group(lab, lab.attacker.number)}/cgroup.freeze`]),
  },
  scripted({
    name: 'see the groups of others by mounting the hierarchy anew', guard: 'cgroup namespace, made after the VE entered its groups', refusal: /own/, args: (lab) => [lab.neighbour.number],
    code: String.raw`my ($number) = @ARGV; own_mounts(); do_mount('none', '/tmp', 'cgroup2', 0) == 0 or die "mount: ".name($errno); 
my @found = grep { -d } map { glob "/tmp" . ('/*' x $_) . "/$number" } 0 .. 4; reached("@found[0..0]") if @found; refused("only the own ones");`,
    off: { where: 'host', unshare: ['-m'] },
  }),
  {
    name: 'move into the group of another VE whose path is in sight', guard: 'user namespace alone: the group belongs to another range', refusal: /EACCES/,
    inside: (lab) => onHost(JOIN, [group(lab, lab.neighbour.number)], { userOf: lab.attacker.pid as number }),
    off: (lab) => onHost(JOIN, [group(lab, lab.neighbour.number)]),
  },
  {
    name: 'name a program of the host that runs when a group is empty', guard: 'cgroup namespace: release_agent is in the root of a hierarchy only', refusal: /ENOENT|EACCES/,
    inside: (lab) => inVe(lab, 'attacker', RELEASE_AGENT, ['']),
    off: async () => (hybrid ? onHost(RELEASE_AGENT, ['/sys/fs/cgroup/memory/release_agent']) : { state: 'absent', said: 'no v1 hierarchy' }),
  },
  scripted({
    name: 'start processes without end', guard: 'pids.limit', refusal: /EAGAIN after \d+/, args: () => [400], off: { where: 'loose' }, code: FORKS,
  }),
  scripted({
    name: 'use twice the memory that it may', guard: 'memory.limit: something inside is killed, nothing outside', refusal: /signal 9/, args: () => [256], off: { where: 'loose' }, code: ALLOCATE,
  }),
  {
    name: 'use up the inotify instances of the host\'s root, which all VEs share', guard: 'user.max_inotify_instances of its user namespace', refusal: /EMFILE after/,
    inside: (lab) => inVe(lab, 'attacker', INOTIFY, [inotifyShare()]),
    off: () => onHost(INOTIFY, [inotifyShare()]),
  },
  {
    name: 'use up the queued signals, and with them timers, of the host\'s root and of all VEs', guard: 'its user namespace belongs to its own root', refusal: /not counted/,
    inside: (lab) => countedForRoot(() => inVe(lab, 'attacker', TIMERS, [TIMERS_MADE])),
    off: () => countedForRoot(() => onHost(TIMERS, [TIMERS_MADE], { unshare: ['--user', '--map-root-user'] })),
  },
  {
    name: 'raise the limits of its own user namespace', guard: 'no CAP_SYS_RESOURCE', refusal: /EACCES|EPERM/,
    inside: (lab) => inVe(lab, 'attacker', WRITE_LIMIT, ['/proc/sys/user/max_inotify_instances']),
    // Entered from the host, the same user namespace gives all capabilities.
    off: (lab) => onHost(WRITE_LIMIT, ['/proc/sys/user/max_inotify_instances'], { userOf: lab.attacker.pid as number }),
  },
];

/** More than any VE needs, far less than the host has. */
function inotifyShare(): number {
  return Math.floor(Number(readFileSync('/proc/sys/fs/inotify/max_user_instances', 'utf8')) / 4);
}

const JOIN = String.raw`
my ($group) = @ARGV; my $p = fork // die; if (!$p) { sleep 20; POSIX::_exit(0) }
my $ok = sysopen(my $f, "$group/veld-exec/cgroup.procs", O_WRONLY); $ok ||= sysopen($f, "$group/cgroup.procs", O_WRONLY); my $why = $ok ? '' : name($!+0);
kill('KILL', $p); waitpid($p, 0); reached("opened the list of processes") if $ok; refused("open: $why");
`;

const RELEASE_AGENT = String.raw`
my ($file) = @ARGV;
if (!$file) { own_mounts(); do_mount('none', '/tmp', 'cgroup', 0, 'memory') == 0 or failed("mount: ".name($errno)." EACCES"); $file = '/tmp/release_agent' }
sysopen(my $f, $file, O_WRONLY) or failed("open"); reached("opened $file");
`;

const SHM = String.raw`verdict('shmget', call('shmget', $ARGV[0]+0, 0, 0));`;
const QUEUE = String.raw`my $n = "$ARGV[0]\0"; verdict('mq_open', call('mq_open', $n, 0, 0, 0), '', 'ENOSYS');`;
const ABSTRACT = String.raw`socket(my $s, AF_UNIX, SOCK_STREAM, 0) or die; connect($s, pack('Sa*', AF_UNIX, "\0$ARGV[0]")) or failed("connect"); reached("connected");`;
const KEY = String.raw`my $b = "\0" x 64; verdict('keyctl', call('keyctl', 11, $ARGV[0]+0, $b, 64), '', '');`;

/** A row whose target is made on the host for each attempt, and taken away again. */
function held(name: string, guard: string, refusal: RegExp, attempt: string, make: string, unmake: string): Attack {
  const around = async (lab: Lab, work: (what: string) => Promise<Outcome>): Promise<Outcome> => {
    const made = await onHost(make, [lab.marker]);
    if (made.state !== 'reached') return { state: 'absent', said: made.said };
    try {
      return await work(made.said);
    } finally {
      await onHost(unmake, [made.said]);
    }
  };
  return {
    name, guard, refusal,
    inside: (lab) => around(lab, (what) => inVe(lab, 'attacker', attempt, [what])),
    off: (lab) => around(lab, (what) => onHost(attempt, [what])),
  };
}

export const ipcAttacks: Attack[] = [
  held('use shared memory of the host', 'ipc namespace', /ENOENT/, SHM,
    String.raw`my $key = 0x76000000 + int rand 0xffffff; my $id = shmget($key, 4096, 01666) // failed("shmget"); reached($key);`,
    String.raw`my $id = shmget($ARGV[0], 0, 0) // failed("shmget"); shmctl($id, 0, 0); reached("removed");`),
  held('open a message queue of the host', 'ipc namespace', /ENOENT/, QUEUE,
    String.raw`my $n = "$ARGV[0]\0"; call('mq_open', $n, O_RDWR | O_CREAT, 0666, 0) < 0 and failed("mq_open"); reached($ARGV[0]);`,
    String.raw`my $n = "$ARGV[0]\0"; call('mq_unlink', $n); reached("removed");`),
  held('read a key of the host', 'seccomp: keyrings have no namespace', /ENOSYS/, KEY,
    // Into the user keyring (-4) of root; KEYCTL_REVOKE is 3.
    String.raw`my ($t, $d, $p) = ("user\0", "$ARGV[0]\0", 'secret'); my $r = call('add_key', $t, $d, $p, 6, -4); $r < 0 and failed("add_key"); reached($r);`,
    String.raw`call('keyctl', 3, $ARGV[0]+0); reached("revoked");`),
  {
    name: 'connect to an abstract socket of the host', guard: 'network namespace', refusal: /ECONNREFUSED/,
    inside: (lab) => withAbstract(lab, (name) => inVe(lab, 'attacker', ABSTRACT, [name])),
    off: (lab) => withAbstract(lab, (name) => onHost(ABSTRACT, [name])),
  },
];

async function withAbstract<T>(lab: Lab, work: (name: string) => Promise<T>): Promise<T> {
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen(`\0${lab.marker}`, resolve));
  try {
    return await work(lab.marker);
  } finally {
    server.close();
  }
}
