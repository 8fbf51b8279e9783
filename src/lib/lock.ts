/**
 * Locks between processes that end with the process, however it ends.
 *
 * Node has no flock(2). A listening abstract socket would do, but it belongs to a network namespace (two daemons in two of them would
 * not see each other) and any user of the host can take its name first. SQLite's exclusive lock is an fcntl lock of the kernel on a
 * file that only root can open: it is gone with the process, is not inherited by children (conmon lives on), and is seen from every namespace.
 */
import { mkdirSync, rmSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

/** A lock that this process has. */
export interface Lock {
  /** Give it back. @param remove take the file away, too */
  release(remove?: boolean): void;
}

/**
 * Take the lock on `file`, which is made when missing.
 * Nothing else in this process may open the file: closing any descriptor of it would drop the lock.
 * @param file path; its folder is made 0700
 * @returns undefined when another process (or this one) has it
 */
export function takeLock(file: string): Lock | undefined {
  mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
  const before = statSync(file, { throwIfNoEntry: false })?.ino;
  const database = new DatabaseSync(file, { timeout: 0 });
  try {
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = MEMORY; BEGIN EXCLUSIVE');
  } catch (error) {
    database.close();
    const code = (error as { errcode?: number }).errcode;
    if (code === 5 || code === 6) return undefined; // SQLITE_BUSY, SQLITE_LOCKED
    throw error;
  }
  // Its owner may have removed the file between our open and our lock: then we hold a lock that nobody else will ever meet.
  const now = statSync(file, { throwIfNoEntry: false })?.ino;
  if (now === undefined || (before !== undefined && before !== now)) {
    database.close();
    return undefined;
  }
  return {
    release(remove = false) {
      if (remove) rmSync(file, { force: true });
      database.close();
    },
  };
}
