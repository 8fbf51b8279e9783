/**
 * A checkpoint in one file.
 *
 *   8 bytes    `VELDCK02`
 *   a line     JSON: through which programs the rest has gone, `{"compress":"zstd"|"none","encrypt":"age"|"gpg"|"none"}`
 *   the rest   a POSIX tar archive, so compressed, then so encrypted: `snapshots/ID/` (archive.json first) and `layers/ID/fs/` of the VE's own layers
 *   64 bytes   Ed25519 signature (RFC 8032) of the SHA-256 of all before it
 *
 * `VELDCK01` has no such line: its archive is compressed by zstd, and not encrypted.
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
import { ALL_XATTRS } from '../lib/tar.ts';

const MAGIC = Buffer.from('VELDCK02');
const OLD_MAGIC = Buffer.from('VELDCK01');
const SIGNATURE = 64;
/** Longest line behind the magic, in bytes. */
const LINE = 256;

/** What the archive goes through on its way into a file. */
export interface Packing {
  compress: 'zstd' | 'none';
  /** For whom it is encrypted; absent: for nobody. */
  encrypt?: Recipient;
}

/** Somebody who can read what is encrypted: a recipient of age(1) (`age1...`, `ssh-ed25519 ...`), or a key of gpg(1) that root on this node has. */
export interface Recipient {
  by: 'age' | 'gpg';
  to: string;
}

interface Head {
  compress: 'zstd' | 'none';
  encrypt: 'age' | 'gpg' | 'none';
}

/** A program of the way there and back. @param key recipient on the way there; file with the identity of age on the way back */
const FILTERS: Record<'zstd' | 'age' | 'gpg', { pack: (key: string) => [string, string[]]; unpack: (key: string) => [string, string[]] }> = {
  zstd: { pack: () => ['zstd', ['-q', '-T0', '-3', '-c']], unpack: () => ['zstd', ['-q', '-d', '-c']] },
  age: { pack: (key) => ['age', ['--encrypt', '--recipient', key]], unpack: (key) => ['age', ['--decrypt', '--identity', key]] },
  gpg: {
    pack: (key) => ['gpg', ['--batch', '--quiet', '--trust-model', 'always', '--compress-algo', 'none', '--encrypt', '--recipient', key, '--output', '-']],
    unpack: () => ['gpg', ['--batch', '--quiet', '--decrypt', '--output', '-']],
  },
};

/** Whom a word means. @throws VeldError `request.invalid` for what is neither's */
export function recipient(word: string): Recipient {
  if (/^(age1[0-9a-z]{20,200}|ssh-(ed25519|rsa) [\w+/=]{20,2000}( \S{1,200})?)$/.test(word)) return { by: 'age', to: word };
  if (/^(0x)?[0-9A-Fa-f]{8,40}$|^[^\s@<>-][^\s@<>]*@[^\s@<>]+$/.test(word)) return { by: 'gpg', to: word };
  throw new VeldError('request.invalid', `${JSON.stringify(word.slice(0, 80))} names nobody for whom to encrypt.`, { hint: 'Give a recipient of age (age1..., ssh-ed25519 ...), or the id or address of a gpg key that root on the node has.' });
}

/** What keeps xattrs, sparse files and owners; names in archives are relative, and tar refuses others when it unpacks. */
const TAR = ['--format=posix', '--numeric-owner', ...ALL_XATTRS, '--sparse', '--warning=no-file-ignored'];

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
  packing: Packing;
  signal: AbortSignal;
  /** Told how many bytes were written. */
  onProgress: (bytes: number) => void;
}

/**
 * Write an archive. The name appears when all is on the disk.
 * @returns bytes
 * @throws VeldError `checkpoint.file` when the name is taken or cannot be written, `disk.full`, `operation.cancelled`
 */
export async function writeArchive({ file, folder, paths, key, tar, packing, signal, onProgress }: WriteOptions): Promise<number> {
  const partial = join(dirname(file), `.${basename(file)}.${process.pid}.partial`);
  const taken = (): VeldError => new VeldError('checkpoint.file', `${file} is there already.`, { hint: 'Choose another name, or remove it first.' });
  if (existsSync(file)) throw taken();
  let fd: number | undefined;
  try {
    fd = openPartial(partial, file);
    const { compress, encrypt } = packing;
    const line: Head = { compress, encrypt: encrypt?.by ?? 'none' };
    const head = Buffer.concat([MAGIC, Buffer.from(`${JSON.stringify(line)}\n`)]);
    const hash = createHash('sha256').update(head);
    let bytes = head.length;
    writeSync(fd, head);
    const chain = [runPiped(tar, ['--create', '--file=-', ...TAR, `--directory=${folder}`, '--', ...paths], signal)];
    if (compress === 'zstd') chain.push(runPiped(...FILTERS.zstd.pack(''), signal, chain.at(-1)!.output));
    if (encrypt) chain.push(runPiped(...FILTERS[encrypt.by].pack(encrypt.to), signal, chain.at(-1)!.output));
    const counted = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        hash.update(chunk);
        bytes += chunk.length;
        onProgress(bytes);
        done(null, chunk);
      },
    });
    await pipeline(chain.at(-1)!.output, counted, createWriteStream('', { fd, start: head.length, autoClose: false }), { signal });
    await allEnded(chain);
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
 * @param identity file of age, for what is encrypted for it
 * @throws VeldError `checkpoint.file` when it cannot be read, `checkpoint.unusable` when it is no archive, is cut off, changed, or signed by nobody known
 */
