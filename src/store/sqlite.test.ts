import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, describe, it } from 'node:test';
import { spawnSync } from 'node:child_process';
import { sampleTemplate, sampleVe, storeConformance } from './conformance.ts';
import { connect } from './connection.ts';
import { MIGRATIONS } from './migrations.ts';
import { openStore } from './sqlite.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-store-'));
after(() => rmSync(folder, { recursive: true, force: true }));
let count = 0;
const fresh = (): string => join(mkdtempSync(join(folder, `${count += 1}-`)), 'veld.db');
const code = (wanted: string) => (error: unknown): boolean => {
  assert.equal((error as { code?: string }).code, wanted, String(error));
  return true;
};
const hash = (file: string): string => createHash('sha256').update(readFileSync(file)).digest('hex');
const ADD_NOTE = 'ALTER TABLE ves ADD COLUMN note TEXT';

storeConformance('sqlite, a file', () => openStore(fresh()));
storeConformance('sqlite, in memory', () => openStore(':memory:'));

describe('sqlite store on disk', () => {
  it('is readable by its owner only, also when it was not', () => {
    const file = fresh();
    const store = openStore(file);
    store.setMeta('a', 1);
    for (const name of readdirSync(join(file, '..'))) assert.equal(statSync(join(file, '..', name)).mode & 0o777, 0o600, name);
    store.close();
    chmodSync(file, 0o644);
    openStore(file).close();
    assert.equal(statSync(file).mode & 0o777, 0o600);
  });

  it('waits for the disk at each write, except where that may come soon', () => {
    const db = connect(fresh(), MIGRATIONS);
    const level = (): unknown => db.get('PRAGMA synchronous')?.synchronous;
    const [normal, full] = [1, 2];
    for (let i = 0; i < 2; i++) {
      assert.equal(level(), full);
      assert.equal(db.soon(level), normal);
      assert.throws(() => db.soon(() => assert.fail('a write that fails')), /fails/);
      assert.equal(level(), full);
      assert.equal(db.transaction(() => db.soon(level)), full);
    }
    db.close();
  });

  it('has what was written after it is opened again', () => {
    const file = fresh();
    const store = openStore(file);
    store.insertVe(sampleVe(1));
    store.close();
    const again = openStore(file);
    assert.deepEqual(again.veByName('ve1'), sampleVe(1));
    again.close();
  });

  it('is migrated after a backup of the older version was made', () => {
    const file = fresh();
    const old = openStore(file);
    old.insertVe(sampleVe(1));
    old.close();
    const store = openStore(file, [...MIGRATIONS, ADD_NOTE]);
    assert.equal(store.veByName('ve1')?.number, 101);
    store.close();
    const copy = `${file}.backup-v${MIGRATIONS.length}`;
    assert.equal(statSync(copy).mode & 0o777, 0o600);
    const backup = openStore(copy);
    assert.deepEqual(backup.veByName('ve1'), sampleVe(1));
    backup.close();
    assert.deepEqual(readdirSync(join(file, '..')).sort(), ['veld.db', `veld.db.backup-v${MIGRATIONS.length}`]);
  });

  it('refuses a newer version and changes nothing', () => {
    const file = fresh();
    openStore(file, [...MIGRATIONS, ADD_NOTE]).close();
    const before = hash(file);
    assert.throws(() => openStore(file), code('store.too_new'));
    assert.equal(hash(file), before);
    assert.deepEqual(readdirSync(join(file, '..')).filter((name) => name.includes('backup')), []);
  });

  it('is as before when a migration fails in the middle', () => {
    const file = fresh();
    const old = openStore(file);
    old.insertVe(sampleVe(1));
    old.close();
    assert.throws(() => openStore(file, [...MIGRATIONS, 'DELETE FROM ves', 'no SQL']));
    const store = openStore(file);
    assert.equal(store.listVes().length, 1);
    store.close();
    openStore(file, [...MIGRATIONS, ADD_NOTE]).close();
  });

  it('is whole on one side or the other when the daemon dies in a migration', () => {
    for (const fault of ['store:backup', 'store:migrated', 'store:migrated#2']) {
      const file = fresh();
      const old = openStore(file);
      old.insertVe(sampleVe(1));
      old.close();
      const script = `import { openStore } from ${JSON.stringify(new URL('sqlite.ts', import.meta.url).href)};
        import { MIGRATIONS } from ${JSON.stringify(new URL('migrations.ts', import.meta.url).href)};
        openStore(${JSON.stringify(file)}, [...MIGRATIONS, 'DELETE FROM ves', 'CREATE TABLE x (y)']);`;
      const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { env: { ...process.env, VELD_FAULT: `kill:${fault}` }, encoding: 'utf8' });
      assert.equal(child.signal, 'SIGKILL', child.stderr);
      const store = openStore(file);
      assert.equal(store.listVes().length, 1, fault);
      store.close();
    }
  });

  it('keeps what was written when the process is killed', () => {
    const file = fresh();
    const script = `import { openStore } from ${JSON.stringify(new URL('sqlite.ts', import.meta.url).href)};
      const store = openStore(${JSON.stringify(file)});
      for (let i = 0; ; i += 1) { store.writeJournal({ operation: 'o', kind: 'k', ve: null, phase: String(i), data: {}, updatedAt: '' });
        if (i === 20) process.kill(process.pid, 'SIGKILL'); }`;
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8' });
    assert.equal(child.signal, 'SIGKILL', child.stderr);
    const store = openStore(file);
    assert.equal(store.listJournal()[0]?.phase, '20');
    store.close();
  });

  it('says that a file is damaged', () => {
    const garbage = fresh();
    writeFileSync(garbage, 'this is not a database, and long enough to be looked at as one. '.repeat(100));
    assert.throws(() => openStore(garbage), code('store.corrupt'));

    const torn = fresh();
    const store = openStore(torn);
    for (let i = 1; i < 200; i += 1) store.insertVe(sampleVe(i));
    store.close();
    const bytes = readFileSync(torn);
    bytes.fill(0xee, 8192, bytes.length - 4096);
    writeFileSync(torn, bytes);
    assert.throws(() => openStore(torn), code('store.corrupt'));

    const short = fresh();
    writeFileSync(short, bytes.subarray(0, 5000));
    assert.throws(() => openStore(short), code('store.corrupt'));
  });

  it('refuses the database of another program', () => {
    const file = fresh();
    const other = new DatabaseSync(file);
    other.exec('CREATE TABLE mine (a)');
    other.close();
    const before = hash(file);
    assert.throws(() => openStore(file), code('store.corrupt'));
    assert.equal(hash(file), before);
  });
});

it('kept lists follow every write, also one that is rolled back, and each caller may do to its records what it likes', () => {
  const store = openStore(':memory:');
  const ve = sampleVe(101, { layers: [] });
  store.insertTemplate(sampleTemplate('t', ve.template));
  assert.equal(store.listVes().length, 0);
  store.insertVe(ve);
  store.listVes()[0]!.properties = { changed: true };
  assert.deepEqual(store.listVes(), [ve]);
  assert.throws(() => store.transaction(() => {
    store.updateVe({ ...ve, name: 'two' });
    assert.equal(store.listVes()[0]!.name, 'two');
    throw new Error('rolled back');
  }), /rolled back/);
  assert.deepEqual(store.listVes(), [ve]);
  store.deleteVe(ve.uuid);
  assert.equal(store.listVes().length, 0);
  store.close();
});
