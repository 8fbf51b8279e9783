/**
 * Processes that come from a node that lies. A real VE is sent to a node of the test, which says no in the end, and sends what it has got to another daemon, changed: what no
 * dump leaves is refused; what nobody can see in it has no power over the host, and none over the limits of the VE.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { spawn } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { MemoryReceived } from '../../src/migration/memory-received.ts';
import { stateContents, stateFiles } from '../../src/migration/state-files.ts';
import { cgroupsOf } from '../lib/leftovers.ts';
import { holdings, isWell, makeLiar } from '../lib/liar.ts';
import { makeNode } from '../lib/nodes.ts';
import { playTree, recordTree, sayNo, type RecordedTree } from '../lib/recording.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { FrameStream } from '../../src/migration/frames.ts';
import type { Accept, Done, MemoryMessage, Offer, PartMessage, Refuse, StateMessage, TreeMessage } from '../../src/migration/types.ts';

const settings = (own: { network: { uplinks: string[] } }): void => { own.network.uplinks = ['lo']; };
const [a, b] = [await makeNode('alpha', { settings }), await makeNode('beta', { settings })];
const liar = await makeLiar('liar');
const scratch = mkdtempSync('/var/tmp/veld-liar-');
after(async () => {
  rmSync(scratch, { recursive: true });
  await liar.close();
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();
await liar.pair(a);
await liar.pair(b);

/** What was sent, in order. */
let recorded: { offer: Offer; trees: RecordedTree[] };
let was: { held: string[]; traces: string[]; pid: number | undefined };

before(async () => {
  await a.createRunning('web', { 'memory.limit': 512 << 20, 'pids.limit': 300 });
  await a.booted('web');
  liar.serve(async (link) => {
    const recording: typeof recorded = { offer: await link.receive<Offer>('offer'), trees: [] };
    const memory = new MemoryReceived(scratch, 2 ** 32);
    link.send({ type: 'accept', template: false, notes: [] } as { type: string });
    for (let last = false; !last;) {
      const message = await link.receive<TreeMessage | PartMessage>('layer', 'round', 'part');
      if (message.type === 'part') {
        await memory.take(link, message);
        continue;
      }
      recording.trees.push(await recordTree(link, message));
      last = message.last === true;
    }
    await memory.takeState(link);
    recorded = recording;
    await sayNo(link);
  });
  assert.notEqual((await a.cli('migrate', 'web', 'liar')).code, 0);
  await a.api.operate('DELETE', '/v1/ves/web?force=true');
  was = { held: holdings(b), traces: b.outline(), pid: b.pid };
}, { timeout: 120_000 });

/** The recorded state with something done to it: a folder. */
async function changedState(change: (dir: string) => void | Promise<void>): Promise<string> {
  const dir = join(scratch, randomBytes(4).toString('hex'));
  cpSync(join(scratch, 'state'), dir, { recursive: true });
  await change(dir);
  return dir;
}

/** Bring the recorded VE to the target, up to the state. */
async function bring(state: string, changes: Partial<Offer> = {}): Promise<FrameStream> {
  const link = await bringDisk(changes);
  const files = await stateFiles(state);
  link.send({ type: 'state', files, memory: 0 } as StateMessage);
  await link.sendBulk(stateContents(state, files)).catch(() => {});
  return link;
}

/** The same up to its disk. @param before done before each round of it */
async function bringDisk(changes: Partial<Offer> = {}, before: (link: FrameStream) => Promise<void> = async () => {}): Promise<FrameStream> {
  const link = await liar.open(b);
  link.send({ ...recorded.offer, compress: [], id: randomBytes(16).toString('hex'), ...changes });
  const reply = await link.receive<Accept | Refuse>('accept', 'refuse');
  if (reply.type === 'refuse') throw new Error(`${reply.error.code}: ${reply.error.message}`);
  for (const tree of recorded.trees) {
    if (tree.message.type === 'round') await before(link);
    await playTree(link, tree);
  }
  return link;
}

