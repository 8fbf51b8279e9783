/**
 * The self-test of an engine: crun starts a small process tree in user, pid, mount, ipc, uts, net and cgroup namespaces, with an established
 * TCP connection between two of its processes; criu dumps it and restores it; a word then sent must come out at the other end.
 *
 * The guest is busybox from the engine itself. Word in: the FIFO `in`, read by the connecting `nc`; word out: the file `out`, written by the
 * listening `nc`. Nothing is left behind: processes, cgroups and mounts go on every way out.
 */
import { spawn } from 'node:child_process';
import { chownSync, copyFileSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, rmdirSync, writeFileSync, writeSync, closeSync, constants,
  symlinkSync, chmodSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../lib/run.ts';
import { VeldError, toVeldError } from '../lib/errors.ts';
import type { Engine } from './engine.ts';

/** First host uid of the guest's range; far above what distributions and other managers hand out, and only for a second. */
const UID_BASE = 1_879_048_192;
/** Port of the connection inside, 7777 in the hexadecimal of /proc/net/tcp. */
const PORT = '1E61';
/** Longest wait for one step, in milliseconds. */
const PATIENCE = 10_000;

/** Where the guest's root is mounted: crun resolves it as the guest's root user, for whom the state folder is closed. */
const GUEST_ROOT = '/run/veld-selftest';

/** Init of the guest. The FIFOs are opened for reading and writing so that no reader ever sees an end: nc would close the connection. */
const GUEST = `#!/bin/sh
exec 3<>/in 4<>/idle 0<&4 >/messages 2>&1
ip link set lo up
nc -l -p 7777 <&4 >/out &
while ! grep -q ':${PORT} .* 0A ' /proc/net/tcp /proc/net/tcp6; do sleep 0.05; done
nc 127.0.0.1 7777 <&3 &
while :; do wait; sleep 1; done
`;

/** Joins each cgroup given up to "--", then becomes the rest of its arguments, with the cgroup2 hierarchy at /sys/fs/cgroup and a /run of its own. */
const ENTER = `set -e
for group; do shift; [ "$group" = -- ] && break; echo 0 >"$group/cgroup.procs"; done
unified=$1 mount=$2 root=$3; shift 3
[ "$unified" = /sys/fs/cgroup ] || "$mount" --bind "$unified" /sys/fs/cgroup
"$mount" -t tmpfs -o mode=0755 veld-selftest /run
mkdir ${GUEST_ROOT}
"$mount" --bind "$root" ${GUEST_ROOT}
exec "$@"
`;

/**
 * Test an engine on this machine; about a second.
 * @param folder scratch folder, made and removed
 * @throws VeldError `engine.failed` that says which step failed, and why
 */
export async function criuSelfTest(engine: Engine, folder: string, signal?: AbortSignal): Promise<void> {
  const name = `veld-selftest-${process.pid}`;
  const test = { engine, folder, name, box: join(folder, 'box'), groups: cgroups(name), unified: unifiedMount() };
  let step = 'preparing';
  try {
    await prepare(test.folder, test.box, engine, name);
    for (const group of test.groups) makeGroup(group);
    step = 'starting processes';
    await enter(test, [engine.crun, '--root', join(folder, 'crun'), '--cgroup-manager=disabled', 'create', '--bundle', folder, '--pid-file', join(folder, 'pid'), name], signal);
    await run(engine.crun, ['--root', join(folder, 'crun'), '--cgroup-manager=disabled', 'start', name], { signal });
    const pid = readFileSync(join(folder, 'pid'), 'utf8').trim();
    await until('a TCP connection inside', () => connected(pid));
    send(test.box, 'before');
    await until('the first word at the other end', () => readFileSync(join(test.box, 'out'), 'utf8') === 'before\n');
    step = 'dumping';
    const shared = ['-D', join(folder, 'images'), '--tcp-established', '--manage-cgroups=soft', '--cgroup-root', `/${name}`, '--external', 'mnt[]:',
      '--empty-ns', 'net', '--network-lock', 'skip', '-v2'];
    await enter({ ...test, groups: [] }, [engine.criu, 'dump', '-t', pid, '-o', 'dump.log', ...shared], signal);
    await until('the end of the dumped processes', () => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'utf8').includes(') Z '));
    step = 'restoring';
    rmSync(join(folder, 'pid'));
    await enter(test, [engine.criu, 'restore', '-d', '--pidfile', join(folder, 'pid'), '--root', GUEST_ROOT, '-o', 'restore.log',
      '--action-script', join(folder, 'network'), ...shared], signal);
    step = 'using the connection after the restore';
    const restored = readFileSync(join(folder, 'pid'), 'utf8').trim();
    await until('the TCP connection', () => connected(restored));
    send(test.box, 'after');
    await until('the second word at the other end', () => readFileSync(join(test.box, 'out'), 'utf8') === 'before\nafter\n');
  } catch (thrown) {
    const error = toVeldError(thrown);
    if (error.code === 'operation.cancelled' || error.code === 'disk.full') throw error;
    throw new VeldError('engine.failed', `the self-test failed while ${step}: ${[error.message, ...lastErrors(folder)].join(' / ')}`, { cause: thrown });
  } finally {
    await cleanUp(test.groups, folder);
  }
}

