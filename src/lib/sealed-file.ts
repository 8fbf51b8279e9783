/**
 * Files that tell whether they are whole.
 *
 *   8 bytes    the kind
 *   a line     JSON: through which programs the rest has gone, `{"compress":"zstd"|"none","encrypt":"age"|"gpg"|"none"}`; kinds of earlier versions have none
 *   the rest   the content, so compressed, then so encrypted
 *   the seal   made of the SHA-256 of all before it
 *
 * A file is read twice: it is unpacked only after its seal was found to be right.
 */
import { createHash } from 'node:crypto';
import { closeSync, constants, createWriteStream, fstatSync, openSync, readSync, writeSync } from 'node:fs';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { VeldError, type ErrorCode } from './errors.ts';
import { writeNewFile } from './new-file.ts';
import { allEnded, runPiped, type Piped } from './piped.ts';

/** Longest line behind the kind, in bytes. */
const LINE = 256;
const KIND = 8;

/** A kind of file. */
export interface SealedKind {
  /** 8 bytes at its beginning. */
  magic: Buffer;
  /** Of earlier versions, which have no line: they are compressed by zstd, and not encrypted. */
  oldMagic?: Buffer;
  /** Bytes of the seal. */
  sealLength: number;
  /** Errors about the file itself, and about what is in it. */
  codes: { file: ErrorCode; unusable: ErrorCode };
  /** What it is, for messages: `a checkpoint of Veld`. */
  called: string;
}

/** What the content goes through on its way into a file. */
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

export interface WriteOptions {
  kind: SealedKind;
  /** The file to be; it must not be there yet. */
  file: string;
  /** The content. Not begun before the file can be written. */
  source: () => Piped;
  packing: Packing;
  /** Makes the seal of the SHA-256. */
  seal: (digest: Buffer) => Uint8Array;
  signal: AbortSignal;
  /** Told how many bytes were written. */
  onProgress: (bytes: number) => void;
}

/**
 * Write a file, mode 0600. The name appears when all is on the disk.
 * @returns bytes
 * @throws VeldError `kind.codes.file` when the name is taken or cannot be written, `disk.full`, `operation.cancelled`, and what the source throws
 */
export async function writeSealed({ kind, file, source, packing: { compress, encrypt }, seal, signal, onProgress }: WriteOptions): Promise<number> {
  return writeNewFile(file, kind.codes.file, async (fd) => {
    const line: Head = { compress, encrypt: encrypt?.by ?? 'none' };
    const head = Buffer.concat([kind.magic, Buffer.from(`${JSON.stringify(line)}\n`)]);
    const hash = createHash('sha256').update(head);
    let bytes = head.length;
    writeSync(fd, head);
    const chain = [source()];
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
    const written = pipeline(chain.at(-1)!.output, counted, createWriteStream('', { fd, start: head.length, autoClose: false }), { signal });
    // Why the source has ended says more than that its stream has.
    await written.catch(async (error: unknown) => {
      await allEnded(chain);
      throw error;
    });
    await allEnded(chain);
    writeSync(fd, seal(hash.digest()), 0, kind.sealLength, bytes);
    return bytes + kind.sealLength;
  });
}

export interface ReadOptions {
  kind: SealedKind;
  file: string;
  /** Whether a seal is right. */
  check: (digest: Buffer, seal: Buffer) => boolean;
  /** Message and hint about one that is not. */
  wrong: [message: string, hint: string];
  /** File of age, for what is encrypted for it. */
  identity?: string;
  signal: AbortSignal;
}

/**
 * Verify a file, then give its content to somebody. What is given is what was verified, also when somebody writes to the file meanwhile: it throws then.
 * @param use the program that takes the content, or work that does; nothing of it counts before this resolves
 * @throws VeldError `codes.file` when it cannot be read, `codes.unusable` when it is of another kind, cut off, or changed
 */
