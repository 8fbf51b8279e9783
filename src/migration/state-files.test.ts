import assert from 'node:assert/strict';
import { linkSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { duplexPair, Readable } from 'node:stream';
import { test, type TestContext } from 'node:test';
import { FrameStream } from './frames.ts';
import { receiveFiles, sendState, type SentFiles } from './state-files.ts';
import type { SnapshotMessage, StateMessage } from './types.ts';

function setting(t: TestContext): { near: FrameStream; far: FrameStream; from: string; to: string } {
  const folder = mkdtempSync(join(tmpdir(), 'veld-state-'));
  const [near, far] = duplexPair().map((stream) => new FrameStream(stream, { alive: 100, dead: 1000, idle: 10_000 })) as [FrameStream, FrameStream];
  t.after(() => {
    near.close();
    far.close();
    rmSync(folder, { recursive: true });
  });
  const from = join(folder, 'from');
  mkdirSync(join(from, 'images/parent'), { recursive: true });
  return { near, far, from, to: join(folder, 'to') };
}

test('a state arrives as it was, without what means nothing elsewhere', async (t) => {
  const { near, far, from, to } = setting(t);
  const big = Buffer.alloc(3_333_333, 'pages');
  for (const [path, content] of Object.entries({ 'manifest.json': '{}', 'whole.boot': 'id', 'images/pages-1.img': big, 'images/empty.img': '', 'images/parent/pages-1.img': 'older', 'images/dump.log': 'words' })) writeFileSync(join(from, path), content);
  symlinkSync('/etc/passwd', join(from, 'images/link'));
  let told = 0;
  const sending = sendState(near, from, (sent) => { told = sent; });
  const { files } = await far.receive<StateMessage>('state');
  await receiveFiles(far, files, to, 10_000_000);
  far.send({ type: 'done' });
  await sending;
  assert.deepEqual(readdirSync(to, { recursive: true }).map(String).sort(), ['images', 'images/empty.img', 'images/pages-1.img', 'images/parent', 'images/parent/pages-1.img', 'manifest.json']);
  assert.ok(readFileSync(join(to, 'images/pages-1.img')).equals(big));
  assert.equal(statSync(join(to, 'images/empty.img')).size, 0);
  assert.equal(readFileSync(join(to, 'images/parent/pages-1.img'), 'utf8'), 'older');
  assert.equal(told, big.length + 7);
});

test('a file that two states have is sent once, and is one file there, too', async (t) => {
  const { near, far, from, to } = setting(t);
  const second = join(from, '../second');
  mkdirSync(join(second, 'images/parent'), { recursive: true });
  writeFileSync(join(from, 'images/pages-1.img'), 'memory');
  writeFileSync(join(from, 'images/own.img'), 'first');
  writeFileSync(join(second, 'images/own.img'), 'second');
  linkSync(join(from, 'images/pages-1.img'), join(second, 'images/parent/pages-1.img'));
  linkSync(join(second, 'images/own.img'), join(second, 'images/parent/own.img'));
  const sent: SentFiles = new Map();
  const receive = async (id: string): Promise<void> => {
    const { files } = await far.receive<SnapshotMessage>('snapshot');
    await receiveFiles(far, files, join(to, id), 1000, { earlier: to });
    far.send({ type: 'done' });
  };
  for (const [id, dir] of [['one', from], ['two', second]] as const) {
    await Promise.all([sendState(near, dir, undefined, { type: 'snapshot', sent, name: id }), receive(id)]);
  }
  const inode = (path: string): number => statSync(join(to, path)).ino;
  assert.equal(far.received, 'memoryfirstsecond'.length);
  assert.equal(inode('two/images/parent/pages-1.img'), inode('one/images/pages-1.img'));
  assert.equal(inode('two/images/parent/own.img'), inode('two/images/own.img'));
  assert.equal(readFileSync(join(to, 'two/images/own.img'), 'utf8'), 'second');
  // The state of the VE itself may have them; what is of it alone nobody asks for.
  await Promise.all([sendState(near, second, undefined, { sent }), far.receive<StateMessage>('state').then(({ files }) => receiveFiles(far, files, join(to, 'own'), 1000, { earlier: to })).then(() => far.send({ type: 'done' }))]);
  assert.equal(inode('own/images/parent/pages-1.img'), inode('one/images/pages-1.img'));
  assert.equal(far.received, 'memoryfirstsecond'.length);
});

for (const [what, files, bytes] of [
  ['a name that leads out', [{ path: '../x', size: 1 }], 'x'],
  ['a name that leads out later', [{ path: 'images/../../x', size: 1 }], 'x'],
  ['an absolute name', [{ path: '/etc/x', size: 1 }], 'x'],
  ['an empty part', [{ path: 'images//x', size: 1 }], 'x'],
  ['an option of a program', [{ path: 'images/a b', size: 1 }], 'x'],
  ['the same name twice', [{ path: 'x', size: 1 }, { path: 'x', size: 1 }], 'xx'],
  ['a file that is a folder', [{ path: 'x', size: 1 }, { path: 'x/y', size: 1 }], 'xx'],
  ['a negative size', [{ path: 'x', size: -1 }], ''],
  ['more than may be', [{ path: 'x', size: 2000 }], 'x'],
  ['more than announced', [{ path: 'x', size: 1 }], 'xy'],
  ['less than announced', [{ path: 'x', size: 3 }], 'xy'],
  ['a file of a state before it, where there is none', [{ path: 'x', size: 1, same: 'one/x' }], ''],
  ['no list', 'x', 'x'],
  ['no names', [{}], 'x'],
] as const) {
  test(`refused: ${what}`, async (t) => {
    const { near, far, to } = setting(t);
    near.send({ type: 'state', files } as unknown as StateMessage);
    near.sendBulk(Readable.from([Buffer.from(bytes)])).catch(() => {});
    const message = await far.receive<StateMessage>('state');
    await assert.rejects(receiveFiles(far, message.files, to, 1000), (error: NodeJS.ErrnoException) => error.code === 'migration.stream' || error.code === 'EEXIST' || error.code === 'ENOTDIR');
  });
}
