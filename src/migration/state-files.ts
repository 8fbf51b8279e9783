/**
 * The state of a VE's processes on its way: one message with the names and sizes of its files, then their contents, one after the other, as bulk data. (No tar and no box
 * as for disks: these are files of Veld and criu, all of them root's, in folders that no VE can reach.)
 */
import { closeSync, createReadStream, openSync, readFileSync } from 'node:fs';
import { link as linkFile, lstat, mkdir, readdir, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { PARENT } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import type { FrameStream } from './frames.ts';
import { refusal } from './refusal.ts';
import { LEFT, type Done, type FilesMessage, type Refuse, type SnapshotMessage, type StateFile, type StateMessage } from './types.ts';
import { WriteBehind } from './write-behind.ts';

/** What a name may be made of: criu's and Veld's own are. */
const NAME = /^(?!\.{1,2}$)[\w.@+-]{1,120}$/;
/** Longest list, and deepest folder: the images of a state that stands on others lie in `parent` folders of each other. */
const FILES = 20_000;
const DEPTH = 64;

/** Files of a state that mean nothing elsewhere: whether it is whole is for the other side to say. */
const LEFT_OUT = /^(whole(\.\w+)?|.*\.log)$/;

/** Where files of states that were sent are at the target, by inode: states that stand on each other have many of them in common. */
export type SentFiles = Map<bigint, string>;

/** How many bytes of files, by their names, were sent or have come already. */
export type Early = ReadonlyMap<string, number>;

/** What of a state has gone before, and what it is. */
export interface StateSent {
  type?: 'state' | 'snapshot';
  /** Files that need not be sent again. */
  sent?: SentFiles;
  /** Under which those of this one are added to them. */
  name?: string;
  /** Rounds of memory on which it stands. */
  memory?: number;
  /** Parts of its files. */
  early?: Early;
}

/**
 * Send a state.
 * @param dir its folder
 * @param progress told of each part that has gone: bytes, of how many
 * @throws VeldError `migration.link`, and what the target says
 */
export async function sendState(link: FrameStream, dir: string, progress: (sent: number, total: number) => void = () => {}, { type = 'state', sent: earlier = new Map(), name, memory = 0, early }: StateSent = {}): Promise<void> {
  const all = (await stateFiles(dir)).filter(({ path }) => memory === 0 || !path.startsWith(`images/${PARENT}/`));
  const files = await sharedFiles(dir, all, earlier, name);
  const total = bytesOf(files);
  const message: StateMessage | SnapshotMessage = type === 'state' ? { type, files, memory } : { type, files };
  link.send(message);
  await sendFiles(link, dir, files, (sent) => progress(sent, total), early);
}

/** Send the files of which a message has told, and hear that they have come. @param progress told how many bytes have gone */
export async function sendFiles(link: FrameStream, dir: string, files: readonly StateFile[], progress: (sent: number) => void, early: Early = new Map()): Promise<void> {
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

/** Say of files which are there already, and note the others. @param name of the folder at the target; without it nothing is noted */
export async function sharedFiles(dir: string, files: readonly StateFile[], sent: SentFiles, name?: string): Promise<StateFile[]> {
  const inodes = await Promise.all(files.map(({ path }) => stat(join(dir, path), { bigint: true })));
  return files.map((file, at) => {
    const { ino, nlink } = inodes[at]!;
    const same = sent.get(ino);
    if (same === undefined && nlink > 1n && name !== undefined) sent.set(ino, `${name}/${file.path}`);
    return { ...file, ...same !== undefined && { same } };
  });
}

/** What of these files is sent, in bytes. */
export function bytesOf(files: readonly StateFile[]): number {
  return files.reduce((sum, { size, same }) => sum + (same === undefined ? size : 0), 0);
}

/** The contents of these files, one after the other. @param early what of them is left out */
export function stateContents(dir: string, files: readonly StateFile[], early: Early = new Map()): Readable {
  return Readable.from(parts(dir, files, early), { objectMode: false });
}

/** Images are many, and most of them small: read at once, a few at a time, they cost next to nothing. */
const SMALL = 64 << 10;
const TOGETHER = 256 << 10;

async function* parts(dir: string, files: readonly StateFile[], early: Early): AsyncGenerator<Buffer> {
  let few: Buffer[] = [];
  let length = 0;
  for (const { path, size, same } of files) {
    if (same !== undefined) continue;
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
 * @param limit most bytes
 * @param there `early`: what of them is there already; `earlier`: the folder with the states, made by this function, of which they may be files
 * @throws VeldError `migration.link`, `migration.stream`, `disk.full`
 */
export async function receiveFiles(link: FrameStream, files: FilesMessage['files'], folder: string, limit: number, { early = new Map(), earlier }: { early?: Early; earlier?: string } = {}): Promise<void> {
  checkFiles(files, limit, early, earlier !== undefined);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { bavail, bsize } = await statfs(folder);
  if (bytesOf(files) + LEFT.disk > bavail * bsize) throw new VeldError('disk.full', 'There is no space for its memory on that node.');
  for (const below of new Set(files.map(({ path }) => dirname(path)))) await mkdir(join(folder, below), { recursive: true, mode: 0o755 });
  const rest = files.filter(({ same }) => same === undefined).values();
  /** The file that is being filled, and how much of it is to come. */
  const current = { fd: -1, left: 0 };
  const behind = new WriteBehind();
  const close = async (): Promise<void> => {
    const { fd } = current;
    current.fd = -1;
    if (fd >= 0) await behind.end().finally(() => closeSync(fd));
  };
  /** Go on to the next file that is not empty. @returns whether there is one */
  const next = async (): Promise<boolean> => {
    for (const { path, size } of rest) {
      await close();
      const there = early.get(path);
      current.fd = openSync(join(folder, path), there === undefined ? 'wx' : 'a', 0o644);
      current.left = size - (there ?? 0);
      if (current.left > 0) return true;
    }
    return false;
  };
  try {
    await link.receiveParts(async (chunk) => {
      for (let at = 0; at < chunk.length;) {
        if (current.left === 0 && !await next()) throw new VeldError('migration.stream', 'The other node has sent more than it had announced.');
        const part = chunk.subarray(at, at + current.left);
        await behind.write(current.fd, part);
        at += part.length;
        current.left -= part.length;
      }
    });
    if (current.left > 0 || await next()) throw new VeldError('migration.stream', 'The other node has sent less than it had announced.');
    await close();
    for (const { path, size, same } of files) if (same !== undefined) await linkEarlier(join(earlier!, same), join(folder, path), size);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw new VeldError('disk.full', 'There is no space for its memory on that node.', { cause: error });
    throw error;
  } finally {
    await close().catch(() => {}); // said above, or what else went wrong is
  }
}

/** No name below was made but by us, and none is a link to somewhere: see checkFiles. */
async function linkEarlier(from: string, to: string, size: number): Promise<void> {
  const known = await lstat(from).catch(() => undefined);
  if (known?.isFile() !== true || known.size !== size) throw new VeldError('migration.stream', 'The other node has announced a state that cannot be one: a file that is to have come before.');
  await linkFile(from, to);
}

function checkFiles(files: FilesMessage['files'], limit: number, early: Early, linked: boolean): void {
  const wrong = (why: string): never => { throw new VeldError('migration.stream', `The other node has announced a state that cannot be one: ${why}.`); };
  if (!Array.isArray(files) || files.length > FILES) wrong('too many files');
  const seen = new Set<string>();
  let total = 0;
  for (const { path, size, same } of files) {
    if (typeof path !== 'string' || !Number.isSafeInteger(size) || size < 0) wrong('a file without name or size');
    if (!isPath(path) || seen.has(path)) wrong(`a file named ${JSON.stringify(path.slice(0, 100))}`);
    if (same !== undefined && !(linked && typeof same === 'string' && isPath(same))) wrong('a file that is to have come before');
    if (same === undefined ? size < (early.get(path) ?? 0) : early.has(path)) wrong('a file that is less than what has come of it');
    seen.add(path);
    if (same === undefined) total += size;
  }
  if ([...early.keys()].some((path) => !seen.has(path))) wrong('a file of which a part has come is none of it');
  if (total > limit) wrong(`${total} bytes`);
}

function isPath(path: string): boolean {
  const parts = path.split('/');
  return parts.length <= DEPTH && parts.every((part) => NAME.test(part));
}
