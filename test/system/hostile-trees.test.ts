/**
 * Trees of an attacker who is root in a VE, against kernel/guest-tree.ts.
 *
 * Each attack is first made against plain fs calls (the guard is off) and must succeed there: otherwise it would show nothing. All attacks aim
 * at things that the test made. Then the same attack against the guard must do no harm outside, and must not make anybody wait.
 */
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync, existsSync, linkSync, lstatSync, mkdirSync, mkdtempSync, openSync, readdirSync, readFileSync, readSync, rmSync, statSync, symlinkSync, truncateSync,
  unlinkSync, writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { openGuestRoot } from '../../src/kernel/guest-tree.ts';
import type { GuestRoot } from '../../src/kernel/guest-tree.ts';
import { readProcess } from '../../src/kernel/process.ts';

const OWNER = { mode: 0o644, uid: 0, gid: 0 };
const REFUSED = { code: 'path.refused' };
/** No call may take longer, in milliseconds; generous for a busy machine. */
const PROMPT = 1500;

interface Scene {
  /** The VE's tree, with a folder etc. */
  tree: string;
  /** What the attacker wants to reach: a folder with one file, `secret`. */
  outside: string;
  root: GuestRoot;
  /** Fails unless outside is as it was. */
  unharmed: () => void;
}

async function scene(t: TestContext): Promise<Scene> {
  const dir = mkdtempSync('/var/tmp/veld-hostile-');
  t.after(() => rmSync(dir, { recursive: true, force: true }));
  const [tree, outside] = [join(dir, 'tree'), join(dir, 'outside')];
  mkdirSync(join(tree, 'etc'), { recursive: true });
  mkdirSync(outside);
  writeFileSync(join(outside, 'secret'), 'secret', { mode: 0o600 });
  const root = await openGuestRoot(tree);
  t.after(() => root.close());
  const unharmed = (): void => {
    assert.deepEqual(readdirSync(outside), ['secret']);
    assert.equal(readFileSync(join(outside, 'secret'), 'utf8'), 'secret');
    assert.equal(statSync(join(outside, 'secret')).mode & 0o7777, 0o600);
  };
  return { tree, outside, root, unharmed };
}

/** The guard is off: the host writes and reads as if the tree were its own. */
const plain = {
  write: (tree: string, path: string): void => writeFileSync(`${tree}${path}`, 'owned'),
  read: (tree: string, path: string): string => readFileSync(`${tree}${path}`, 'utf8'),
};

/** Whether a plain call on the path hangs: made in a child that is killed after a while. */
function plainHangs(call: 'readFileSync' | 'writeFileSync', path: string): boolean {
  const program = `require('node:fs').${call}(${JSON.stringify(path)}, ${call === 'writeFileSync' ? "'owned'" : "'utf8'"})`;
  return spawnSync(process.execPath, ['-e', program], { timeout: 600, killSignal: 'SIGKILL' }).signal === 'SIGKILL';
}

async function promptly<T>(work: () => Promise<T>): Promise<T> {
  const start = performance.now();
  try {
    return await work();
  } finally {
    assert.ok(performance.now() - start < PROMPT, 'the guard made its caller wait');
  }
}

/** Links in the place of the file itself: the link is what gets replaced. */
const FINAL_LINKS: Record<string, (s: Scene) => string> = {
  'an absolute link': ({ outside }) => join(outside, 'secret'),
  'a relative link': () => '../../outside/secret',
  'a link to what does not exist yet': ({ outside }) => join(outside, 'created'),
  'a magic link through /proc': ({ outside }) => `/proc/self/root${outside}/secret`,
  'a link through the working directory of a host process': ({ outside }) => `/proc/${process.pid}/cwd/../../../../../../../..${outside}/secret`,
};

for (const [name, target] of Object.entries(FINAL_LINKS)) {
  test(`${name} as the file`, async (t) => {
    const s = await scene(t);
    symlinkSync(target(s), join(s.tree, 'etc/hostname'));
    plain.write(s.tree, '/etc/hostname');
    assert.throws(s.unharmed, 'without the guard the attack succeeds');
    rmSync(join(s.outside, 'created'), { force: true });
    writeFileSync(join(s.outside, 'secret'), 'secret');

    await assert.rejects(s.root.readFile('/etc/hostname', 1000), REFUSED);
    await s.root.writeFile('/etc/hostname', 'web', OWNER);
    s.unharmed();
    assert.ok(lstatSync(join(s.tree, 'etc/hostname')).isFile());
    assert.equal(plain.read(s.tree, '/etc/hostname'), 'web');
  });
}

