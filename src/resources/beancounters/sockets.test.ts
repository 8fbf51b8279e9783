/** Sockets counted and refused by the kernel itself, in a group of this test's own. Needs root, clang and bpftool; says so where they are not. */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { findHierarchies, removeGroup } from '../../kernel/cgroup.ts';
import type { VeldError } from '../../lib/errors.ts';
import { createSockets } from './sockets.ts';

const { unified } = findHierarchies();
const program = (name: string): boolean => spawnSync(name, ['--version']).status === 0;
const skip = process.getuid?.() !== 0 || unified === undefined || !program('bpftool') || !program('clang') ? 'needs root, cgroup2, clang and bpftool' : false;
const runDir = mkdtempSync(join(tmpdir(), 'veld-sockets-'));
const group = `${unified}/veld-socktest-${process.pid}`;
const NONE = { tcp: null, other: null };
const sockets = createSockets(runDir);
if (!skip) mkdirSync(group);
const children = new Set<ChildProcess>();
after(async () => {
  for (const child of children) child.kill('SIGKILL');
  sockets.close();
  rmSync(runDir, { recursive: true });
  if (!skip) await removeGroup(group);
});

/** Run Python in the group to its end. @returns what it printed */
function inGroup(code: string): string {
  const { stdout, stderr, status } = spawnSync('sh', ['-c', 'echo 0 >"$0/cgroup.procs" && exec python3 -', group], { input: `import errno, os, socket, sys, time\n${code}`, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

/** The same, which goes on until its input ends. @returns the next line that it prints, and a way to have it go on by a line */
function goesOn(code: string): { line: () => Promise<string>; go: () => void; end: () => Promise<void> } {
  const child = spawn('sh', ['-c', 'echo 0 >"$0/cgroup.procs" && exec python3 -u -c "$1"', group, `import errno, os, socket, sys, time\n${code}`], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.add(child);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const ended = new Promise<void>((resolve) => { child.once('exit', () => resolve()); });
  return {
    line: async () => String((await lines.next()).value),
    go: () => { child.stdin.write('\n'); },
    end: async () => { child.stdin.end(); await ended; },
  };
}

/** Make sockets until one is refused: how many there were, and the error's name. */
const FILL = `
def fill(*kind):
  have = []
  try:
    while len(have) < 50: have.append(socket.socket(*kind))
  except OSError as e: return have, errno.errorcode[e.errno]
  return have, 'none'
UDP = (socket.AF_INET6, socket.SOCK_DGRAM)
`;

test('before the programs are loaded nothing is counted, a limit is refused with the reason, and no limit is not', { skip }, () => {
  assert.match(sockets.support() as string, /have not been loaded/);
  sockets.apply(group, NONE);
  assert.equal(sockets.read(group), undefined);
  assert.throws(() => sockets.apply(group, { tcp: 5, other: null }), (error: VeldError) => error.code === 'property.unsupported');
});

test('the kernel takes the programs, and nothing of the way there is left', { skip }, async () => {
  await sockets.load();
  assert.equal(sockets.support(), true);
  assert.deepEqual(readdirSync(runDir), []);
  assert.doesNotMatch(readFileSync('/proc/self/mounts', 'utf8'), new RegExp(runDir));
});

test('what is held, its peak, and refusals with ENOBUFS; raised live, it passes', { skip }, () => {
  sockets.apply(group, NONE);
  assert.deepEqual(sockets.read(group)?.limits, NONE);
  assert.equal(inGroup(`${FILL}\na = fill()\nb = fill(*UDP)\nprint(len(a[0]), a[1], len(b[0]), b[1])`), '50 none 50 none');
  assert.deepEqual(sockets.read(group), { tcp: { held: 0, maxheld: 50, failcnt: 0 }, other: { held: 0, maxheld: 50, failcnt: 0 }, limits: NONE });
  sockets.apply(group, { tcp: 5, other: 3 });
  assert.equal(inGroup(`${FILL}\na = fill()\nb = fill(*UDP)\nprint(len(a[0]), a[1], len(b[0]), b[1])`), '5 ENOBUFS 3 ENOBUFS');
  assert.deepEqual(sockets.read(group), { tcp: { held: 0, maxheld: 50, failcnt: 1 }, other: { held: 0, maxheld: 50, failcnt: 1 }, limits: { tcp: 5, other: 3 } });
  sockets.apply(group, { tcp: 8, other: null });
  assert.equal(inGroup(`${FILL}\na = fill()\nb = fill(*UDP)\nprint(len(a[0]), a[1], len(b[0]), b[1])`), '8 ENOBUFS 50 none');
  // Others: not a socket of the internet, not counted.
  assert.equal(inGroup('s = [socket.socketpair() for _ in range(20)]\nprint(len(s))'), '20');
  assert.equal(sockets.read(group)?.other.held, 0);
});

test('connections that come in count from being established to their end, accepted or not', { skip }, async () => {
  sockets.apply(group, NONE);
  const server = goesOn(`
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(50)
print(l.getsockname()[1]); input()
a = [l.accept()[0] for _ in range(2)]; print('accepted'); input()
for s in a: s.close()
l.close(); print('closed'); input()`);
  const port = Number(await server.line());
  assert.equal(sockets.read(group)?.tcp.held, 1);
  const clients = await Promise.all(Array.from({ length: 4 }, () => connected(port)));
  assert.equal(await held(5), 5);
  server.go();
  await server.line();
  assert.equal(sockets.read(group)?.tcp.held, 5, 'accepting them changes nothing');
  server.go();
  await server.line();
  for (const client of clients) client.destroy();
  assert.equal(await held(0), 0, 'also those that nobody accepted');
  await server.end();
});

test('over the limit nothing comes in, and what there is goes on; raised, the client that waits comes in', { skip }, async () => {
  const { failcnt } = sockets.read(group)!.tcp;
  sockets.apply(group, { tcp: 3, other: null });
  const server = goesOn(`
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(50); print(l.getsockname()[1])
a = [l.accept()[0] for _ in range(2)]; print(a[0].recv(5).decode()); l.accept(); print('third'); input()`);
  const port = Number(await server.line());
  const clients = [await connected(port), await connected(port)];
  const third = connect({ port, host: '127.0.0.1' }).on('error', () => {});
  await sleep(300);
  assert.equal(third.connecting, true);
  assert.equal(sockets.read(group)?.tcp.held, 3);
  assert.ok(sockets.read(group)!.tcp.failcnt > failcnt);
  for (const client of clients) client.write('hello');
  assert.equal(await server.line(), 'hello');
  sockets.apply(group, { tcp: 4, other: null });
  assert.equal(await server.line(), 'third');
  for (const client of [...clients, third]) client.destroy();
  await server.end();
  assert.equal(await held(0), 0);
});

test('a socket that came in, was disconnected, and is connected once more counts once more, and is refused over the limit', { skip }, () => {
  // The listening one, and of each connection both ends.
  sockets.apply(group, { tcp: 21, other: null });
  const { failcnt } = sockets.read(group)!.tcp;
  const said = inGroup(`
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
def disconnect(s): assert libc.connect(s.fileno(), b'\\0' * 16, 16) == 0
socket.setdefaulttimeout(20)
l = socket.socket(); l.bind(('127.0.0.1', 0)); l.listen(50)
have = []
for i in range(12):
  c = socket.socket(); c.connect(l.getsockname()); s = l.accept()[0]; disconnect(s); c.close(); have.append(s)
used = 0
try:
  for s in have: s.connect(l.getsockname()); used += 1
except OSError as e: print(used, errno.errorcode[e.errno])
l.close()
for s in have: s.close()`);
  assert.equal(said, '10 ENOBUFS');
  assert.equal(sockets.read(group)!.tcp.failcnt > failcnt, true);
});

test('a restore is refused nothing, and is no peak; what is held afterwards is', { skip }, async () => {
  sockets.apply(group, { tcp: 2, other: 0 });
  const before = sockets.read(group)!;
  sockets.apply(group, { tcp: 2, other: 0 }, true);
  const restored = goesOn(`${FILL}\na = [socket.socket() for _ in range(70)]\nprint('there'); input()\nprint(fill()[1]); input()`);
  await restored.line();
  assert.deepEqual(sockets.read(group)!.tcp, { held: 70, maxheld: 70, failcnt: before.tcp.failcnt });
  sockets.apply(group, { tcp: 2, other: 0 });
  restored.go();
  assert.equal(await restored.line(), 'ENOBUFS');
  await restored.end();
  assert.deepEqual(sockets.read(group)!.tcp, { held: 0, maxheld: before.tcp.maxheld, failcnt: before.tcp.failcnt + 1 });
});

test('a new daemon finds the counters and holds other limits, without programs of its own, and with them', { skip }, async () => {
  sockets.apply(group, { tcp: 5, other: null });
  const found = sockets.read(group);
  const other = createSockets(runDir);
  assert.deepEqual(other.read(group), found);
  other.apply(group, { tcp: 6, other: null });
  assert.equal(inGroup(`${FILL}\nprint(len(fill()[0]))`), '6');
  await other.load();
  other.apply(group, { tcp: 7, other: null });
  assert.equal(inGroup(`${FILL}\nprint(len(fill()[0]))`), '7');
  assert.equal(other.read(group)?.tcp.failcnt, found!.tcp.failcnt + 2);
  other.close();
});

test('a group that is begun late counts what comes, and no socket from before takes anything off', { skip }, async () => {
  const late = `${group}-late`;
  mkdirSync(late);
  const child = goesOn(`
open('${late}/cgroup.procs', 'w').write('0')
a = [socket.socket() for _ in range(3)]; print('old'); input()
a.append(socket.socket()); print('new'); input()
for s in a: s.close()
print('closed'); input()`);
  await child.line();
  sockets.apply(late, { tcp: 10, other: 10 });
  child.go();
  await child.line();
  assert.equal(sockets.read(late)?.tcp.held, 1);
  child.go();
  await child.line();
  assert.equal(sockets.read(late)?.tcp.held, 0);
  await child.end();
  sockets.forget(late);
  await removeGroup(late);
  assert.equal(existsSync(late), false);
});

async function connected(port: number): Promise<ReturnType<typeof connect>> {
  const socket = connect({ port, host: '127.0.0.1' }).on('error', () => {});
  await new Promise((resolve) => { socket.once('connect', resolve); });
  return socket;
}

/** Wait until so many are held. @returns how many are */
async function held(wanted: number): Promise<number | undefined> {
  for (let i = 0; i < 200 && sockets.read(group)?.tcp.held !== wanted; i++) await sleep(50);
  return sockets.read(group)?.tcp.held;
}