export async function readSealed({ kind, file, check, wrong, identity, signal }: ReadOptions, use: (content: Readable) => Piped | Promise<void>): Promise<void> {
  const unusable = (message: string, hint?: string): VeldError => new VeldError(kind.codes.unusable, message, hint === undefined ? {} : { hint });
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY); // a FIFO would be waited for
  } catch (error) {
    throw fileError(kind, file, error);
  }
  try {
    const stat = fstatSync(fd);
    const begin = stat.isFile() && stat.size >= KIND + kind.sealLength ? readHead(kind, fd) : undefined;
    if (!begin) throw unusable(`${file} is not ${kind.called}.`);
    const end = stat.size - kind.sealLength;
    const seal = Buffer.alloc(kind.sealLength);
    readSync(fd, seal, 0, kind.sealLength, end);
    const cutOff = (): VeldError => unusable(`${file} was cut off while it was read.`);
    const first = createHash('sha256');
    for await (const _ of chunks(fd, 0, end, cutOff, (chunk) => first.update(chunk))) signal.throwIfAborted();
    const digest = first.digest();
    if (!check(digest, seal)) throw unusable(...wrong);
    const { compress, encrypt } = begin.head;
    if (encrypt === 'age' && identity === undefined) throw new VeldError(kind.codes.file, `${file} is encrypted by age.`, { hint: 'Name the file with the identity that can read it: --identity FILE.' });
    const again = createHash('sha256');
    for await (const _ of chunks(fd, 0, begin.length, cutOff, (chunk) => again.update(chunk)));
    const chain: Piped[] = [];
    let stream = Readable.from(chunks(fd, begin.length, end, cutOff, (chunk) => again.update(chunk)));
    const through = (command: [string, string[]]): void => {
      chain.push(runPiped(...command, signal, stream));
      stream = chain.at(-1)!.output;
    };
    if (encrypt !== 'none') through(FILTERS[encrypt].unpack(identity ?? ''));
    if (compress === 'zstd') through(FILTERS.zstd.unpack(''));
    const used = use(stream);
    if (used instanceof Promise) await used.then(() => allEnded(chain), (error: unknown) => because(chain, error));
    else {
      used.output.resume();
      await allEnded([...chain, used]);
    }
    if (!again.digest().equals(digest)) throw unusable(`${file} was changed while it was read.`);
  } finally {
    closeSync(fd);
  }
}

/** What has failed before somebody did who reads it: where a program before has, it got too little. */
async function because(chain: readonly Piped[], error: unknown): Promise<never> {
  for (const { output } of chain) output.destroy();
  const failures = await Promise.allSettled(chain.map(({ ended }) => ended));
  const own = failures.flatMap((result) => (result.status === 'rejected' ? [result.reason as VeldError] : [])).find(({ details, message }) => details?.signal !== 'SIGPIPE' && !/Broken pipe|Connection reset by peer/.test(message));
  throw own ?? error;
}

/** What stands before the content, and where that begins; undefined for what is of another kind. */
function readHead(kind: SealedKind, fd: number): { head: Head; length: number } | undefined {
  const start = Buffer.alloc(KIND + LINE);
  const got = start.subarray(0, readSync(fd, start, 0, start.length, 0));
  if (kind.oldMagic && got.subarray(0, KIND).equals(kind.oldMagic)) return { head: { compress: 'zstd', encrypt: 'none' }, length: KIND };
  const end = got.indexOf('\n');
  if (!got.subarray(0, KIND).equals(kind.magic) || end < 0) return undefined;
  try {
    const { compress, encrypt } = JSON.parse(got.toString('utf8', KIND, end)) as Head;
    return ['zstd', 'none'].includes(compress) && ['age', 'gpg', 'none'].includes(encrypt) ? { head: { compress, encrypt }, length: end + 1 } : undefined;
  } catch {
    return undefined;
  }
}

/** A range of a file, a MiB at a time; others have their turn in between. */
async function* chunks(fd: number, from: number, to: number, cutOff: () => VeldError, each: (chunk: Buffer) => void): AsyncGenerator<Buffer> {
  for (let at = from; at < to;) {
    const chunk = Buffer.alloc(Math.min(1 << 20, to - at));
    const length = readSync(fd, chunk, 0, chunk.length, at);
    if (length === 0) throw cutOff();
    const part = chunk.subarray(0, length);
    each(part);
    at += length;
    yield part;
    await new Promise(setImmediate);
  }
}

function fileError(kind: SealedKind, file: string, error: unknown): VeldError {
  return new VeldError(kind.codes.file, `${file}: ${(error as Error).message}.`, { cause: error });
}