export async function readArchive(file: string, folder: string, trusted: readonly KeyObject[], tar: string, signal: AbortSignal, identity?: string): Promise<void> {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    throw fileError(file, error);
  }
  try {
    const stat = fstatSync(fd);
    const begin = stat.isFile() && stat.size >= MAGIC.length + SIGNATURE ? readHead(fd) : undefined;
    if (!begin) throw new VeldError('checkpoint.unusable', `${file} is not a checkpoint of Veld.`);
    const end = stat.size - SIGNATURE;
    const signature = Buffer.alloc(SIGNATURE);
    readSync(fd, signature, 0, SIGNATURE, end);
    const first = await digest(fd, end, signal);
    if (!trusted.some((key) => verify(null, first, createPublicKey(key), signature))) {
      throw new VeldError('checkpoint.unusable', `${file} was changed or cut off, or written by an installation that this one does not trust.`, { hint: 'Only checkpoints that this installation has written are restored: criu trusts what is in them.' });
    }
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    const { compress, encrypt } = begin.head;
    if (encrypt === 'age' && identity === undefined) throw new VeldError('checkpoint.file', `${file} is encrypted by age.`, { hint: 'Name the file with the identity that can read it: --identity FILE.' });
    const hash = createHash('sha256');
    for await (const _ of chunks(fd, 0, begin.length, (chunk) => hash.update(chunk)));
    const chain: Piped[] = [];
    let stream = Readable.from(chunks(fd, begin.length, end, (chunk) => hash.update(chunk)));
    const through = (command: [string, string[]]): void => {
      chain.push(runPiped(...command, signal, stream));
      stream = chain.at(-1)!.output;
    };
    if (encrypt !== 'none') through(FILTERS[encrypt].unpack(identity ?? ''));
    if (compress === 'zstd') through(FILTERS.zstd.unpack(''));
    through([tar, ['--extract', '--file=-', ...TAR, '--same-owner', '--preserve-permissions', `--directory=${folder}`]]);
    stream.resume();
    await allEnded(chain);
    if (!hash.digest().equals(first)) throw new VeldError('checkpoint.unusable', `${file} was changed while it was read.`);
  } finally {
    closeSync(fd);
  }
}

/** What stands before the archive, and where that begins; undefined for what is no checkpoint. */
function readHead(fd: number): { head: Head; length: number } | undefined {
  const start = Buffer.alloc(MAGIC.length + LINE);
  const got = start.subarray(0, readSync(fd, start, 0, start.length, 0));
  if (got.subarray(0, MAGIC.length).equals(OLD_MAGIC)) return { head: { compress: 'zstd', encrypt: 'none' }, length: MAGIC.length };
  const end = got.indexOf('\n');
  if (!got.subarray(0, MAGIC.length).equals(MAGIC) || end < 0) return undefined;
  try {
    const { compress, encrypt } = JSON.parse(got.toString('utf8', MAGIC.length, end)) as Head;
    return ['zstd', 'none'].includes(compress) && ['age', 'gpg', 'none'].includes(encrypt) ? { head: { compress, encrypt }, length: end + 1 } : undefined;
  } catch {
    return undefined;
  }
}

async function digest(fd: number, end: number, signal: AbortSignal): Promise<Buffer> {
  const hash = createHash('sha256');
  for await (const _ of chunks(fd, 0, end, (chunk) => hash.update(chunk))) signal.throwIfAborted();
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

/** Wait for all programs of a chain. One that ended because the next one took no more is not what went wrong. @throws VeldError of the first of the others */
async function allEnded(chain: readonly Piped[]): Promise<void> {
  const failures = (await Promise.allSettled(chain.map(({ ended }) => ended))).flatMap((result) => (result.status === 'rejected' ? [result.reason as VeldError] : []));
  // (Between Node and a program there is a socket, not a pipe: what writes to one that is closed may be told so in words, too.)
  const cause = failures.find((error) => error.details?.signal !== 'SIGPIPE' && !/Broken pipe|Connection reset by peer/.test(error.message)) ?? failures[0];
  if (cause !== undefined) throw cause;
}

/** A program of a chain. */
function runPiped(program: string, args: readonly string[], signal: AbortSignal, input?: Readable): Piped {
  // gpg looks for root's keys there, or where the daemon was told that they are.
  const { HOME = '/root', GNUPGHOME } = process.env;
  const child = spawn(program, args, { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C.UTF-8', HOME, ...GNUPGHOME !== undefined && { GNUPGHOME } }, stdio: [input ? 'pipe' : 'ignore', 'pipe', 'pipe'], signal });
  let said = '';
  child.stderr!.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-2000); });
  const fed = input ? pipeline(input, child.stdin!) : Promise.resolve();
  const exit = new Promise<void>((resolve, reject) => {
    child.on('error', (error) => reject(error.name === 'AbortError' ? new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: error })
      : (error as NodeJS.ErrnoException).code === 'ENOENT' ? new VeldError('command.failed', `${program} is not installed on this node.`, { hint: `apt-get install ${program}` }) : error));
    child.on('close', (code, killed) => {
      const how = killed === null ? `with status ${code}` : `by ${killed}`;
      if (code === 0) resolve();
      else reject(new VeldError(/No space left/.test(said) ? 'disk.full' : 'command.failed', `${basename(program)} ended ${how}: ${said.trim().slice(-500)}`, { details: { signal: killed } }));
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
