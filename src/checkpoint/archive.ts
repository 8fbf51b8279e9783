/**
 * A checkpoint in one file.
 *
 *   8 bytes    `VELDCK01`
 *   the rest   a POSIX tar archive, compressed by zstd: `snapshots/ID/` (archive.json first) and `layers/ID/fs/` of the VE's own layers
 *   64 bytes   Ed25519 signature (RFC 8032) of the SHA-256 of all before it
 *
 * criu trusts its images, and so does whoever restores them: an archive is unpacked only after its signature was found to be one of a key that is trusted.
 */
import { spawn } from 'node:child_process';
import { createHash, createPrivateKey, createPublicKey, generateKeyPairSync, sign, verify, type KeyObject } from 'node:crypto';
import { closeSync, createWriteStream, existsSync, fstatSync, fsyncSync, linkSync, mkdirSync, openSync, readSync, rmSync, writeSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VeldError } from '../lib/errors.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { SAFE_PATH } from '../lib/run.ts';

const MAGIC = Buffer.from('VELDCK01');
const SIGNATURE = 64;

/** What keeps xattrs, sparse files and owners; names in archives are relative, and tar refuses others when it unpacks. */
const TAR = ['--format=posix', '--numeric-owner', '--xattrs', '--xattrs-include=*', '--sparse', '--warning=no-file-ignored'];

/** The key with which this installation signs, made at the first call. @param file PEM, mode 0600 */
export function archiveKey(file: string): KeyObject {
  const text = readIfExists(file);
  if (text !== undefined) return createPrivateKey(text);
  const { privateKey } = generateKeyPairSync('ed25519');
  writeFileAtomic(file, privateKey.export({ type: 'pkcs8', format: 'pem' }), 0o600);
  return privateKey;
}

export interface WriteOptions {
  /** The file to be; it must not be there yet. */
  file: string;
  /** Folder that the paths are relative to. */
  folder: string;
  paths: readonly string[];
  key: KeyObject;
  /** The engine's tar. */
  tar: string;
  signal: AbortSignal;
  /** Told how many bytes were written. */
  onProgress: (bytes: number) => void;
}

/**
 * Write an archive. The name appears when all is on the disk.
 * @returns bytes
 * @throws VeldError `checkpoint.file` when the name is taken or cannot be written, `disk.full`, `operation.cancelled`
 */
export async function writeArchive({ file, folder, paths, key, tar, signal, onProgress }: WriteOptions): Promise<number> {
  const partial = join(dirname(file), `.${basename(file)}.${process.pid}.partial`);
  const taken = (): VeldError => new VeldError('checkpoint.file', `${file} is there already.`, { hint: 'Choose another name, or remove it first.' });
  if (existsSync(file)) throw taken();
  let fd: number | undefined;
  try {
    fd = openPartial(partial, file);
    const hash = createHash('sha256').update(MAGIC);
    let bytes = MAGIC.length;
    writeSync(fd, MAGIC);
    const packed = runPiped(tar, ['--create', '--file=-', ...TAR, `--directory=${folder}`, '--', ...paths], signal);
    const zstd = runPiped('/usr/bin/zstd', ['-q', '-T0', '-3', '-c'], signal, packed.output);
    const counted = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        bytes += chunk.length;
        onProgress(bytes);
        done(null, chunk);
      },
    });
    await pipeline(zstd.output, counted, createWriteStream('', { fd, start: MAGIC.length, autoClose: false }), { signal });
    await Promise.all([packed.ended, zstd.ended]);
    writeSync(fd, sign(null, hash.digest(), key), 0, SIGNATURE, bytes);
    fsyncSync(fd);
    try {
      linkSync(partial, file); // never over what is there
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? taken() : fileError(file, error);
    }
    syncFolder(dirname(file));
    return bytes + SIGNATURE;
  } finally {
    if (fd !== undefined) closeSync(fd);
    rmSync(partial, { force: true });
  }
}

function openPartial(partial: string, file: string): number {
  try {
    return openSync(partial, 'wx', 0o600);
  } catch (error) {
    throw fileError(file, error);
  }
}

/**
 * Verify an archive, then unpack it into a folder. What is unpacked is what was verified, also when somebody writes to the file meanwhile.
 * @param trusted keys of this installation, and of whoever else it trusts
 * @throws VeldError `checkpoint.file` when it cannot be read, `checkpoint.unusable` when it is no archive, is cut off, changed, or signed by nobody known
 */
