/**
 * Unpacks an archive that somebody made, confined and checked.
 *
 * The stream is decompressed, each header is checked here, and the same bytes go on to GNU tar. Both programs run in boxes (src/kernel/box.ts), which hold
 * nothing but the host's programs and the folder to fill. So a header that tar understands otherwise than we do still cannot reach the host.
 */
import { closeSync, constants, fstatSync, openSync, readFileSync, readSync } from 'node:fs';
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

/**
 * Unpack `file` into the empty folder `target`.
 * @param progress called with the share of the file that was read, 0 to 1
 * @throws VeldError `template.invalid` for an archive that breaks a rule, `operation.cancelled`
 */
export async function unpackArchive(file: string, target: string, options: { limits?: UnpackLimits; signal?: AbortSignal; progress?: (share: number) => void } = {}):
Promise<{ entries: number; bytes: number }> {
  const source = openArchive(file);
  const boxes: Box[] = [];
  try {
    const from = source.program === null ? undefined
      : startBox(source.program, { links: 'refused', capabilities: [], stdin: source.fd, stdout: 'pipe', signal: options.signal });
    const to = startBox(['/usr/bin/tar', '--extract', '--file=-', '--directory=/out', '--numeric-owner', '--same-owner', '--preserve-permissions',
      '--acls', '--xattrs', '--xattrs-include=security.capability', '--xattrs-include=user.*', '--no-overwrite-dir', '--delay-directory-restore', '--anchored',
      '--exclude=./dev/*', '--exclude=dev/*'], { out: target, links: 'followed', capabilities: CAPABILITIES, stdin: 'pipe', signal: options.signal });
    boxes.push(...(from ? [from] : []), to);
    const checker = createChecker(options.limits ?? UNPACK_LIMITS);
    const stdin = to.stdin as Writable;
    let broken = false;
    stdin.on('error', () => { broken = true; }); // tar ended early: its status and words follow
    for await (const chunk of from ? (from.stdout as Readable) : chunks(source.fd)) {
      options.signal?.throwIfAborted();
      checker.reader.write(chunk as Buffer);
      if (broken) break;
      await to.feed(chunk as Buffer);
      options.progress?.(Math.min(1, position(source.fd) / Math.max(1, source.size)));
    }
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
 * The rules that each entry must keep.
 * @returns a reader for the stream, which throws `template.invalid`, and the counts so far
 */
export function createChecker(limits: UnpackLimits): { reader: TarReader; seen: { entries: number; bytes: number } } {
  const seen = { entries: 0, bytes: 0 };
  const reader = new TarReader((entry) => {
    seen.entries += 1;
    seen.bytes += entry.size;
    if (seen.entries > limits.entries) throw invalid(`holds more than ${limits.entries} entries`);
    if (seen.bytes > limits.bytes) throw invalid(`holds more than ${limits.bytes} bytes`);
    checkEntry(entry, limits);
  });
  return { reader, seen };
}

function checkEntry(entry: TarEntry, limits: UnpackLimits): void {
  const shown = JSON.stringify(entry.path.slice(0, 100));
  if (entry.path === '') throw invalid('holds an entry without a name');
  if (Buffer.byteLength(entry.path) > limits.path || Buffer.byteLength(entry.link) > limits.path) throw invalid(`holds a path of more than ${limits.path} bytes, ${shown}`);
  if (outside(entry.path)) throw invalid(`holds ${shown}, which leads out of it`);
  if (entry.type === 'hardlink' && outside(entry.link)) throw invalid(`holds the hard link ${shown}, which leads out of it`);
  if ((entry.type === 'character' || entry.type === 'block') && !/^(\.\/)*dev\//.test(entry.path)) throw invalid(`holds the device node ${shown}`);
  if (entry.uid > 65535 || entry.gid > 65535) throw invalid(`holds ${shown} of owner ${entry.uid}:${entry.gid}, above 65535`);
}

function outside(path: string): boolean {
  return path.startsWith('/') || path.includes('\0') || path.split('/').includes('..');
}

function invalid(what: string): VeldError {
  return new VeldError('template.invalid', `The archive ${what}.`);
}

/** Open an archive and find how it is compressed, by its first bytes, not by its name. */
function openArchive(file: string): { fd: number; size: number; program: string[] | null } {
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
  return { fd, size: stat.size, program };
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
