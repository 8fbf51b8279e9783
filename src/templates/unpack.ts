/**
 * Unpacks an archive that somebody made, confined and checked: tar, plain or compressed, or squashfs, which sqfs2tar (squashfs-tools-ng) turns into one.
 *
 * The stream is decompressed, each header is checked here, and the same bytes go on to GNU tar. Both programs run in boxes (src/kernel/box.ts), which hold
 * nothing but the host's programs and the folder to fill. So a header that tar understands otherwise than we do still cannot reach the host.
 */
import { closeSync, constants, existsSync, fstatSync, openSync, readFileSync, readSync, realpathSync } from 'node:fs';
import { basename, dirname } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { startBox } from '../kernel/box.ts';
import type { Box, BoxCapability } from '../kernel/box.ts';
import { VeldError } from '../lib/errors.ts';
import { TarReader } from '../lib/tar-entries.ts';
import type { TarEntry } from '../lib/tar-entries.ts';

/** Bounds of an archive. */
export interface UnpackLimits {
  entries: number;
  /** Bytes of all contents together. */
  bytes: number;
  /** Bytes of one path. */
  path: number;
}

export const UNPACK_LIMITS: UnpackLimits = { entries: 2_000_000, bytes: 64 * 2 ** 30, path: 4096 };

/** What of a root user's might is needed to write files of any owner. */
const CAPABILITIES: readonly BoxCapability[] = ['chown', 'dac_override', 'fowner', 'fsetid', 'setfcap'];

/** Turns a squashfs into a tar stream. */
const SQFS2TAR = '/usr/bin/sqfs2tar';

/**
 * Unpack `file` into the empty folder `target`.
 * @param options.within only what is below this folder of the archive, which becomes the root: of archives that hold more than a tree
 * @param progress called with the share of the file that was read, 0 to 1
 * @throws VeldError `template.invalid` for an archive that breaks a rule, `operation.cancelled`
 */
export async function unpackArchive(file: string, target: string, options: { limits?: UnpackLimits; signal?: AbortSignal; progress?: (share: number) => void; within?: string } = {}):
Promise<{ entries: number; bytes: number }> {
  const source = openArchive(file);
  const boxes: Box[] = [];
  try {
    const from = decompress(source, options.signal);
    const { within } = options;
    const to = startBox(['/usr/bin/tar', '--extract', '--file=-', '--directory=/out', '--numeric-owner', '--same-owner', '--preserve-permissions',
      '--acls', '--xattrs', '--xattrs-include=security.capability', '--xattrs-include=user.*', '--no-overwrite-dir', '--delay-directory-restore', '--anchored',
      ...within === undefined ? ['--exclude=./dev/*', '--exclude=dev/*'] : [`--exclude=${within}/dev/*`, '--strip-components=1', '--', within]], { out: target, links: 'followed', capabilities: CAPABILITIES, stdin: 'pipe', signal: options.signal });
    boxes.push(...(from ? [from] : []), to);
    const checker = createChecker(options.limits ?? UNPACK_LIMITS, within);
    const stdin = to.stdin as Writable;
    let broken = false;
    stdin.on('error', () => { broken = true; }); // tar ended early: its status and words follow
    for await (const chunk of from ? (from.stdout as Readable) : chunks(source.fd)) {
      options.signal?.throwIfAborted();
      checker.reader.write(chunk as Buffer);
      if (broken) break;
      await to.feed(chunk as Buffer);
      options.progress?.(source.squashfs ? Math.min(1, checker.seen.bytes / Math.max(1, 3 * source.size)) : Math.min(1, position(source.fd) / Math.max(1, source.size)));
    }
    if (!broken && source.squashfs) await whole(from!);
    if (!broken) checker.reader.end();
    stdin.end();
    const [unpacked, decompressed] = await Promise.all([to.ended, from?.ended ?? { code: 0, said: '' }]);
    if (decompressed.code !== 0 && !broken) throw new VeldError('template.invalid', `The archive cannot be decompressed: ${decompressed.said}`);
    if (unpacked.code !== 0) throw new VeldError('template.invalid', `The archive cannot be unpacked: ${unpacked.said}`);
    return checker.seen;
  } finally {
    for (const box of boxes) box.kill();
    closeSync(source.fd);
  }
}

