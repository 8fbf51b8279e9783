import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { defaultSettings } from '../lib/settings.ts';
import { createEventBus } from '../ops/events.ts';
import { createLogger } from '../lib/log.ts';
import { createOperations } from '../ops/operations.ts';
import { createVolumes } from '../storage/volumes.ts';
import { openStore } from '../store/sqlite.ts';
import type { OperationRecord } from '../store/types.ts';
import { fingerprintOf } from '../templates/tree.ts';
import type { VeContext } from './context.ts';
import { commitVe, type CommitRequest, type Committed } from './template-commit.ts';
import { deleteTemplate, makeTemplate } from './template-verbs.ts';
import { templateHistory } from './template-versions.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const BASE = 1_000_000_000;
const UUID = '6f4c3f5e-0000-4000-8000-000000000101';

function sh(folder: string, script: string): void {
  const { status, stderr } = spawnSync('/bin/sh', ['-ec', script], { cwd: folder, encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** A store and a storage with a template and a VE of it, whose upper has been written to. @param fromZero as on XFS */
async function bench(t: TestContext, fromZero: boolean) {
  const stateDir = mkdtempSync(join(tmpdir(), 'veld-commit-'));
  t.after(() => rmSync(stateDir, { recursive: true }));
  const store = openStore(':memory:');
  const log = createLogger({ write() {} }, 'error');
  const events = createEventBus();
  const operations = createOperations({ store, events, log });
  const volumes = createVolumes({ stateDir, ownersFromZero: fromZero });
  const settings = { ...defaultSettings(), stateDir, runDir: join(stateDir, 'run') };
  const context = {
    store, volumes, settings, events, log, operations, names: { addresses: () => [], domain: 'veld' }, network: { plan: () => ({ links: [] }) }, states: {},
  } as unknown as VeContext;
  const run = async <T>(work: Parameters<typeof operations.start>[1]): Promise<T> => {
    const { id } = operations.start({ kind: 'template-commit', ve: null, requestId: null }, work);
    let record: OperationRecord;
    do {
      await new Promise((resolve) => { setTimeout(resolve, 10); });
      record = store.operation(id)!;
    } while (record.state === 'running');
    if (record.error) throw Object.assign(new Error(record.error.message), record.error);
    return record.result as T;
  };
  const record = { os: 'debian', release: '12', architecture: 'amd64', createdAt: '2026-01-01T00:00:00.000Z', source: {} };
  await run((task) => makeTemplate(context, async ({ path }) => {
    sh(path, 'mkdir -p etc/ssh usr/doc usr/sbin var/log srv; : >etc/machine-id; chmod 444 etc/machine-id; echo old >usr/doc/old; echo gone >srv/gone; echo base >etc/a; echo x >usr/sbin/sshd; chmod 755 usr/sbin/sshd; printf "root:*:1::::::\\n" >etc/shadow');
    return { ...record, name: 'base', fingerprint: await fingerprintOf(path) };
  }, task));
  const base = store.findTemplate('base')!;
  store.insertVe({
    uuid: UUID, number: 101, name: 'web', template: base.fingerprint, layers: base.layers, uidBase: BASE, properties: {}, addresses: [], mac: '02:00:00:00:00:01', desired: 'stopped', ready: true, guestDirty: false,
    createdAt: record.createdAt, lastExit: null, suspended: null, deployed: null, notStarted: null,
  });
  await volumes.createVolume(UUID, BASE, 101, base.layers);
  const upper = join(stateDir, 'ves', UUID, 'upper');
  const owner = fromZero ? 0 : BASE;
  const write = (script: string): void => sh(upper, `${script}; find . -type c -prune -o -exec chown -h ${owner}:${owner} {} +`);
  return { context, store, stateDir, upper, write, base, commit: (request: CommitRequest) => run<Committed>((task) => commitVe(context, UUID, request, task)), remove: (fingerprint: string) => run((task) => deleteTemplate(context, fingerprint, task)) };
}

for (const fromZero of [false, true]) {
  test(`a layer above those of the template, with owners from 0, and the VE as it was${fromZero ? ' (owners on the disk from 0)' : ''}`, needsRoot, async (t) => {
    const { context, store, stateDir, upper, write, base, commit, remove } = await bench(t, fromZero);
    await assert.rejects(commit({ name: 'same' }), /nothing to commit/);
    write('mkdir -p etc/ssh usr/doc srv var/log/web; echo changed >etc/a; echo 0123456789abcdef0123456789abcdef >etc/machine-id; echo key >etc/ssh/ssh_host_ed25519_key; echo web >etc/hostname; echo log >var/log/web/log; mknod srv/gone c 0 0; setfattr -n trusted.overlay.opaque -v y usr/doc; echo new >usr/doc/new');
    const before = spawnSync('find', ['.', '-printf', String.raw`%p %i %C@ %U:%G\n`], { cwd: upper, encoding: 'utf8' }).stdout;
    const made = await commit({ name: 'shop', description: 'A shop' });
    assert.equal(spawnSync('find', ['.', '-printf', String.raw`%p %i %C@ %U:%G\n`], { cwd: upper, encoding: 'utf8' }).stdout, before);
    assert.deepEqual([made.layers[0], made.layers.length, made.layers[1]!.uidBase, made.source.ve, made.source.baseName, made.uses], [base.layers[0], 2, 0, 'web', 'base', 0]);
    assert.deepEqual(made.cleaned.map(({ path }) => path).sort(), ['/etc/hostname', '/etc/machine-id', '/etc/ssh/ssh_host_ed25519_key', '/var/log/web/log']);
    const folders = made.layers.map(({ id }) => join(stateDir, 'layers', id, 'fs'));
    assert.equal(await fingerprintOf(folders), made.fingerprint);
    const layer = folders[1]!;
    assert.equal(existsSync(join(layer, 'etc/machine-id')), false, 'the empty one of the base shows');
    assert.deepEqual([statSync(join(layer, 'etc/a')).uid, statSync(layer).uid, readFileSync(join(layer, 'etc/a'), 'utf8'), readdirSync(join(layer, 'var/log/web'))], [0, 0, 'changed\n', []]);
    const root = await openGuestRoot(folders);
    t.after(() => root.close());
    assert.deepEqual([await root.exists('/srv/gone'), await root.exists('/usr/doc/old'), await root.exists('/usr/doc/new'), (await root.readFile('/etc/machine-id', 64)).length], [false, false, true, 0]);

    // The next version; the one before stays, and so do the layers of one that goes.
    write('echo more >srv/more');
    await assert.rejects(commit({ name: 'shop' }), /a template named shop already/);
    await assert.rejects(commit({ name: 'none', replace: true }), /no template named none/);
    const next = await commit({ name: 'shop', replace: true });
    assert.deepEqual(templateHistory(context, 'shop', () => 0).map(({ number, name, description }) => [number, name, description]), [[2, 'shop', ''], [1, 'shop-v1', 'A shop']]);
    await assert.rejects(remove(base.fingerprint), /is used by web/);
    await remove(made.fingerprint);
    assert.deepEqual([existsSync(folders[0]!), existsSync(layer), store.findTemplate('shop')!.fingerprint], [true, false, next.fingerprint]);
    store.deleteVe(UUID);
    await remove(base.fingerprint);
    assert.equal(existsSync(folders[0]!), true, 'another template stands on it');
    await remove(next.fingerprint);
    assert.deepEqual([existsSync(folders[0]!), store.listLayers(), readdirSync(join(stateDir, 'layers'))], [false, [], []]);
  });
}

test('secrets are refused, and leave nothing; allowed ones are noted', needsRoot, async (t) => {
  const { store, stateDir, write, commit } = await bench(t, false);
  write('mkdir -p etc root/.ssh; printf "root:$(printf \'$y$\')j9T:1::::::\\nann:$(printf \'$6$\')saltsalt:1::::::\\n" >etc/shadow; echo "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabcdef me" >root/.ssh/authorized_keys');
  await assert.rejects(commit({ name: 'leaky' }), (error: Error & { code: string; details: { secrets: { path: string; kind: string }[] } }) => {
    assert.equal(error.code, 'template.secrets');
    assert.deepEqual(error.details.secrets.map(({ path, kind }) => `${path} ${kind}`), ['/etc/shadow password-hash', '/root/.ssh/authorized_keys authorized-keys']);
    return true;
  });
  assert.deepEqual([store.findTemplate('leaky'), readdirSync(join(stateDir, 'layers')).filter((name) => name.startsWith('.'))], [undefined, []]);
  const made = await commit({ name: 'leaky', allowSecrets: true, description: 'of mine' });
  assert.deepEqual([made.secrets.length, made.source.secrets, made.source.description], [2, 2, 'of mine']);
});