interface Test { engine: Engine; folder: string; box: string; groups: string[]; unified: string }

/** Run a program in the guest's cgroups, in a private mount namespace. Its output goes to a file: a restored process may hold it open. */
async function enter(test: Test, command: string[], signal?: AbortSignal): Promise<void> {
  const log = openSync(join(test.folder, 'log'), 'w', 0o600);
  const child = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '--', '/bin/sh', '-c', ENTER, 'sh', ...test.groups, '--',
    test.unified, test.engine.mount, test.box, ...command],
  { cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: ['ignore', log, log], signal, timeout: PATIENCE, killSignal: 'SIGKILL' });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', resolve);
  }).finally(() => closeSync(log));
  if (code !== 0) {
    const said = readFileSync(join(test.folder, 'log'), 'utf8').trim().split('\n').slice(-2).join(' / ');
    throw new VeldError('command.failed', `${command[0]?.split('/').pop()} ended with status ${code ?? 'of a signal'}: ${said}`);
  }
}

async function prepare(folder: string, box: string, engine: Engine, name: string): Promise<void> {
  rmSync(folder, { recursive: true, force: true });
  // Readable for the guest's root, as crun stands in it; the state folder above keeps others out.
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  for (const path of ['bin', 'proc', 'sys', 'dev']) mkdirSync(join(box, path), { recursive: true });
  const busybox = ['usr/bin/busybox', 'bin/busybox'].map((path) => join(engine.dir, path)).find((path) => existsSync(path));
  if (busybox === undefined) throw new VeldError('engine.failed', 'The packages hold no busybox.');
  copyFileSync(realpathSync(busybox), join(box, 'bin/busybox'));
  for (const tool of ['sh', 'ip', 'nc', 'grep', 'sleep']) symlinkSync('busybox', join(box, 'bin', tool));
  writeFileSync(join(box, 'init'), GUEST, { mode: 0o755 });
  writeFileSync(join(box, 'out'), '');
  await run('/usr/bin/mkfifo', [join(box, 'in'), join(box, 'idle')]);
  for (const path of readdirSync(box)) chownSync(join(box, path), UID_BASE, UID_BASE);
  chownSync(box, UID_BASE, UID_BASE);
  // So does CRIU's restorer with its images.
  mkdirSync(join(folder, 'images'));
  chmodSync(join(folder, 'images'), 0o755);
  writeFileSync(join(folder, 'network'), `#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = setup-namespaces ] || exit 0
# Not -t PID -n: from util-linux 2.41 on, that enters the host's namespace at this stage of a restore.
exec nsenter --net="/proc/$CRTOOLS_INIT_PID/ns/net" ip link set lo up
`, { mode: 0o700 });
  writeFileSync(join(folder, 'config.json'), JSON.stringify(bundle(name)));
}