/** Links in the place of a folder on the way. */
const FOLDER_LINKS: Record<string, (s: Scene) => void> = {
  'an absolute link': (s) => symlinkSync(s.outside, join(s.tree, 'etc')),
  'a relative link': (s) => symlinkSync('../outside', join(s.tree, 'etc')),
  'a chain of links': (s) => {
    symlinkSync('one', join(s.tree, 'etc'));
    symlinkSync('./two', join(s.tree, 'one'));
    symlinkSync('/../../../../../../../../..' + s.outside, join(s.tree, 'two'));
  },
  'a magic link through /proc': (s) => symlinkSync(`/proc/self/root${s.outside}`, join(s.tree, 'etc')),
};

for (const [name, lay] of Object.entries(FOLDER_LINKS)) {
  test(`${name} as /etc itself`, async (t) => {
    const s = await scene(t);
    rmSync(join(s.tree, 'etc'), { recursive: true });
    lay(s);
    assert.equal(plain.read(s.tree, '/etc/secret'), 'secret');
    plain.write(s.tree, '/etc/hostname');
    assert.throws(s.unharmed);
    unlinkSync(join(s.outside, 'hostname'));

    await assert.rejects(s.root.writeFile('/etc/hostname', 'web', OWNER), REFUSED);
    await assert.rejects(s.root.readFile('/etc/secret', 1000), REFUSED);
    assert.equal(await s.root.exists('/etc/secret'), false);
    assert.equal(await s.root.folderExists('/etc'), false);
    s.unharmed();
    // Where the link leads to a folder inside, it is followed there.
    if (name === 'an absolute link') {
      mkdirSync(join(s.tree, s.outside), { recursive: true });
      await s.root.writeFile('/etc/hostname', 'web', OWNER);
      assert.equal(plain.read(join(s.tree, s.outside), '/hostname'), 'web');
      s.unharmed();
    }
  });
}

test('a path that climbs with ..', async (t) => {
  const s = await scene(t);
  plain.write(s.tree, '/etc/../../outside/secret');
  assert.throws(s.unharmed);
  writeFileSync(join(s.outside, 'secret'), 'secret');
  await assert.rejects(s.root.writeFile('/etc/../../outside/secret', 'x', OWNER), REFUSED);
  await assert.rejects(s.root.readFile('/../outside/secret', 1000), REFUSED);
  s.unharmed();
});

test('a magic link of a procfs in the tree', async (t) => {
  const s = await scene(t);
  assert.equal(plain.read('/proc', `/self/root${s.outside}/secret`), 'secret');
  const root = await openGuestRoot('/proc');
  t.after(() => root.close());
  await assert.rejects(root.readFile(`/self/root${s.outside}/secret`, 1000), REFUSED);
  await assert.rejects(root.writeFile(`/self/root${s.outside}/secret`, 'x', OWNER), REFUSED);
  await assert.rejects(root.readFile(`/self/cwd/package.json`, 1000), REFUSED);
  s.unharmed();
});

test('links that go round in circles', async (t) => {
  const s = await scene(t);
  symlinkSync('b', join(s.tree, 'a'));
  symlinkSync('a', join(s.tree, 'b'));
  symlinkSync('self', join(s.tree, 'etc/self'));
  assert.throws(() => plain.write(s.tree, '/etc/self'), { code: 'ELOOP' });
  await assert.rejects(s.root.writeFile('/a/file', 'x', OWNER), REFUSED);
  await assert.rejects(s.root.folderExists('/a'), REFUSED);
  await s.root.writeFile('/etc/self', 'web', OWNER);
  assert.equal(plain.read(s.tree, '/etc/self'), 'web');
});

test('a FIFO as the file', async (t) => {
  const s = await scene(t);
  const fifo = join(s.tree, 'etc/hostname');
  execFileSync('/usr/bin/mkfifo', [fifo]);
  assert.ok(plainHangs('readFileSync', fifo));
  assert.ok(plainHangs('writeFileSync', fifo));
  await promptly(() => assert.rejects(s.root.readFile('/etc/hostname', 1000), REFUSED));
  await promptly(() => s.root.writeFile('/etc/hostname', 'web', OWNER));
  assert.ok(lstatSync(fifo).isFile());
  rmSync(join(s.tree, 'etc'), { recursive: true });
  execFileSync('/usr/bin/mkfifo', [join(s.tree, 'etc')]);
  await promptly(() => assert.rejects(s.root.writeFile('/etc/hostname', 'web', OWNER), REFUSED));
});

