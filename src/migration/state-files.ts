/**
 * The state of a VE's processes on its way: one message with the names and sizes of its files, then their contents, one after the other, as bulk data. (No tar and no box
 * as for disks: these are files of Veld and criu, all of them root's, in folders that no VE can reach.)
 */
import { closeSync, createReadStream, openSync, readFileSync, writeSync } from 'node:fs';
import { mkdir, readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { PARENT } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import type { FrameStream } from './frames.ts';
import { LEFT } from './preflight.ts';
import { refusal } from './refusal.ts';
import type { Done, FilesMessage, Refuse, StateMessage } from './types.ts';

/** What a name may be made of: criu's and Veld's own are. */
const NAME = /^(?!\.{1,2}$)[\w.@+-]{1,120}$/;
/** Longest list, and deepest folder: the images of a state that stands on others lie in `parent` folders of each other. */
const FILES = 20_000;
const DEPTH = 64;

/** Files of a state that mean nothing elsewhere: whether it is whole is for the other side to say. */
const LEFT_OUT = /^(whole(\.\w+)?|.*\.log)$/;

/**
 * Send a state.
 * @param dir its folder @param before what has gone before: the rounds of memory on which it stands, and parts of its files @param progress told of each part that has gone: bytes, of how many
 * @throws VeldError `migration.link`, and what the target says
 */
export async function sendState(link: FrameStream, dir: string, { memory, early }: { memory: number; early: Early } = { memory: 0, early: new Map() }, progress: (sent: number, total: number) => void = () => {}): Promise<void> {
  const files = (await stateFiles(dir)).filter(({ path }) => memory === 0 || !path.startsWith(`images/${PARENT}/`));
  const total = files.reduce((sum, { size }) => sum + size, 0);
  link.send({ type: 'state', files, memory } as StateMessage);
  await sendFiles(link, dir, files, (sent) => progress(sent, total), early);
}

/** Send the files of which a message has told, and hear that they have come. @param progress told how many bytes have gone */
export async function sendFiles(link: FrameStream, dir: string, files: FilesMessage['files'], progress: (sent: number) => void, early: Early = new Map()): Promise<void> {
  let sent = 0;
  const whole = await link.sendBulk(stateContents(dir, files, early), (part) => progress(sent += part));
  const reply = await link.receive<Done | Refuse>('done', 'refuse');
  if (reply.type === 'refuse') throw refusal(reply);
  if (!whole) throw new VeldError('migration.stream', 'The other node has taken a state before all of it was sent.');
}

/** What of a folder is sent. */
export async function stateFiles(dir: string, below = ''): Promise<FilesMessage['files']> {
  const entries = await readdir(join(dir, below), { withFileTypes: true });
  const found = await Promise.all(entries.map(async (entry) => {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) return stateFiles(dir, path);
    return entry.isFile() && !LEFT_OUT.test(entry.name) ? [{ path, size: (await stat(join(dir, path))).size }] : [];
  }));
  return found.flat();
}

/** How many bytes of files, by their names, were sent or have come already. */
export type Early = ReadonlyMap<string, number>;

/** The contents of these files, one after the other. @param early what of them is left out */
export function stateContents(dir: string, files: FilesMessage['files'], early: Early = new Map()): Readable {
  return Readable.from(parts(dir, files, early), { objectMode: false });
}

/** Images are many, and most of them small: read at once, a few at a time, they cost next to nothing. */
const SMALL = 64 << 10;
const TOGETHER = 256 << 10;

async function* parts(dir: string, files: FilesMessage['files'], early: Early): AsyncGenerator<Buffer> {
  let few: Buffer[] = [];
  let length = 0;
  for (const { path, size } of files) {
    const start = early.get(path) ?? 0;
    if (size === start) continue;
    if (size <= SMALL && start === 0) {
      few.push(readFileSync(join(dir, path)).subarray(0, size));
      length += size;
      if (length < TOGETHER) continue;
    }
    if (length > 0) yield Buffer.concat(few);
    [few, length] = [[], 0];
    if (size > SMALL || start > 0) yield* createReadStream(join(dir, path), { start, end: size - 1, highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>;
  }
  if (length > 0) yield Buffer.concat(few);
}

/**
 * Take the files of which a message has told into an empty folder, which may be read by whoever can reach it, as criu needs it.
 * @param limit most bytes @param early what of them is there already @throws VeldError `migration.link`, `migration.stream`, `disk.full`
 */
export async function receiveFiles(link: FrameStream, files: FilesMessage['files'], folder: string, limit: number, early: Early = new Map()): Promise<void> {
  checkFiles(files, limit, early);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(folder);
  if (files.reduce((sum, { size }) => sum + size, LEFT.disk) > bavail * bsize) throw new VeldError('disk.full', 'There is no space for its memory on that node.');
  for (const below of new Set(files.map(({ path }) => dirname(path)))) await mkdir(join(folder, below), { recursive: true, mode: 0o755 });
  const rest = files.values();
  /** The file that is being filled, and how much of it is to come. */
  const current = { fd: -1, left: 0 };
  const close = (): void => {
    if (current.fd >= 0) closeSync(current.fd);
    current.fd = -1;
  };
  /** Go on to the next file that is not empty. @returns whether there is one */
  const next = (): boolean => {
    for (const { path, size } of rest) {
      close();
      const there = early.get(path);
      current.fd = openSync(join(folder, path), there === undefined ? 'wx' : 'a', 0o644);
      current.left = size - (there ?? 0);
      if (current.left > 0) return true;
    }
    return false;
  };
  try {
    // Into the page cache, a part at a time: whoever went to another thread for that would wait longer than it takes.
    await link.receiveParts((chunk) => {
      for (let at = 0; at < chunk.length;) {
        if (current.left === 0 && !next()) throw new VeldError('migration.stream', 'The other node has sent more than it had announced.');
        const part = chunk.subarray(at, at + current.left);
        for (let done = 0; done < part.length;) done += writeSync(current.fd, part, done);
        at += part.length;
        current.left -= part.length;
      }
    });
    if (current.left > 0 || next()) throw new VeldError('migration.stream', 'The other node has sent less than it had announced.');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw new VeldError('disk.full', 'There is no space for its memory on that node.', { cause: error });
    throw error;
  } finally {
    close();
  }
}

function checkFiles(files: FilesMessage['files'], limit: number, early: Early): void {
  const wrong = (why: string): never => { throw new VeldError('migration.stream', `The other node has announced a state that cannot be one: ${why}.`); };
  if (!Array.isArray(files) || files.length > FILES) wrong('too many files');
  const seen = new Set<string>();
  let total = 0;
  for (const { path, size } of files) {
    if (typeof path !== 'string' || !Number.isSafeInteger(size) || size < 0) wrong('a file without name or size');
    const parts = path.split('/');
    if (parts.length > DEPTH || !parts.every((part) => NAME.test(part)) || seen.has(path)) wrong(`a file named ${JSON.stringify(path.slice(0, 100))}`);
    if (size < (early.get(path) ?? 0)) wrong('a file that is less than what has come of it');
    seen.add(path);
    total += size;
  }
  if ([...early.keys()].some((path) => !seen.has(path))) wrong('a file of which a part has come is none of it');
  if (total > limit) wrong(`${total} bytes`);
}
