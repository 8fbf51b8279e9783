/** The schema of the store, version by version, and the way from an older one to the newest. */
import { closeSync, existsSync, fsyncSync, openSync, renameSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import type { DatabaseSync } from 'node:sqlite';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';

/** Marks a database as one of Veld's (PRAGMA application_id): `Veld` in ASCII. */
export const APPLICATION_ID = 0x56656c64;

/** One step of the schema: statements, or work on the data. Steps that were released never change. */
export type Migration = string | ((db: DatabaseSync) => void);

/** Step N leads from version N to N + 1; the version is kept in PRAGMA user_version. */
export const MIGRATIONS: readonly Migration[] = [
  `
  CREATE TABLE layers (
    id TEXT PRIMARY KEY, uid_base INTEGER NOT NULL, size INTEGER NOT NULL, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;

  CREATE TABLE templates (
    fingerprint TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, os TEXT NOT NULL, release TEXT NOT NULL, architecture TEXT NOT NULL,
    size INTEGER NOT NULL, created_at TEXT NOT NULL, source TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE template_layers (
    template TEXT NOT NULL REFERENCES templates (fingerprint) ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers (id), uid_base INTEGER NOT NULL, PRIMARY KEY (template, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX template_layers_layer ON template_layers (layer);

  CREATE TABLE ves (
    uuid TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, name TEXT NOT NULL UNIQUE, template TEXT NOT NULL,
    uid_base INTEGER NOT NULL UNIQUE, properties TEXT NOT NULL, addresses TEXT NOT NULL, mac TEXT NOT NULL,
    desired TEXT NOT NULL CHECK (desired IN ('running', 'stopped')), ready INTEGER NOT NULL, guest_dirty INTEGER NOT NULL,
    created_at TEXT NOT NULL, last_exit TEXT
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE ve_layers (
    ve TEXT NOT NULL REFERENCES ves (uuid) ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers (id), uid_base INTEGER NOT NULL, PRIMARY KEY (ve, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX ve_layers_layer ON ve_layers (layer);

  CREATE TABLE operations (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, ve TEXT, state TEXT NOT NULL,
    percent INTEGER NOT NULL, message TEXT NOT NULL, result TEXT, error TEXT, created_at TEXT NOT NULL, ended_at TEXT, request_id TEXT
  ) STRICT;
  CREATE INDEX operations_state ON operations (state, seq);

  CREATE TABLE journal (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, operation TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, ve TEXT, phase TEXT NOT NULL,
    data TEXT NOT NULL, updated_at TEXT NOT NULL
  ) STRICT;

  CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
  `,
  `
  ALTER TABLE ves ADD COLUMN suspended TEXT;
  CREATE TABLE snapshots (
    id TEXT PRIMARY KEY, ve TEXT NOT NULL REFERENCES ves (uuid) ON DELETE CASCADE, name TEXT NOT NULL, created_at TEXT NOT NULL, properties TEXT NOT NULL,
    engine TEXT, UNIQUE (ve, name)
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE snapshot_layers (
    snapshot TEXT NOT NULL REFERENCES snapshots (id) ON DELETE CASCADE, position INTEGER NOT NULL,
    layer TEXT NOT NULL REFERENCES layers (id), uid_base INTEGER NOT NULL, PRIMARY KEY (snapshot, position)
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX snapshot_layers_layer ON snapshot_layers (layer);
  `,
  `
  ALTER TABLE ves ADD COLUMN deployed TEXT CHECK (deployed IN ('warm', 'cold'));
  CREATE TABLE warm_images (
    template TEXT PRIMARY KEY REFERENCES templates (fingerprint) ON DELETE CASCADE, id TEXT NOT NULL UNIQUE, layer TEXT NOT NULL REFERENCES layers (id),
    uid_base INTEGER NOT NULL, host TEXT NOT NULL, engine TEXT NOT NULL, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX warm_images_layer ON warm_images (layer);
  `,
  `
  CREATE TABLE nodes (
    id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, address TEXT, allow TEXT NOT NULL, authorities TEXT NOT NULL, facts TEXT, ended TEXT, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE node_tokens (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, name TEXT, allow TEXT NOT NULL, created_at TEXT NOT NULL, expires_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE handovers (
    id TEXT NOT NULL, role TEXT NOT NULL CHECK (role IN ('source', 'target')), ve TEXT NOT NULL, node TEXT NOT NULL, epoch INTEGER NOT NULL, kind TEXT NOT NULL,
    at TEXT NOT NULL,
    PRIMARY KEY (id, role)
  ) STRICT, WITHOUT ROWID;
  `,
  'ALTER TABLE ves ADD COLUMN not_started TEXT;',
  `
  ALTER TABLE snapshots ADD COLUMN description TEXT NOT NULL DEFAULT '';
  ALTER TABLE snapshots ADD COLUMN parent TEXT;
  CREATE TABLE pools (
    name TEXT PRIMARY KEY, path TEXT NOT NULL UNIQUE, driver TEXT NOT NULL CHECK (driver IN ('overlay', 'btrfs')), image TEXT, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE repositories (
    name TEXT PRIMARY KEY, location TEXT NOT NULL, identity TEXT, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  `,
  `
  CREATE TABLE pools_next (
    name TEXT PRIMARY KEY, path TEXT NOT NULL UNIQUE, driver TEXT NOT NULL CHECK (driver IN ('overlay', 'btrfs', 'image')), image TEXT, created_at TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  INSERT INTO pools_next SELECT name, path, driver, image, created_at FROM pools;
  DROP TABLE pools;
  ALTER TABLE pools_next RENAME TO pools;
  `,
];

/**
 * The schema version of an open database; nothing is changed.
 * @throws VeldError `store.corrupt` when the database is not one of Veld's, `store.too_new` when a newer Veld wrote it
 */
export function checkVersion(db: DatabaseSync, file: string, latest: number): number {
  const number = (sql: string): number => Number(Object.values(db.prepare(sql).get() ?? {})[0]);
  const version = number('PRAGMA user_version');
  const fresh = version === 0 && number('SELECT count(*) FROM sqlite_schema') === 0;
  if (!fresh && number('PRAGMA application_id') !== APPLICATION_ID) throw new VeldError('store.corrupt', `${file} is a database, but not one of Veld.`);
  if (version > latest) {
    throw new VeldError('store.too_new', `${file} has schema version ${version}; this Veld knows ${latest} and older ones.`,
      { details: { file, version, latest } });
  }
  return version;
}

/**
 * Bring the schema to the newest version in one transaction. Before an existing database is changed, a copy is made beside it:
 * `FILE.backup-vN`, where N is the version that it holds.
 */
export function migrate(db: DatabaseSync, file: string, migrations: readonly Migration[]): void {
  const from = checkVersion(db, file, migrations.length);
  if (from === migrations.length) return;
  if (from > 0 && file !== ':memory:') backup(db, `${file}.backup-v${from}`);
  db.exec('PRAGMA foreign_keys = OFF'); // tables may be rebuilt; it cannot be switched inside the transaction
  db.exec('BEGIN IMMEDIATE');
  try {
    for (const step of migrations.slice(from)) {
      if (typeof step === 'string') db.exec(step);
      else step(db);
      faultPoint('store:migrated');
    }
    const broken = db.prepare('PRAGMA foreign_key_check').all();
    if (broken.length > 0) throw new Error(`the migration of ${file} left references to nothing: ${JSON.stringify(broken.slice(0, 3))}`);
    db.exec(`PRAGMA application_id = ${APPLICATION_ID}`);
    db.exec(`PRAGMA user_version = ${migrations.length}`);
    db.exec('COMMIT');
  } catch (error) {
    if (db.isTransaction) db.exec('ROLLBACK');
    throw error;
  } finally {
    db.exec('PRAGMA foreign_keys = ON');
  }
}

/** A whole copy with what is still in the write-ahead log, on disk before this returns. */
function backup(db: DatabaseSync, file: string): void {
  const temporary = `${file}.new`;
  rmSync(temporary, { force: true });
  closeSync(openSync(temporary, 'wx', 0o600)); // VACUUM INTO fills an empty file, and keeps its mode
  db.prepare('VACUUM INTO ?').run(temporary);
  sync(temporary);
  // An earlier try at the migration may have left a copy: the present one is as good or newer.
  if (existsSync(file)) rmSync(file);
  renameSync(temporary, file);
  sync(dirname(file));
  faultPoint('store:backup');
}

function sync(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
