/** `veld cp` with a daemon that sends what no honest one would: nothing outside of the target is touched, nothing half stays. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { startTestDaemon, type TestDaemon } from '../test-daemon.ts';
import { member } from './test-tar.ts';

const ROOT = member({ name: 'd/', type: '5', mode: 0o755 });
const END = Buffer.alloc(1024);

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), 'veld-cp-test-'));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

/** A daemon that answers reads with the stream and a status; without a status it breaks off. */
function sender(t: TestContext, stream: Buffer[], status: number | undefined, said = ''): Promise<TestDaemon> {
  return startTestDaemon(t, { 'POST /v1/ves/web/files/read': () => ({ session: 'x'.repeat(43) }) }, (ws) => {
    for (const part of stream) ws.send(Buffer.concat([Buffer.of(1), part]));
    if (said !== '') ws.send(Buffer.concat([Buffer.of(2), Buffer.from(said)]));
    if (status === undefined) ws.terminate();
    else ws.send(Buffer.concat([Buffer.of(3), Buffer.from(JSON.stringify({ type: 'exit', code: status }))]));
  });
}

test('a stream that breaks off, or a source that fails, leaves nothing', async (t) => {
  for (const [status, said, says, exit] of [[undefined, '', /broke/, 3], [3, 'there is no \x1b]0;title\x07/srv', /web: there is no \/srv\./, 34], [2, 'tar: d: Cannot read', /Cannot read/, 34]] as const) {
    const to = folder(t);
    const daemon = await sender(t, [ROOT, member({ name: 'd/a', content: 'half' }), ...(status === undefined ? [] : [END])], status, said);
    const result = await daemon.veld(['cp', 'web:/srv', join(to, 'new')]);
    assert.match(result.stderr, says);
    assert.doesNotMatch(result.stderr, /title/);
    assert.equal(result.status, exit);
    assert.deepEqual(readdirSync(to), []);
  }
  const to = folder(t);
  const cut = await sender(t, [ROOT, member({ name: 'd/a' })], 0); // says that all is well, but the archive has no end
  assert.equal((await cut.veld(['cp', 'web:/srv', join(to, 'new')])).status, 22);
  assert.deepEqual(readdirSync(to), []);
});

test('a target that goes away ends the copy, also while nothing comes to be written', async (t) => {
  for (const [gone, says, exit] of [[undefined, /broke/, 3], [1, /web: no space left/, 34]] as const) {
    const daemon = await startTestDaemon(t, { 'POST /v1/ves/web/files/write': () => ({ session: 'x'.repeat(43) }) }, (ws) => {
      ws.once('message', () => {
        if (gone === undefined) return ws.terminate();
        ws.send(Buffer.concat([Buffer.of(2), Buffer.from('no space left')]));
        ws.send(Buffer.concat([Buffer.of(3), Buffer.from(JSON.stringify({ type: 'exit', code: gone }))]));
      });
    });
    const { status, stderr } = await daemon.veld(['cp', '-', 'web:/srv/file'], { input: 'half', silent: true });
    assert.match(stderr, says);
    assert.equal(status, exit);
  }
});

test('hostile streams: nothing outside is written, and nothing inside stays', async (t) => {
  const to = folder(t);
  writeFileSync(join(to, 'precious'), 'mine');
  const streams: Buffer[][] = [
    [ROOT, member({ name: 'd/../../precious', content: 'evil' })],
    [ROOT, member({ name: join(to, 'precious'), content: 'evil' })],
    [member({ name: 'd', type: '2', link: to }), member({ name: 'd/precious', content: 'evil' })],
    [ROOT, member({ name: 'd/out', type: '1', link: join(to, 'precious') })],
    [ROOT, member({ name: 'd/disk', type: '4' })],
  ];
  for (const stream of streams) {
    const daemon = await sender(t, [...stream, END], 0);
    const { status } = await daemon.veld(['cp', 'web:/srv', join(to, 'new')]);
    assert.equal(status, 22);
    assert.deepEqual(readdirSync(to), ['precious']);
    assert.equal(readFileSync(join(to, 'precious'), 'utf8'), 'mine');
  }
});