/** A round of memory with these files, a byte in each. */
async function memory(link: FrameStream, ...names: string[]): Promise<void> {
  link.send({ type: 'memory', files: names.map((path) => ({ path, size: 1 })) } as MemoryMessage);
  await link.sendBulk(Readable.from([Buffer.alloc(names.length)])).catch(() => {});
  const reply = await link.receive<Done | Refuse>('done', 'refuse');
  if (reply.type === 'refuse') throw new Error(reply.error.message);
}

/** A part of an image, with these bytes. */
async function part(link: FrameStream, path: string, size: number, bytes = size): Promise<void> {
  link.send({ type: 'part', path, size } as PartMessage);
  await link.sendBulk(Readable.from([Buffer.alloc(bytes, 'x')])).catch(() => {});
}

async function unharmed(): Promise<void> {
  await until('sessions to end', async () => (await b.api.call<{ state: string }[]>('GET', '/v1/operations')).every(({ state }) => state !== 'running'));
  assert.deepEqual(await b.list(), []);
  assertSame(holdings(b), was.held, 'state folder');
  assertSame(b.outline(), was.traces, 'traces');
  await isWell(b, was.pid);
}

const manifest = (dir: string, changes: Record<string, unknown>): void => {
  const file = join(dir, 'manifest.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')) as object, ...changes }));
};
/** Of what no dump leaves the target says that it came. (Links, FIFOs, owners and modes cannot even be said: see state-files.ts.) */
const STATES: [what: string, change: (dir: string) => void | Promise<void>, says: RegExp][] = [
  ['a manifest that is no JSON', (dir) => writeFileSync(join(dir, 'manifest.json'), 'secret words'), /a manifest that is none/],
  ['a manifest that is huge', (dir) => truncateSync(join(dir, 'manifest.json'), 5 << 20), /manifest.json.*bytes/],
  ['the manifest of another VE', (dir) => manifest(dir, { ve: '00000000-0000-4000-8000-000000000000' }), /not those of the VE/],
  ['another engine', (dir) => manifest(dir, { engine: 'f'.repeat(64) }), /not those of the VE/],
  ['ids of the host', (dir) => manifest(dir, { uidBase: 0 }), /not those of the VE/],
  ['mounts that are none', (dir) => manifest(dir, { mounts: [{ inside: 1, name: {} }] }), /a manifest that is none/],
  ['a mount with a line for criu', (dir) => manifest(dir, { mounts: [{ inside: '/x', name: 'x]:y\naction-script /bin/sh' }] }), /a manifest that is none/],
  ['a mount of the host', (dir) => manifest(dir, { mounts: [{ inside: '/x', name: 'lxcfs/../../etc' }] }), /does not know/],
  ['a disk of the host as a mount', (dir) => manifest(dir, { mounts: [{ inside: '/x', name: 'dev/../etc/shadow' }] }), /does not know/],
  ['an image that fills the memory', (dir) => truncateSync(join(dir, 'images/files.img'), 65 << 20), /files.img.*bytes/],
  ['an image with an option as its name', (dir) => writeFileSync(join(dir, 'images/--action-script=x'), ''), /a file named/],
  ['files that nobody knows', (dir) => writeFileSync(join(dir, 'extra'), ''), /no dump leaves/],
  ['more for crun', (dir) => writeFileSync(join(dir, 'runtime/hooks.json'), '{}'), /no dump leaves/],
  ['parents without end', (dir) => {
    const deep = join(dir, 'images', ...Array.from({ length: 9 }, () => 'parent'));
    mkdirSync(deep, { recursive: true });
    writeFileSync(join(deep, 'pages-1.img'), '');
  }, /parent/],
  ['no images', (dir) => rmSync(join(dir, 'images/inventory.img')), /has not the images/],
  ['images that are garbage', (dir) => writeFileSync(join(dir, 'images/files.img'), randomBytes(5000)), /files.img cannot be read|unusable/],
  ['a core that is garbage', (dir) => writeFileSync(join(dir, 'images/pstree.img'), randomBytes(5000)), /./],
];