test('a device as the file', async (t) => {
  const s = await scene(t);
  const node = (name: string, major: string, minor: string): string => {
    execFileSync('/bin/mknod', [join(s.tree, 'etc', name), 'c', major, minor]);
    return join(s.tree, 'etc', name);
  };
  const zero = node('zero', '1', '5');
  const fd = openSync(zero, 'r');
  assert.equal(readSync(fd, Buffer.alloc(16)), 16, 'without the guard the driver answers');
  closeSync(fd);
  // A device without a driver: whoever opens it gets ENXIO, whoever only looks at it does not.
  const none = node('none', '240', '77');
  assert.throws(() => plain.read(s.tree, '/etc/none'), { code: 'ENXIO' });
  for (const name of ['zero', 'none']) await assert.rejects(s.root.readFile(`/etc/${name}`, 1000), { ...REFUSED, message: /not an ordinary file/ });
  for (const path of [zero, none]) {
    await s.root.writeFile(path.slice(s.tree.length), 'web', OWNER);
    assert.ok(lstatSync(path).isFile());
  }
});

test('a file larger than memory, and one that a process holds a lease on', async (t) => {
  const s = await scene(t);
  const big = join(s.tree, 'etc/passwd');
  writeFileSync(big, '');
  truncateSync(big, 256 << 20);
  assert.equal(readFileSync(big).length, 256 << 20);
  truncateSync(big, 2 ** 40);
  await promptly(() => assert.rejects(s.root.readFile('/etc/passwd', 1 << 20), { ...REFUSED, message: /larger/ }));

  const leased = join(s.tree, 'etc/leased');
  writeFileSync(leased, 'x');
  const holder = spawn('python3', ['-c', [
    'import fcntl, os, signal, sys, time',
    'signal.signal(signal.SIGIO, signal.SIG_IGN)',
    'fd = os.open(sys.argv[1], os.O_RDWR)',
    'fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)',
    'print("held", flush=True)',
    'time.sleep(20)',
  ].join('\n'), leased], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  assert.ok(plainHangs('readFileSync', leased));
  await promptly(() => assert.rejects(s.root.readFile('/etc/leased', 1000), REFUSED));
  await promptly(() => s.root.writeFile('/etc/leased', 'web', OWNER));
});

test('a hard link to a file outside', async (t) => {
  const s = await scene(t);
  linkSync(join(s.outside, 'secret'), join(s.tree, 'etc/hostname'));
  plain.write(s.tree, '/etc/hostname');
  assert.throws(s.unharmed);
  writeFileSync(join(s.outside, 'secret'), 'secret');
  await s.root.writeFile('/etc/hostname', 'web', { ...OWNER, uid: 1000, mode: 0o666 });
  s.unharmed();
  assert.deepEqual([statSync(join(s.outside, 'secret')).uid, statSync(join(s.outside, 'secret')).nlink], [0, 1]);
});

test('huge names, long paths, a folder of 100,000 entries', async (t) => {
  const s = await scene(t);
  await s.root.writeFile(`/etc/${'n'.repeat(255)}`, 'x', OWNER);
  for (const path of [`/etc/${'n'.repeat(256)}`, `/etc${'/x'.repeat(3000)}`, `/etc/${'ä\u{1f600}'.repeat(100)}`]) {
    assert.throws(() => plain.write(s.tree, path));
    await promptly(() => assert.rejects(s.root.writeFile(path, 'x', OWNER), REFUSED));
  }
  for (const name of ['-rf', 'a\nb', '$(reboot)', '\u202e', '%s%n']) await s.root.writeFile(`/etc/${name}`, name, OWNER);
  assert.equal((await s.root.readFile('/etc/a\nb', 10)).toString(), 'a\nb');
  mkdirSync(join(s.tree, 'many'));
  for (let i = 0; i < 100_000; i += 1) closeSync(openSync(join(s.tree, 'many', `${i}`), 'wx'));
  await promptly(() => s.root.writeFile('/many/hostname', 'web', OWNER));
  await promptly(() => assert.rejects(s.root.writeFile('/many/0/hostname', 'web', OWNER), REFUSED));
});

test('a mount in the tree', async (t) => {
  const s = await scene(t);
  const holder = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c', 'mount --bind "$1" "$2" && echo ready && exec sleep 20', 'sh', s.outside, join(s.tree, 'etc')],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => holder.kill('SIGKILL'));
  await once(holder.stdout, 'data');
  const seen = `/proc/${holder.pid}/root${s.tree}`;
  assert.equal(plain.read(seen, '/etc/secret'), 'secret');
  plain.write(seen, '/etc/hostname');
  assert.throws(s.unharmed);
  unlinkSync(join(s.outside, 'hostname'));

  const root = await openGuestRoot(seen);
  t.after(() => root.close());
  await assert.rejects(root.writeFile('/etc/hostname', 'web', OWNER), REFUSED);
  await assert.rejects(root.readFile('/etc/secret', 1000), REFUSED);
  s.unharmed();

  // The same through the root of the process itself, as a VE is opened.
  const { pid, startTime } = readProcess(holder.pid as number)!;
  const own = await openGuestRoot({ pid, startTime });
  t.after(() => own.close());
  await assert.rejects(own.writeFile(`${s.tree}/etc/hostname`, 'web', OWNER), REFUSED);
  await own.writeFile(`${s.tree}/free`, 'web', OWNER);
  s.unharmed();
});

/** Swaps folder and link, and file and link, as fast as it can, for a bounded time. */
const SWAPPER = `
const fs = require('node:fs');
const [tree, outside] = process.argv.slice(1);
process.chdir(tree);
fs.writeFileSync('file.real', 'mine');
const end = Date.now() + 32000;
process.stdout.write('going');
while (Date.now() < end) {
  fs.renameSync('etc', 'etc.real');
  fs.symlinkSync(outside, 'etc');
  fs.unlinkSync('etc');
  fs.renameSync('etc.real', 'etc');
  fs.linkSync('file.real', 'file.new');
  fs.renameSync('file.new', 'file');
  fs.symlinkSync(outside + '/secret', 'link.new');
  fs.renameSync('link.new', 'file');
}`;

test('names swapped under way, for two seconds', { timeout: 45_000 }, async (t) => {
  let end = async (): Promise<void> => {};
  t.after(() => end()); // before the scene is removed: hooks run in the order in which they were registered
  const s = await scene(t);
  const swapper = spawn(process.execPath, ['-e', SWAPPER, s.tree, s.outside], { stdio: ['ignore', 'pipe', 'inherit'] });
  const ended = once(swapper, 'exit');
  end = async () => {
    swapper.kill('SIGKILL');
    await ended;
  };
  await once(swapper.stdout, 'data');

  // Without the guard, though it looks before it writes and reads. Between the two lies whatever a program does there.
  const work = (): void => {
    for (const end = performance.now() + Math.random() * 0.1; performance.now() < end;);
  };
  const broken = { write: false, read: false };
  for (const end = Date.now() + 25_000; Date.now() < end && !(broken.write && broken.read);) {
    try {
      const good = lstatSync(join(s.tree, 'etc')).isDirectory();
      work();
      if (good) plain.write(s.tree, '/etc/hostname');
    } catch { /* it was away at that moment */ }
    try {
      const good = lstatSync(join(s.tree, 'file')).isFile();
      work();
      if (good && plain.read(s.tree, '/file') === 'secret') broken.read = true;
    } catch { /* the same */ }
    broken.write ||= existsSync(join(s.outside, 'hostname'));
  }
  assert.deepEqual(broken, { write: true, read: true }, 'the race is real');
  rmSync(join(s.outside, 'hostname'));

  const count = { written: 0, read: 0, refused: 0 };
  const attempt = async (work: () => Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'path.refused');
      count.refused += 1;
    }
  };
  for (const end = Date.now() + 2000; Date.now() < end;) {
    await attempt(async () => {
      await s.root.writeFile('/etc/hostname', 'web', OWNER);
      count.written += 1;
    });
    await attempt(async () => {
      assert.equal((await s.root.readFile('/file', 1000)).toString(), 'mine');
      count.read += 1;
    });
  }
  await end();
  s.unharmed();
  t.diagnostic(`${count.written} written, ${count.read} read, ${count.refused} refused`);
  assert.ok(count.written > 0 && count.read > 0 && count.refused > 0, 'both sides of the race were met');
  assert.deepEqual(readdirSync(join(s.tree, existsSync(join(s.tree, 'etc.real')) ? 'etc.real' : 'etc')).filter((name) => name.startsWith('.veld-')), [], 'no temporary file is left');
});