test('a link in the stream is made, and what comes through it stays inside', async (t) => {
  const to = folder(t);
  mkdirSync(join(to, 'victim'));
  const daemon = await sender(t, [ROOT, member({ name: 'd/l', type: '2', link: join(to, 'victim') }), member({ name: 'd/l/evil', content: 'x' }), END], 0);
  await daemon.veld(['cp', 'web:/srv', join(to, 'new')]);
  assert.deepEqual(readdirSync(join(to, 'victim')), []);
});

test('links that an earlier copy left are not followed by the next one', async (t) => {
  const to = folder(t);
  mkdirSync(join(to, 'victim'));
  mkdirSync(join(to, 'dir'));
  symlinkSync(join(to, 'victim'), join(to, 'dir/sub'));
  symlinkSync(join(to, 'victim/made'), join(to, 'dir/file'));
  symlinkSync(join(to, 'victim'), join(to, 'dir/web'));
  const through = await sender(t, [ROOT, member({ name: 'd/sub/', type: '5', mode: 0o755 }), member({ name: 'd/sub/evil', content: 'x' }), END], 0);
  const refused = await through.veld(['cp', 'web:/srv/.', join(to, 'dir')]);
  assert.match(refused.stderr, /sub is there already, and is not a folder/);
  const over = await sender(t, [ROOT, member({ name: 'd/file', content: 'mine' }), END], 0);
  assert.equal((await over.veld(['cp', 'web:/srv/.', join(to, 'dir')])).status, 0);
  assert.ok(lstatSync(join(to, 'dir/file')).isFile());
  const named = await over.veld(['cp', 'web:/web', join(to, 'dir')]);
  assert.match(named.stderr, /web is there already, and is not a folder/);
  const single = await sender(t, [member({ name: 'd', content: 'new' }), END], 0);
  assert.equal((await single.veld(['cp', 'web:/web', join(to, 'dir')])).status, 0);
  assert.ok(lstatSync(join(to, 'dir/web')).isFile());
  assert.deepEqual(readdirSync(join(to, 'victim')), []);
});

test('what cannot be written here ends the copy with the words of tar', async (t) => {
  const to = folder(t);
  const daemon = await sender(t, [ROOT, member({ name: 'd/a/b', type: '1', link: 'd/none' }), ...Array.from({ length: 400 }, (_, i) => member({ name: `d/${i}`, content: 'z'.repeat(9000) })), END], 0);
  const { status, stderr } = await daemon.veld(['cp', 'web:/srv', '/proc/self/new']);
  assert.equal(status, 34);
  assert.match(stderr, /cannot be written/);
  const linked = await daemon.veld(['cp', 'web:/srv', join(to, 'new')]);
  assert.equal(linked.status, 34);
  assert.match(linked.stderr, /Cannot hard link/);
  assert.deepEqual(readdirSync(to), []);
});

test('set-user-id bits do not come along', async (t) => {
  const to = folder(t);
  const daemon = await sender(t, [ROOT, member({ name: 'd/su', mode: 0o4755 }), END], 0);
  assert.equal((await daemon.veld(['cp', 'web:/srv', join(to, 'plain')])).status, 0);
  assert.equal(lstatSync(join(to, 'plain/su')).mode & 0o7777, 0o755);
  assert.equal((await daemon.veld(['cp', '--privileged', 'web:/srv', join(to, 'asked')])).status, 0);
  assert.equal(lstatSync(join(to, 'asked/su')).mode & 0o7777, 0o4755);
});

test('what cannot be meant', async (t) => {
  const daemon = await startTestDaemon(t, {});
  assert.equal((await daemon.veld(['cp', 'a', 'b'])).status, 2);
  assert.equal((await daemon.veld(['cp', '-', '-'])).status, 2);
  assert.equal((await daemon.veld(['cp', 'web:', 'b'])).status, 2);
  assert.match((await daemon.veld(['cp', '/no/such/file', 'web:/x'])).stderr, /There is no \/no\/such\/file\./);
  assert.equal(daemon.asked.length, 0);
});