test('states that no dump leaves are refused', { timeout: 400_000 }, async () => {
  for (const [what, change, says] of STATES) {
    const link = await bring(await changedState(change));
    const reply = await link.receive<Done | Refuse>('done', 'refuse');
    const { error } = reply.type === 'done' ? await link.receive<Refuse>('refuse') : reply;
    link.close();
    assert.match(error.message, says, what);
    assert.ok(!/secret|root:/.test(JSON.stringify(error)), what);
    await unharmed();
  }
});

test('memory that no VE has is refused', { timeout: 200_000 }, async () => {
  const state = await changedState(() => {});
  const files = await stateFiles(state);
  const standing = async (on: unknown, rounds: number): Promise<void> => {
    let left = rounds;
    const link = await bringDisk({}, async (stream) => {
      for (; left > 0; left--) await memory(stream, 'pages-1.img', 'pagemap-1.img', 'inventory.img');
    });
    return say(link, files, on);
  };
  /** Say that this is the state, and throw what is answered. */
  const say = async (link: FrameStream, all: StateMessage['files'], on: unknown): Promise<void> => {
    link.send({ type: 'state', files: all, memory: on } as StateMessage);
    await link.sendBulk(stateContents(state, all)).catch(() => {});
    const reply = await link.receive<Done | Refuse>('done', 'refuse');
    const { error } = reply.type === 'done' ? await link.receive<Refuse>('refuse') : reply;
    link.close();
    throw new Error(error.message);
  };
  /** A state of which parts have come before. */
  const early = async (path: string, size: number, bytes = size): Promise<void> => {
    let first = true;
    return say(await bringDisk({}, async (link) => {
      if (first) await part(link, path, size, bytes);
      first = false;
    }), files, 0);
  };
  for (const [what, attempt, says] of [
    ['a part of another image', () => early('images/files.img', 4096), /part of an image.*a name/],
    ['a part that leads out', () => early('images/pages-1.img/../../../x', 1), /part of an image.*a name/],
    ['a part with more than was announced', () => early('images/pages-1.img', 1, 4096), /more than it had announced/],
    ['a part with less', () => early('images/pages-1.img', 4096, 1), /less than it had announced/],
    ['a part of an image that never comes', () => early('images/pages-999.img', 4096), /none of it/],
    ['an image that is less than its part', () => early('images/pages-1.img', 1 << 30, 1 << 30), /too many|less than what has come/],
    ['images of another kind', () => bringDisk({}, (link) => memory(link, 'files.img')), /something else than memory/],
    ['a name that leads out', () => bringDisk({}, (link) => memory(link, '../pages-1.img')), /something else than memory/],
    ['the same twice', () => bringDisk({}, (link) => memory(link, 'pages-1.img', 'pages-1.img')), /a file named/],
    ['rounds without end', () => standing(8, 8), /again and again/],
    ['a state on rounds that never came', () => standing(2, 0), /did not/],
    ['a state on some of them', () => standing(1, 2), /did not/],
    ['a state on what is no number', () => standing('all', 1), /did not/],
  ] as [string, () => Promise<unknown>, RegExp][]) {
    await assert.rejects(attempt(), says, what);
    await unharmed();
  }
});

