/** Files that appear under their name when they are whole and on the disk, or not at all. */
import { closeSync, existsSync, fsyncSync, linkSync, openSync, readdirSync, rmSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { VeldError, type ErrorCode } from './errors.ts';

/** How long the partial file of a process that is gone has been left alone, in milliseconds: a writer of another pid namespace looks gone, too, but it writes. */
const ABANDONED = 60_000;

/**
 * Write a file, mode 0600.
 * @param file path; nothing may have the name
 * @param code of the error when the name is taken, or cannot be written
 * @param fill writes all of it to the descriptor of an empty file
 * @returns what `fill` returns
 * @throws VeldError `code`, `disk.full`, and what `fill` throws: there is no file then
 */
export async function writeNewFile<T>(file: string, code: ErrorCode, fill: (fd: number) => Promise<T>): Promise<T> {
  const taken = (): VeldError => new VeldError(code, `${file} is there already.`, { hint: 'Choose another name, or remove it first.' });
  if (existsSync(file)) throw taken();
  dropAbandoned(file);
  const partial = partialOf(file, process.pid);
  let fd: number;
  try {
    fd = openSync(partial, 'wx', 0o600);
  } catch (error) {
    throw unwritable(file, code, error); // (and what stands there is somebody else's)
  }
  try {
    const result = await fill(fd);
    fsyncSync(fd);
    try {
      linkSync(partial, file); // never over what is there
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? taken() : unwritable(file, code, error);
    }
    syncFolder(dirname(file));
    return result;
  } catch (error) {
    throw (error as NodeJS.ErrnoException).code === 'ENOSPC' ? new VeldError('disk.full', `No space left for ${file}.`, { cause: error }) : error;
  } finally {
    closeSync(fd);
    rmSync(partial, { force: true });
  }
}

function partialOf(file: string, pid: number | string): string {
  return join(dirname(file), `.${basename(file)}.${pid}.partial`);
}

/** What a writer of the same file has left that was killed. */
function dropAbandoned(file: string): void {
  let names: string[];
  try {
    names = readdirSync(dirname(file));
  } catch {
    return; // told when the file is opened
  }
  const [before, behind] = basename(partialOf(file, '*')).split('*') as [string, string];
  for (const name of names) {
    const pid = name.startsWith(before) && name.endsWith(behind) ? name.slice(before.length, -behind.length) : '';
    if (!/^[1-9]\d{0,9}$/.test(pid) || isAlive(Number(pid))) continue;
    const path = join(dirname(file), name);
    const changed = statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? Infinity;
    if (Date.now() - changed > ABANDONED) rmSync(path, { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

function unwritable(file: string, code: ErrorCode, error: unknown): VeldError {
  return new VeldError(code, `${file} cannot be written: ${(error as Error).message}.`, { cause: error });
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