/**
 * Hold an archive to the rules without unpacking it.
 * @param limits what it may have
 * @throws VeldError `template.invalid`
 */
export async function checkArchive(file: string, limits: UnpackLimits, signal?: AbortSignal): Promise<{ entries: number; bytes: number }> {
  const { reader, seen } = createChecker(limits);
  await scan(file, reader, () => false, signal);
  return seen;
}

/** sqfs2tar ends without the end of the stream when it fails: its words say more. */
async function whole(from: Box): Promise<void> {
  const { code, said } = await from.ended;
  if (code !== 0) throw new VeldError('template.invalid', `The squashfs cannot be read: ${said}`);
}

/** What an archive has at its beginning: the path of its first entry. @throws VeldError `template.invalid` */
export async function firstEntry(file: string, signal?: AbortSignal): Promise<string | undefined> {
  let first: string | undefined;
  await scan(file, new TarReader((entry) => { first ??= entry.path; }, undefined, { hash: false }), () => first !== undefined, signal);
  return first;
}

/**
 * Content of one small file of an archive, which is at its beginning or the archive is small.
 * @param most of it, bytes
 * @returns undefined when it is not there
 * @throws VeldError `template.invalid`
 */
export async function readMember(file: string, name: string, most: number, signal?: AbortSignal): Promise<Buffer | undefined> {
  let [parts, found]: [Buffer[] | undefined, boolean] = [undefined, false];
  const reader = new TarReader((entry) => {
    if (found || entry.type !== 'file' || entry.path.replace(/^\.\//, '') !== name) return;
    if (entry.size > most) throw invalid(`holds ${name} of ${entry.size} bytes`);
    parts = [];
  }, () => { found ||= parts !== undefined; }, { hash: false, content: (part) => { if (!found) parts?.push(Buffer.from(part)); } });
  await scan(file, reader, () => found, signal);
  return found ? Buffer.concat(parts!) : undefined;
}

/** Read an archive until somebody knows enough. */
async function scan(file: string, reader: TarReader, enough: () => boolean, signal?: AbortSignal): Promise<void> {
  const source = openArchive(file);
  const from = decompress(source, signal);
  try {
    for await (const chunk of from ? (from.stdout as Readable) : chunks(source.fd)) {
      signal?.throwIfAborted();
      reader.write(chunk as Buffer);
      if (enough()) return;
    }
    if (from && (await from.ended).code !== 0) throw new VeldError('template.invalid', `The archive cannot be decompressed: ${(await from.ended).said}`);
    reader.end();
  } finally {
    from?.kill();
    closeSync(source.fd);
  }
}

/**
 * The rules that each entry must keep.
 * @param within only what is below this folder is of interest
 * @returns a reader for the stream, which throws `template.invalid`, and the counts so far
 */
export function createChecker(limits: UnpackLimits, within?: string): { reader: TarReader; seen: { entries: number; bytes: number } } {
  const seen = { entries: 0, bytes: 0 };
  const reader = new TarReader((entry) => {
    seen.entries += 1;
    seen.bytes += entry.size;
    if (seen.entries > limits.entries) throw invalid(`holds more than ${limits.entries} entries`);
    if (seen.bytes > limits.bytes) throw invalid(`holds more than ${limits.bytes} bytes`);
    checkEntry(entry, limits, within);
  });
  return { reader, seen };
}

function checkEntry(entry: TarEntry, limits: UnpackLimits, within: string | undefined): void {
  const shown = JSON.stringify(entry.path.slice(0, 100));
  if (entry.path === '') throw invalid('holds an entry without a name');
  if (Buffer.byteLength(entry.path) > limits.path || Buffer.byteLength(entry.link) > limits.path) throw invalid(`holds a path of more than ${limits.path} bytes, ${shown}`);
  if (outside(entry.path)) throw invalid(`holds ${shown}, which leads out of it`);
  if (within !== undefined && entry.path !== within && !entry.path.startsWith(`${within}/`)) return;
  const inside = (path: string): boolean => !outside(path) && (within === undefined || path.startsWith(`${within}/`));
  if (entry.type === 'hardlink' && !inside(entry.link)) throw invalid(`holds the hard link ${shown}, which leads out of it`);
  if ((entry.type === 'character' || entry.type === 'block') && !(within === undefined ? /^(\.\/)*dev\//.test(entry.path) : entry.path.startsWith(`${within}/dev/`))) throw invalid(`holds the device node ${shown}`);
  if (entry.uid > 65535 || entry.gid > 65535) throw invalid(`holds ${shown} of owner ${entry.uid}:${entry.gid}, above 65535`);
}

function outside(path: string): boolean {
  return path.startsWith('/') || path.includes('\0') || path.split('/').includes('..');
}

function invalid(what: string): VeldError {
  return new VeldError('template.invalid', `The archive ${what}.`);
}

interface Archive {
  fd: number;
  size: number;
  /** What makes a tar stream of it; null: it is one. */
  program: string[] | null;
  /** It is no stream: the program needs the file. */
  squashfs: boolean;
  file: string;
}

/** Begin to make a tar stream of it, in a box; undefined: it is one. */
function decompress({ program, squashfs, fd, file }: Archive, signal?: AbortSignal): Box | undefined {
  if (program === null) return undefined;
  return startBox(program, { links: 'refused', capabilities: [], stdout: 'pipe', signal, ...squashfs ? { in: dirname(file) } : { stdin: fd } });
}

/** Open an archive and find how it is compressed, by its first bytes, not by its name. */
function openArchive(file: string): Archive {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    throw new VeldError('template.invalid', `${file} cannot be read: ${(error as Error).message}.`, { hint: 'The daemon reads the file, on this node.', cause: error });
  }
  const stat = fstatSync(fd);
  const head = Buffer.alloc(6);
  if (!stat.isFile() || readSync(fd, head, 0, 6, 0) < 6) {
    closeSync(fd);
    throw new VeldError('template.invalid', `${file} is not an archive.`);
  }
  const magic = head.toString('hex');
  const program = magic.startsWith('1f8b') ? ['/usr/bin/gzip', '-dc'] : magic.startsWith('fd377a585a00') ? ['/usr/bin/xz', '-dc']
    : magic.startsWith('28b52ffd') ? ['/usr/bin/zstd', '-dcq', '--memory=512MB'] : null;
  const squashfs = magic.startsWith('68737173');
  if (!squashfs) return { fd, size: stat.size, program, squashfs, file };
  const real = realpathSync(file);
  if (!existsSync(SQFS2TAR)) {
    closeSync(fd);
    throw new VeldError('template.invalid', `${file} is a squashfs, and there is no ${SQFS2TAR} to read it.`, { hint: 'Install the package squashfs-tools-ng.' });
  }
  return { fd, size: stat.size, program: [SQFS2TAR, '--no-skip', '--root-becomes', '.', `/in/${basename(real)}`], squashfs, file: real };
}

function* chunks(fd: number): Generator<Buffer> {
  for (;;) {
    const buffer = Buffer.allocUnsafe(1 << 18);
    const length = readSync(fd, buffer, 0, buffer.length, null);
    if (length === 0) return;
    yield buffer.subarray(0, length);
  }
}

/** How far the shared file offset has come; the decompressor reads by it, too. */
function position(fd: number): number {
  return Number(/^pos:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? 0);
}