test('what came along has no power over the configuration, the limits, or the host', { timeout: 120_000 }, async (t) => {
  const victim = spawn('sleep', ['600']);
  t.after(() => victim.kill());
  const group = readFileSync(`/proc/${victim.pid}/cgroup`, 'utf8');
  const state = await changedState((dir) => {
    for (const file of ['config.json', 'runtime/config.json']) {
      const config = JSON.parse(readFileSync(join(dir, file), 'utf8')) as { process: Record<string, unknown>; linux: Record<string, unknown>; mounts: unknown[]; hooks?: unknown };
      config.process.capabilities = { bounding: ['CAP_SYS_MODULE', 'CAP_SYS_RAWIO'] };
      delete config.linux.seccomp;
      config.linux.devices = [{ path: '/dev/host', type: 'b', major: 8, minor: 0 }];
      config.mounts.push({ destination: '/host', type: 'bind', source: '/', options: ['rbind'] });
      config.hooks = { createRuntime: [{ path: '/bin/touch', args: ['touch', join(scratch, 'hooked')] }] };
      writeFileSync(join(dir, file), JSON.stringify(config));
    }
    const status = join(dir, 'runtime/status');
    writeFileSync(status, JSON.stringify({ ...JSON.parse(readFileSync(status, 'utf8')) as object, 'cgroup-path': '/', 'bundle': '/', 'rootfs': '/' }, null, 2));
    writeFileSync(join(dir, 'images/groups'), [`./cgroup.procs:${victim.pid}`, `system.slice/cgroup.procs:${victim.pid}`, './memory.max:max', '/memory.max:max', 'system.slice/../memory.max:max', './cgroup.freeze:1', ''].join('\n'));
    writeFileSync(join(dir, 'images/owners'), ['0 0 memory.max', '0 0 ./memory.max', '0 0 pids.max', '0 0 ', '-1 0 system.slice', ''].join('\n'));
    writeFileSync(join(dir, 'images/net.batch4'), 'link set lo down\nlink add veld-hostile type dummy\n');
  });
  const link = await bring(state);
  for (const word of ['done', 'prepared']) await link.receive(word);
  link.send({ type: 'grant' });
  await link.receive('owned');
  const arrived = await link.receive<{ type: string; trouble: string | null }>('arrived');
  assert.equal(arrived.trouble, null);
  link.close();
  const { number, pid } = await b.show('web') as unknown as { number: number; pid: number };
  const folder = join(b.settings.runDir, 'ves', String(number));
  const config = readFileSync(join(folder, 'config.json'), 'utf8');
  assert.equal(config, readFileSync(join(folder, 'config.template'), 'utf8'), 'the configuration is the one that was made here');
  assert.equal(readFileSync(join(b.settings.runDir, 'crun', `${b.name}-${number}`, 'config.json'), 'utf8'), config);
  const said = async (command: string): Promise<string> => (await b.exec('web', 'sh', '-c', command)).stdout.trim();
  await b.createRunning('fresh', { 'memory.limit': 512 << 20, 'pids.limit': 300 });
  const status = 'grep -E "^(Cap|Seccomp|NoNewPrivs)" /proc/self/status; ls /dev; ls -d /host; cat /proc/self/cgroup';
  assert.equal(await said(status), (await b.exec('fresh', 'sh', '-c', status)).stdout.trim(), 'capabilities, filter and devices of commands are those of a VE that was made here');
  assert.equal(readFileSync(`/proc/${victim.pid}/cgroup`, 'utf8'), group, 'a process of the host is where it was');
  assert.doesNotMatch(await said('ip -o link show lo; ip -o link'), /veld-hostile|lo: <LOOPBACK>/);
  const limits = cgroupsOf(b.name).filter((folder) => folder.endsWith(`/${number}`)).flatMap((folder) => ['memory.max', 'memory.limit_in_bytes', 'pids.max'].map((name) => join(folder, name))).filter((file) => existsSync(file));
  assert.ok(limits.length >= 2, 'there are limits');
  for (const file of limits) {
    assert.equal(statSync(file).uid, 0, `${file} is root's`);
    assert.equal(readFileSync(file, 'utf8').trim(), String(file.endsWith('pids.max') ? 300 : 512 << 20));
  }
  assert.ok(pid > 0);
  assert.throws(() => readFileSync(join(scratch, 'hooked')), { code: 'ENOENT' });
  for (const ve of ['web', 'fresh']) await b.api.operate('DELETE', `/v1/ves/${ve}?force=true`);
  await unharmed();
});
