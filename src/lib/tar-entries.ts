/**
 * Reads a tar stream entry by entry without writing anything: ustar, GNU (long names, base-256 numbers) and pax (POSIX.1-2001, SCHILY.xattr).
 * Formats: the header blocks of POSIX ustar/pax interchange format, and GNU tar's manual, appendix "Tar Internals".
 */
import { createHash } from 'node:crypto';
import { VeldError } from './errors.ts';

const BLOCK = 512;
/** Most blocks behind the end of an archive: GNU tar fills up to 20. */
const PADDING = 40;
/** Longest extended header that is believed, in bytes: 4096 for two paths, and extended attributes. */
const EXTENDED_LIMIT = 1 << 20;

export interface TarEntry {
  /** As written in the archive. */
  path: string;
  type: 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'folder' | 'fifo';
  mode: number;
  uid: number;
  gid: number;
  /** Target of links. */
  link: string;
  /** Bytes of content in the stream. */
  size: number;
  /** Bytes of the file, with its holes. */
  whole: number;
  /** Of a device node: its major and minor number. */
  device: readonly [major: number, minor: number];
  /** Extended attribute -> its bytes. */
  xattrs: Map<string, Buffer>;
  /** POSIX ACLs as text, of what is in the archive as SCHILY.acl.*: `access` and `default`. */
  acls: Map<string, string>;
  /** sha256 of the content, for files. */
  sha256: string | null;
}

const TYPES: Record<string, TarEntry['type']> = {
  '\0': 'file', 0: 'file', 7: 'file', S: 'file', 1: 'hardlink', 2: 'symlink', 3: 'character', 4: 'block', 5: 'folder', 6: 'fifo',
};

export interface TarReaderOptions {
  /** How names and links are decoded; with `latin1` each byte is one character, so that nothing is lost. Default: `utf8`. */
  encoding?: 'utf8' | 'latin1';
  /** Whether the contents of files are hashed. Default: yes. */
  hash?: boolean;
  /** Told of the contents of files, part by part, between `onEntry` and `onEnd`. */
  content?: (part: Buffer) => void;
  /** Refuse all that GNU tar does not write with --format=posix: other kinds of headers, and extended headers that mean something else to somebody. */
  posix?: boolean;
  /** The error for what breaks a rule. @param what goes on from "The archive" */
  invalid?: (what: string) => VeldError;
}

/** Keys of pax headers that GNU tar writes for a tree. */
const POSIX_KEYS = /^(path|linkpath|size|uid|gid|mtime|uname|gname|GNU\.sparse\.(major|minor|name|realsize)|SCHILY\.acl\.(access|default)|SCHILY\.xattr\..+)$/s;
/** Keys that would change every entry behind a global header: no reader here heeds them there, so they are refused. */
const GLOBAL_REFUSED = /^(path|linkpath|size|uid|gid|GNU\..*|SCHILY\..*)$/s;

const ACL = 'SCHILY.acl.';
const XATTR = 'SCHILY.xattr.';

/** What an extended header says of the next entry. */
interface Extended {
  path?: string;
  /** Of a sparse file, whose header has a made-up path. */
  sparseName?: string;
  link?: string;
  size?: number;
  /** Of a sparse file: its size with holes. */
  whole?: number;
  uid?: number;
  gid?: number;
  xattrs: Map<string, Buffer>;
  acls: Map<string, string>;
}

function extended(): Extended {
  return { xattrs: new Map(), acls: new Map() };
}

/** Breaks a rule; the reader says it as its user wants it said. */
class BadArchive extends Error {}

/**
 * Feeds on chunks; calls back for each entry once its header is known (`onEntry`) and once its content has passed (`onEnd`).
 * @throws VeldError `template.invalid`, or what the options say, on anything that is not a tar stream
 */
export class TarReader {
  #rest: Buffer = Buffer.alloc(0);
  #entry: TarEntry | undefined;
  #hash: ReturnType<typeof createHash> | undefined;
  /** Bytes of content, and of padding after it, still to come. */
  #content = 0;
  #padding = 0;
  /** Content of an extended header that is being collected. */
  #extended: { type: string; parts: Buffer[] } | undefined;
  #next: Extended = extended();
  #zeros = 0;
  /** An extended header waits for its entry. */
  #pending = false;
  readonly #onEntry: (entry: TarEntry) => void;
  readonly #onEnd: (entry: TarEntry) => void;
  readonly #options: Required<TarReaderOptions>;