export async function readArchive(file: string, folder: string, trusted: readonly KeyObject[], tar: string, signal: AbortSignal): Promise<void> {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw fileError(file, error);
  }
  try {
    const stat = fstatSync(fd);
    const head = Buffer.alloc(MAGIC.length);
    if (!stat.isFile() || stat.size < MAGIC.length + SIGNATURE || readSync(fd, head, 0, head.length, 0) !== head.length || !head.equals(MAGIC)) {
      throw new VeldError('checkpoint.unusable', `${file} is not a checkpoint of Veld.`);
    }
    const end = stat.size - SIGNATURE;
    const signature = Buffer.alloc(SIGNATURE);
    readSync(fd, signature, 0, SIGNATURE, end);
    const first = await digest(fd, end, signal);
    if (!trusted.some((key) => verify(null, first, createPublicKey(key), signature))) {
      throw new VeldError('checkpoint.unusable', `${file} was changed or cut off, or written by an installation that this one does not trust.`, { hint: 'Only checkpoints that this installation has written are restored: criu trusts what is in them.' });
    }
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const hash = createHash('sha256').update(MAGIC);
    const payload = Readable.from(chunks(fd, MAGIC.length, end, (chunk) => hash.update(chunk)));
    const plain = runPiped('/usr/bin/zstd', ['-q', '-d', '-c'], signal, payload);
    const unpacked = runPiped(tar, ['--extract', '--file=-', ...TAR, '--same-owner', '--preserve-permissions', `--directory=${folder}`], signal, plain.output);
    unpacked.output.resume();
    await Promise.all([plain.ended, unpacked.ended]);
    if (!hash.digest().equals(first)) throw new VeldError('checkpoint.unusable', `${file} was changed while it was read.`);
  } finally {
    closeSync(fd);
  }
}

async function digest(fd: number, end: number, signal: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256').update(MAGIC);
  for await (const _ of chunks(fd, MAGIC.length, end, (chunk) => hash.update(chunk))) signal.throwIfAborted();
  return hash.digest();
}

/** A range of a file, a MiB at a time; others have their turn in between. */
async function* chunks(fd: number, from: number, to: number, each: (chunk: Buffer) => void): AsyncGenerator<Buffer> {
  for (let at = from; at < to;) {
    const chunk = Buffer.alloc(Math.min(1 << 20, to - at));
    const length = readSync(fd, chunk, 0, chunk.length, at);
    if (length === 0) throw new VeldError('checkpoint.unusable', 'The checkpoint was cut off while it was read.');
    const part = chunk.subarray(0, length);
    each(part);
    at += length;
    yield part;
    await new Promise(setImmediate);
  }
}

interface Piped {
  output: Readable;
  /** Settles at its end. Rejects with a VeldError `command.failed`. */
  ended: Promise<void>;
}

/** A program of a chain. */
function runPiped(program: string, args: readonly string[], signal: AbortSignal, input?: Readable): Piped {
  const child = spawn(program, args, { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C.UTF-8' }, stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'], signal });
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-2000); });
  const fed = input ? pipeline(input, child.stdin!) : Promise.resolve();
  const exit = new Promise<void>((resolve, reject) => {
    child.on('error', (error) => reject(error.name === 'AbortError' ? new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: error }) : error));
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new VeldError(/No space left/.test(said) ? 'disk.full' : 'command.failed', `${basename(program)} ended with status ${code ?? 'of a signal'}: ${said.trim().slice(-500)}`));
    });
  });
  // A program that has ended well has had all that it wanted: that its end came before we saw the last of it taken is no failure.
  const unfed = (error: NodeJS.ErrnoException): void => { if (error.code !== 'ERR_STREAM_PREMATURE_CLOSE') throw error; };
  const ended = Promise.all([exit, fed.catch((error: unknown) => exit.then(() => unfed(error as NodeJS.ErrnoException)))]).then(() => {});
  ended.catch(() => {}); // whoever waits hears of it
  return { output: child.stdout!, ended };
}

function fileError(file: string, error: unknown): VeldError {
  return new VeldError('checkpoint.file', `${file}: ${(error as Error).message}.`, { cause: error });
}

function syncFolder(folder: string): void {
  const fd = openSync(folder, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