/** The OCI configuration of the guest. */
function bundle(name: string): Record<string, unknown> {
  const capabilities = ['CAP_NET_ADMIN', 'CAP_SYS_ADMIN', 'CAP_SETUID', 'CAP_SETGID', 'CAP_KILL', 'CAP_DAC_OVERRIDE'];
  const ids = [{ containerID: 0, hostID: UID_BASE, size: 65536 }];
  return {
    ociVersion: '1.0.2', hostname: 'selftest', root: { path: GUEST_ROOT },
    process: {
      args: ['/bin/sh', '/init'], cwd: '/', env: ['PATH=/bin', `container=${name}`], user: { uid: 0, gid: 0 },
      capabilities: { bounding: capabilities, effective: capabilities, permitted: capabilities },
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    ],
    linux: { uidMappings: ids, gidMappings: ids, namespaces: ['user', 'pid', 'mount', 'ipc', 'uts', 'network', 'cgroup'].map((type) => ({ type })) },
  };
}

/** The group of the test in each hierarchy that is mounted. */
function cgroups(name: string): string[] {
  return hierarchies().map((mount) => join(mount, name));
}

function hierarchies(): string[] {
  const mounts = readFileSync('/proc/self/mounts', 'utf8').split('\n').map((line) => line.split(' '));
  return mounts.filter(([, , type]) => type === 'cgroup' || type === 'cgroup2').map(([, path = '']) => path).filter((path) => path.startsWith('/sys/fs/cgroup'));
}

function unifiedMount(): string {
  const line = readFileSync('/proc/self/mounts', 'utf8').split('\n').find((text) => text.split(' ')[2] === 'cgroup2');
  const path = line?.split(' ')[1];
  if (path === undefined) throw new VeldError('kernel.unsupported', 'No cgroup2 hierarchy is mounted.');
  return path;
}

function makeGroup(group: string): void {
  mkdirSync(group, { recursive: true });
  // A v1 cpuset takes no process before it has cpus and memory nodes.
  for (const key of ['cpuset.cpus', 'cpuset.mems']) {
    const [file, parent] = [join(group, key), join(group, '..', key)];
    if (existsSync(file) && existsSync(parent) && !existsSync(join(group, 'cgroup.controllers'))) writeFileSync(file, readFileSync(parent));
  }
}

/** Whether process `pid` sees an established connection to the port, in its own network namespace. */
function connected(pid: string): boolean {
  return new RegExp(`:${PORT} 01 `).test(readFileSync(`/proc/${pid}/net/tcp`, 'utf8'));
}

function send(box: string, word: string): void {
  const fd = openSync(join(box, 'in'), constants.O_RDWR | constants.O_NONBLOCK);
  try {
    writeSync(fd, `${word}\n`);
  } finally {
    closeSync(fd);
  }
}

async function until(what: string, test: () => boolean): Promise<void> {
  for (const end = Date.now() + PATIENCE; !test(); await sleep(5)) {
    if (Date.now() > end) throw new VeldError('timeout', `there was not ${what} within ${PATIENCE / 1000} s`);
  }
}

function lastErrors(folder: string): string[] {
  return ['images/dump.log', 'images/restore.log', 'log', 'box/messages'].flatMap((file) => {
    const path = join(folder, file);
    const lines = existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
    return lines.filter((line) => line.includes('Error') || (!file.startsWith('images') && line !== '')).slice(-3);
  });
}

/** Kill what is in the groups, remove them and the folder. */
async function cleanUp(groups: readonly string[], folder: string): Promise<void> {
  for (let round = 0; round < 200; round++) {
    let left = false;
    for (const group of groups) {
      if (!existsSync(group)) continue;
      for (const pid of readFileSync(join(group, 'cgroup.procs'), 'utf8').split('\n')) {
        if (pid !== '' && pid !== '0') try { process.kill(Number(pid), 'SIGKILL'); } catch { /* gone meanwhile */ }
      }
      try { rmdirSync(group); } catch { left = true; }
    }
    if (!left) break;
    await sleep(10);
  }
  rmSync(folder, { recursive: true, force: true });
}