  constructor(onEntry: (entry: TarEntry) => void, onEnd: (entry: TarEntry) => void = () => {}, options: TarReaderOptions = {}) {
    this.#onEntry = onEntry;
    this.#onEnd = onEnd;
    this.#options = { encoding: 'utf8', hash: true, posix: false, content: () => {}, invalid: (what) => new VeldError('template.invalid', `The archive ${what}.`), ...options };
  }

  /** The next bytes of the stream. */
  write(chunk: Buffer): void {
    this.#reporting(() => this.#write(chunk));
  }

  /** The stream is over. */
  end(): void {
    this.#reporting(() => {
      if (this.#content > 0 || this.#padding > 0 || this.#zeros === 0 || this.#pending) throw invalid('is cut short');
    });
  }

  #reporting(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw error instanceof BadArchive ? this.#options.invalid(error.message) : error;
    }
  }

  #write(chunk: Buffer): void {
    let bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (bytes.length > 0) {
      if (this.#content > 0) {
        const part = bytes.subarray(0, this.#content);
        this.#hash?.update(part);
        if (this.#extended) this.#extended.parts.push(Buffer.from(part));
        else this.#options.content(part);
        this.#content -= part.length;
        bytes = bytes.subarray(part.length);
        if (this.#content === 0) this.#finish();
      } else if (this.#padding > 0) {
        const part = Math.min(this.#padding, bytes.length);
        this.#padding -= part;
        bytes = bytes.subarray(part);
      } else {
        if (bytes.length < BLOCK) break;
        // After two blocks of zeros the archive is over; what follows is padding that tar ignores, too.
        if (this.#zeros < 2) this.#header(bytes.subarray(0, BLOCK));
        else if (++this.#zeros > PADDING && this.#options.posix) throw invalid('goes on after its end');
        bytes = bytes.subarray(BLOCK);
      }
    }
    this.#rest = Buffer.from(bytes);
  }

  #header(block: Buffer): void {
    if (block.every((byte) => byte === 0)) {
      this.#zeros += 1;
      return;
    }
    this.#zeros = 0;
    let sum = 8 * 32;
    for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i] ?? 0;
    if (sum !== numberAt(block, 148, 8)) throw invalid('has a header with a wrong checksum');
    const type = String.fromCharCode(block[156] ?? 0);
    const size = numberAt(block, 124, 12);
    const { posix, encoding } = this.#options;
    if (posix && !'x0123456'.includes(type)) throw invalid(`has an entry of type ${JSON.stringify(type)}`);
    if ('xgLK'.includes(type)) {
      // Readers disagree on which of two counts.
      if (this.#pending && type === 'x') throw invalid('has two extended headers for one entry');
      this.#pending = type === 'x';
      if (size > EXTENDED_LIMIT) throw invalid('has an extended header larger than 1 MiB');
      this.#begin(size);
      this.#extended = { type, parts: [] };
      if (size === 0) this.#finish();
      return;
    }
    const known = TYPES[type];
    if (known === undefined) throw invalid(`has an entry of type ${JSON.stringify(type)}`);
    const ustar = block.toString('latin1', 257, 262) === 'ustar' && block[262] === 0;
    const prefix = ustar ? textAt(block, 345, 155, encoding) : '';
    const name = textAt(block, 0, 100, encoding);
    const next = this.#next;
    this.#next = extended();
    this.#pending = false;
    // An old sparse header may be followed by more of its map: nobody writes these since pax; refused rather than half understood.
    if (type === 'S' && block[482] === 1) throw invalid('has an old sparse file with an extended map');
    // tar skips such content; so that both readers agree where the next header is, it is refused.
    if (known !== 'file' && known !== 'hardlink' && (next.size ?? size) > 0) throw invalid(`has a ${known} with content`);
    const path = next.sparseName ?? next.path ?? (prefix === '' ? name : `${prefix}/${name}`);
    const entry: TarEntry = {
      path, type: known === 'file' && path.endsWith('/') && type !== 'S' ? 'folder' : known, mode: numberAt(block, 100, 8) & 0o7777,
      uid: next.uid ?? numberAt(block, 108, 8), gid: next.gid ?? numberAt(block, 116, 8), link: next.link ?? textAt(block, 157, 100, encoding),
      size: known === 'file' ? next.size ?? size : 0, whole: known === 'file' ? next.whole ?? next.size ?? size : 0, xattrs: next.xattrs, acls: next.acls, sha256: null,
      device: known === 'character' || known === 'block' ? [numberAt(block, 329, 8), numberAt(block, 337, 8)] : [0, 0],
    };
    this.#entry = entry;
    this.#hash = known === 'file' && this.#options.hash ? createHash('sha256') : undefined;
    this.#onEntry(entry);
    this.#begin(entry.size);
    if (entry.size === 0) this.#finish();
  }

  #begin(size: number): void {
    this.#content = size;
    this.#padding = (BLOCK - (size % BLOCK)) % BLOCK;
  }

  #finish(): void {
    if (this.#extended) {
      const { type, parts } = this.#extended;
      this.#extended = undefined;
      const content = Buffer.concat(parts);
      if (type === 'L') this.#next.path = textAt(content, 0, content.length, this.#options.encoding);
      else if (type === 'K') this.#next.link = textAt(content, 0, content.length, this.#options.encoding);
      else this.#pax(content, type === 'g');
      return;
    }
    const entry = this.#entry;
    if (!entry) return;
    entry.sha256 = this.#hash?.digest('hex') ?? null;
    this.#entry = undefined;
    this.#hash = undefined;
    this.#onEnd(entry);
  }

  /** Records of `LENGTH KEY=VALUE\n`; those of the whole archive are comments of its maker. */
  #pax(content: Buffer, global: boolean): void {
    for (let at = 0; at < content.length;) {
      const space = content.indexOf(0x20, at);
      const length = Number(content.toString('latin1', at, space));
      if (space < 0 || !Number.isInteger(length) || length < 5 || at + length > content.length) throw invalid('has a broken pax header');
      const equals = content.indexOf(0x3d, space);
      if (equals < 0 || equals >= at + length) throw invalid('has a broken pax header');
      const key = content.toString(this.#options.encoding, space + 1, equals);
      const value = content.subarray(equals + 1, at + length - 1);
      const text = value.toString(this.#options.encoding);
      at += length;
      if (global) {
        if (GLOBAL_REFUSED.test(key)) throw invalid(`has a global header with ${key}`);
        continue;
      }
      if (this.#options.posix && !POSIX_KEYS.test(key)) throw invalid(`has an extended header with ${JSON.stringify(key.slice(0, 100))}`);
      if (key === 'path') this.#next.path = text;
      else if (key === 'GNU.sparse.name') this.#next.sparseName = text;
      else if (key === 'linkpath') this.#next.link = text;
      else if (key === 'GNU.sparse.realsize') this.#next.whole = whole(Number(text));
      else if (key === 'size' || key === 'uid' || key === 'gid') this.#next[key] = whole(Number(text));
      else if (key.startsWith(ACL)) this.#next.acls.set(key.slice(ACL.length), text);
      // GNU tar writes the two characters that the format needs otherwise.
      else if (key.startsWith(XATTR)) this.#next.xattrs.set(key.slice(XATTR.length).replaceAll('%3D', '=').replaceAll('%25', '%'), Buffer.from(value));
    }
  }
}

/** A number field: octal text, or base-256 when the top bit is set. */
function numberAt(block: Buffer, at: number, length: number): number {
  if (((block[at] ?? 0) & 0x80) !== 0) {
    let value = (block[at] ?? 0) & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + (block[at + i] ?? 0);
    return whole(value);
  }
  const text = textAt(block, at, length).trim();
  if (text !== '' && !/^[0-7]+$/.test(text)) throw invalid('has a broken number in a header');
  return whole(text === '' ? 0 : Number.parseInt(text, 8));
}

function textAt(block: Buffer, at: number, length: number, encoding: 'utf8' | 'latin1' = 'latin1'): string {
  const end = block.indexOf(0, at);
  return block.toString(encoding, at, end < 0 || end > at + length ? at + length : end);
}

function whole(value: number): number {
  if (!Number.isSafeInteger(value) || value < 0) throw invalid('has a number out of range in a header');
  return value;
}

function invalid(what: string): BadArchive {
  return new BadArchive(what);
}
