/** An open SQLite database: opened with care, statements prepared once, transactions that nest, errors in words. */
import { chmodSync, closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync, type SQLInputValue, type StatementSync } from 'node:sqlite';
import { VeldError } from '../lib/errors.ts';
import { checkVersion, migrate, type Migration } from './migrations.ts';

/** A row as SQLite gives it. */
export type Row = Record<string, unknown>;

/** Milliseconds to wait for another process (sqlite3, a backup) that holds the database; the daemon stands still meanwhile. */
const BUSY_TIMEOUT = 2000;

/** Primary result codes of SQLite, https://www.sqlite.org/rescode.html */
const RESULT = { busy: 5, locked: 6, corrupt: 11, full: 13, cantOpen: 14, notADatabase: 26 };

/** What the store needs of the database. */
export interface Connection {
  /** Increases whenever something may have been written. (Nobody else writes: a daemon holds the lock of its state folder.) */
  readonly version: number;
  run(sql: string, ...values: SQLInputValue[]): { changes: number };
  get(sql: string, ...values: SQLInputValue[]): Row | undefined;
  all(sql: string, ...values: SQLInputValue[]): Row[];
  transaction<T>(work: () => T): T;
  /** Writes that need not be on disk when this returns: the next ordinary write takes them along, and only a power cut before it forgets them. */
  soon<T>(work: () => T): T;
  close(): void;
}

/**
 * Open (or make) the database and bring its schema to the newest version.
 * @param file path, or `:memory:`
 * @throws VeldError `store.corrupt`, `store.too_new` (nothing is changed then), `disk.full`
 */
export function connect(file: string, migrations: readonly Migration[]): Connection {
  let opened: DatabaseSync | undefined;
  try {
    if (file !== ':memory:') prepareFile(file, migrations.length);
    opened = new DatabaseSync(file, { timeout: BUSY_TIMEOUT, enableForeignKeyConstraints: true });
    opened.exec('PRAGMA trusted_schema = OFF');
    opened.exec('PRAGMA journal_mode = WAL');
    // FULL: a journal row is on disk before the step it announces is taken, also when the power fails. NORMAL would only promise
    // that the file stays whole. It costs one fsync for each write (2 ms measured), and writes are few.
    opened.exec('PRAGMA synchronous = FULL');
    const check = opened.prepare('PRAGMA quick_check(1)').get()?.quick_check;
    if (check !== 'ok') throw new VeldError('store.corrupt', `${file} is damaged: ${String(check)}.`);
    migrate(opened, file, migrations);
  } catch (error) {
    opened?.close();
    throw inWords(error, file);
  }
  return wrap(opened, file);
}

/** Make the file with mode 0600 (its companions -wal and -shm take it over), and look at the version without writing. */
function prepareFile(file: string, latest: number): void {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  closeSync(openSync(file, 'a', 0o600));
  const { size, mode } = statSync(file);
  if ((mode & 0o077) !== 0) chmodSync(file, 0o600);
  if (size === 0) return;
  const db = new DatabaseSync(file, { readOnly: true, timeout: BUSY_TIMEOUT });
  try {
    checkVersion(db, file, latest);
  } finally {
    db.close();
  }
}

/**
 * Open an existing database to read it; the daemon may have it open, too.
 * @throws VeldError `store.corrupt`, `store.too_new`
 */
export function connectReadOnly(file: string, latest: number): Connection {
  let opened: DatabaseSync | undefined;
  try {
    opened = new DatabaseSync(file, { readOnly: true, timeout: BUSY_TIMEOUT });
    checkVersion(opened, file, latest);
  } catch (error) {
    opened?.close();
    throw inWords(error, file);
  }
  return wrap(opened, file);
}

function wrap(db: DatabaseSync, file: string): Connection {
  const statements = new Map<string, StatementSync>();
  let depth = 0;
  let version = 0;
  const guard = <T>(work: (statement: StatementSync) => T, sql: string): T => {
    try {
      let statement = statements.get(sql);
      if (statement === undefined) {
        statement = db.prepare(sql);
        statements.set(sql, statement);
      }
      return work(statement);
    } catch (error) {
      throw inWords(error, file);
    }
  };
  return {
    get version() {
      return version;
    },
    run(sql, ...values) {
      version += 1;
      return guard((statement) => ({ changes: Number(statement.run(...values).changes) }), sql);
    },
    get: (sql, ...values) => guard((statement) => statement.get(...values), sql),
    all: (sql, ...values) => guard((statement) => statement.all(...values), sql),
    transaction(work) {
      const [begin, commit, rollback] = depth === 0
        ? ['BEGIN IMMEDIATE', 'COMMIT', 'ROLLBACK']
        : [`SAVEPOINT s${depth}`, `RELEASE s${depth}`, `ROLLBACK TO s${depth}`];
      guard((statement) => statement.run(), begin);
      depth += 1;
      try {
        const result = work();
        if (result instanceof Promise) {
          result.catch(() => {}); // it is refused below, whatever becomes of it
          throw new TypeError('a transaction of the store cannot wait');
        }
        guard((statement) => statement.run(), commit);
        return result;
      } catch (error) {
        // After some failures (full disk) SQLite has rolled back by itself.
        if (db.isTransaction) {
          guard((statement) => statement.run(), rollback);
          if (depth > 1) guard((statement) => statement.run(), commit); // ROLLBACK TO leaves the savepoint open
        }
        throw error;
      } finally {
        depth -= 1;
        version += 1; // what was read in it may have been rolled back
      }
    },
    soon(work) {
      if (depth > 0) return work(); // the transaction decides
      db.exec('PRAGMA synchronous = NORMAL'); // not a kept statement: this pragma may act when it is prepared, and then no more
      try {
        return work();
      } finally {
        db.exec('PRAGMA synchronous = FULL');
      }
    },
    close() {
      version += 1;
      statements.clear();
      if (db.isOpen) db.close();
    },
  };
}

/** An error of SQLite as one of the table; those that mean something to a caller (a name taken) are told by their text, see sqlite.ts. */
function inWords(error: unknown, file: string): unknown {
  const { code, errcode, message } = error as { code?: string; errcode?: number; message: string };
  if (code !== 'ERR_SQLITE_ERROR' || errcode === undefined) return error;
  const primary = errcode & 0xff;
  const options = { cause: error, details: { file, sqlite: errcode } };
  if (primary === RESULT.corrupt || primary === RESULT.notADatabase) return new VeldError('store.corrupt', `${file} is damaged: ${message}.`, options);
  if (primary === RESULT.full) return new VeldError('disk.full', `No space left to write ${file}.`, options);
  if (primary === RESULT.busy || primary === RESULT.locked) return new VeldError('internal', `${file} is locked by another process.`, options);
  if (primary === RESULT.cantOpen) return new VeldError('internal', `${file} cannot be opened: ${message}.`, options);
  return error;
}
