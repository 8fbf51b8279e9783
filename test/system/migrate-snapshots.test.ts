/** Snapshots go along with their VE, disk and processes, to a node with other uids, and back: each can be rolled back to there, and what it has in common with others is sent once. */
import assert from 'node:assert/strict';
import { existsSync, lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { adoptParent } from '../../src/checkpoint/parent.ts';
import { holdings as allHoldings } from '../lib/liar.ts';
import { makeNode, pair } from '../lib/nodes.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { Instance } from '../lib/instance.ts';
import { PLACES } from '../../src/migration/belongings.ts';
import type { MigrateResult } from '../../src/migration/types.ts';
import type { SnapshotRecord } from '../../src/store/types.ts';

const settings = (own: Instance['settings']): void => { own.network.uplinks = ['lo']; };
const [a, b] = [await makeNode('alpha', { settings }), await makeNode('beta', { settings })];
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();
await pair(a, b, 'beta');

const ok = async (node: Instance, ...args: string[]): Promise<string> => {
  const result = await node.cli(...args);
  assert.equal(result.code, 0, `veld ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
};
const said = async (node: Instance, command: string, ve = 'web'): Promise<string> => {
  const { stdout, stderr, exitCode } = await node.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const move = async (from: Instance, to: string, options: Record<string, unknown> = {}): Promise<MigrateResult> => (await from.api.operate('POST', '/v1/ves/web/migrate', { node: to, ...options })).result as MigrateResult;
const snapshotsOn = (node: Instance): Promise<SnapshotRecord[]> => node.api.call('GET', '/v1/ves/web/snapshots');
/** All of a record that is the same on each node. */
const kept = async (node: Instance): Promise<unknown[]> => (await snapshotsOn(node)).map(({ layers, ...rest }) => ({ ...rest, layers: layers.length }));

/** A process that knows a number which no file has, and tells it, and the next one, on a signal. */
const KEEPER = `systemd-run --quiet --unit=keeper perl -e 'my $n = 41; $SIG{USR1} = sub { open my $f, ">", "/run/told"; print $f $n++; close $f }; sleep 1 while 1'`;
const tell = (node: Instance): Promise<string> => said(node, 'rm -f /run/told; systemctl kill -s USR1 --kill-whom=main keeper; for i in $(seq 200); do [ -s /run/told ] && break; sleep 0.05; done; cat /run/told');

/** Without what is on its way out. */
const holdings = (node: Instance): string[] => allHoldings(node).filter((name) => !name.includes('.trash'));

/** Images below a folder of a node, and how many of these are the same file as another. */
function imagesOf(node: Instance, ...folders: string[]): { files: number; shared: number } {
  const files = folders.flatMap((folder) => readdirSync(join(node.settings.stateDir, folder), { recursive: true, withFileTypes: true })).filter((entry) => entry.isFile() && entry.name.endsWith('.img'));
  const inodes = new Set(files.map(({ parentPath, name }) => lstatSync(join(parentPath, name)).ino));
  return { files: files.length, shared: files.length - inodes.size };
}

/** Roll back to each of the three on a node, and see that it is what it was. */
async function rollBackToEach(node: Instance): Promise<void> {
  await ok(node, 'snapshot', 'restore', 'web', 'second');
  assert.equal(await said(node, 'cat /root/file'), 'second');
  assert.equal(await tell(node), '43');
  await ok(node, 'snapshot', 'restore', 'web', 'cold');
  assert.equal((await node.show('web')).status, 'stopped');
  await node.api.operate('POST', '/v1/ves/web/start', {});
  await node.booted('web');
  assert.equal(await said(node, 'cat /root/file; stat -c %U:%G /root/file'), 'cold\nroot:root');
  await ok(node, 'snapshot', 'restore', 'web', 'first');
  assert.equal(await said(node, 'cat /root/file; systemctl is-system-running'), 'first\nrunning');
  assert.equal(await tell(node), '41');
}

let records: unknown[];
let files: { files: number; shared: number };
let clean: string[];

test('a VE with snapshots, and a clone that stands on the same layers', async () => {
  clean = holdings(b);
  await a.createRunning('web');
  await a.booted('web');
  await said(a, 'echo cold >/root/file');
  await a.api.operate('POST', '/v1/ves/web/stop', {});
  await ok(a, 'snapshot', 'create', 'web', 'cold');
  await ok(a, 'clone', 'web', 'twin');
  await a.api.operate('POST', '/v1/ves/web/start', {});
  await a.booted('web');
  await said(a, KEEPER);
  await said(a, 'echo first >/root/file');
  await ok(a, 'snapshot', 'create', '--live', 'web', 'first');
  assert.equal(await tell(a), '41');
  assert.equal(await tell(a), '42');
  await said(a, 'echo second >/root/file; head -c 3000000 /dev/urandom >/root/large');
  await ok(a, 'set', 'web', 'description=then');
  await ok(a, 'snapshot', 'create', '--live', 'web', 'second');
  await ok(a, 'set', 'web', 'description=now');
  await said(a, 'echo third >/root/file');
  // As the kernel of this machine may not let them be: the second state stands on the first.
  const [, first, second] = (await snapshotsOn(a)).map(({ id }) => join(a.settings.stateDir, 'snapshots', id, 'images'));
  if (!existsSync(join(second!, 'parent'))) adoptParent(first!, second!, 0);
  records = await kept(a);
  files = imagesOf(a, 'snapshots');
  assert.equal(records.length, 3);
  assert.ok(files.shared > 10, `${files.shared} images are shared`);
});

for (const [where, fault] of [['source', 'kill:migrate.snapshot#2'], ['target', 'fail:migrate-in.snapshot#2'], ['target', 'kill:migrate-in.snapshot#3']] as const) {
  test(`${fault} at the ${where}: nothing is left there, and all is kept here`, async () => {
    const [struck, held] = [where === 'source' ? a : b, holdings(a)];
    await struck.restart({ VELD_FAULT: fault });
    const moving = move(a, 'beta').then(() => undefined, (error: unknown) => error as Error);
    if (fault.startsWith('kill')) await struck.died();
    assert.ok(await moving, 'it has not moved');
    if (fault.startsWith('kill')) await struck.start();
    else await struck.restart();
    await until('the other node to have forgotten it', () => holdings(b).join() === clean.join());
    assert.deepEqual(await b.list(), []);
    assert.deepEqual(await kept(a), records);
    assertSame(holdings(a).filter((name) => name !== 'incoming'), held, 'state folder');
    assert.equal(await said(a, 'cat /root/file'), 'third');
  });
}

test('they go along, whatever uids there are, and nothing stays behind but what another VE stands on', async () => {
  const before = await tell(a);
  const { layers: [, shared] } = (await snapshotsOn(a))[0]!;
  const { trouble, notes } = await move(a, 'beta');
  assert.equal(trouble, null);
  assert.ok(notes.some((note) => /uids/.test(note)), notes.join());
  assert.deepEqual(await kept(b), records);
  assert.match(await ok(b, 'snapshot', 'list', 'web'), /^cold +\S+ \S+ +disk\nfirst +\S+ \S+ +disk and processes\nsecond +\S+ \S+ +disk and processes$/m);
  assert.deepEqual(imagesOf(b, 'snapshots'), files, 'what they have in common is there once');
  assert.equal(Number(await tell(b)), Number(before) + 1);
  assert.equal(await said(b, 'cat /root/file'), 'third');
  assert.deepEqual((await a.list()).map(({ name }) => name), ['twin']);
  assert.deepEqual(readdirSync(join(a.settings.stateDir, 'snapshots')), []);
  assert.ok(existsSync(join(a.settings.stateDir, 'layers', shared!.id)));
  assert.equal(readdirSync(join(a.settings.stateDir, 'layers')).filter((name) => !name.startsWith('.')).length, 3, 'what the clone stands on, the template included');
  await a.api.operate('POST', '/v1/ves/twin/start', {});
  await a.booted('twin');
  assert.equal(await said(a, 'cat /root/file', 'twin'), 'cold');
  assert.deepEqual(existsSync(join(b.settings.stateDir, 'incoming')) ? readdirSync(join(b.settings.stateDir, 'incoming')) : [], []);
});

test('the VE is rolled back to each of them there', async () => {
  await rollBackToEach(b);
});

test('and they come back, with one that was made there, after a boot of the daemon', async () => {
  await b.restart();
  await said(b, 'echo fourth >/root/file');
  await ok(b, 'snapshot', 'create', '--live', 'web', 'fourth');
  const now = await kept(b);
  assert.equal((await move(b, 'alpha')).trouble, null);
  assert.deepEqual(await kept(a), now);
  assertSame(holdings(b), clean, 'state folder');
  await rollBackToEach(a);
  await ok(a, 'snapshot', 'restore', 'web', 'fourth');
  assert.equal(await said(a, 'cat /root/file'), 'fourth');
  assert.equal(await tell(a), '42');
});

test('a suspended VE goes with them twice, without having been brought back', async () => {
  await a.api.operate('POST', '/v1/ves/web/suspend');
  assert.equal((await move(a, 'beta')).kind, 'suspended');
  await ok(b, 'snapshot', 'create', '--live', 'web', 'asleep');
  const before = imagesOf(b, 'snapshots', 'states');
  await move(b, 'alpha');
  assert.deepEqual(imagesOf(a, 'snapshots', 'states'), { ...before, shared: before.shared - 2 }, 'the VE has its state in common with the snapshot, but for what says which uids it has');
  await a.api.operate('POST', '/v1/ves/web/resume');
  assert.equal(await tell(a), '43');
  await ok(a, 'snapshot', 'restore', 'web', 'asleep');
  assert.equal(await tell(a), '43');
});

test('what is left behind is lost: only the VE goes', async () => {
  await move(a, 'beta', { dropSnapshots: true });
  assert.deepEqual(await kept(b), []);
  assert.equal(await tell(b), '44');
  for (const node of [a, b]) assert.deepEqual(readdirSync(node.settings.stateDir).filter((name) => !name.startsWith('veld.db-') && !(name in PLACES)), [], 'each has a word on what becomes of it');
  await b.api.operate('DELETE', '/v1/ves/web?force=true');
  assertSame(holdings(b), clean, 'state folder');
});
