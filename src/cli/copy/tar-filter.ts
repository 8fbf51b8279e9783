/**
 * Looks through a tar stream on its way from one side to the other, entry by entry, and lets pass what belongs to one tree with the root `d`.
 *
 * Whoever wrote the stream may be hostile: a VE's root. GNU tar at the other end has guards of its own (it strips `/`, refuses `..`, makes links that
 * lead out last) and extracts into a fresh folder; here everything is refused that an honest tar would not have written, so that both readers agree on
 * what is where. Formats: POSIX ustar and pax interchange format; GNU tar's manual, "Storing Sparse Files".
 */
import { VeldError } from '../../lib/errors.ts';

const BLOCK = 512;
/** Longest extended header that is believed, in bytes: paths, and extended attributes of up to 64 KiB each. */
const EXTENDED_LIMIT = 1 << 20;

export interface FilterRules {
  /** Take set-user-id and set-group-id bits of files, and file capabilities, away: on this side they would give power to whoever wrote them. */
  strip: boolean;
  /** Let device nodes pass. */
  devices: boolean;
}

type Kind = 'file' | 'hardlink' | 'symlink' | 'character' | 'block' | 'folder' | 'fifo';
const KINDS: Record<string, Kind> = { '\0': 'file', 0: 'file', 1: 'hardlink', 2: 'symlink', 3: 'character', 4: 'block', 5: 'folder', 6: 'fifo' };

interface Extended {
  header: Buffer;
  type: string;
  parts: Buffer[];
  left: number;
}

/** Feed it with {@link write}; it gives back what may go on. Throws VeldError `path.refused`. */
export class TarFilter {
  /** What the root is, once it has been seen. */
  root: 'folder' | 'other' | undefined;
  /** Bytes of contents so far. */
  bytes = 0;
  readonly #rules: FilterRules;
  #rest: Buffer = Buffer.alloc(0);
  /** Content with its padding that is still to pass. */
  #content = 0;
  #extended: Extended | undefined;
  #next: { paths: string[]; sparse?: string; links: string[]; size?: number } = { paths: [], links: [] };
  #zeros = 0;

  constructor(rules: FilterRules) {
    this.#rules = rules;
  }

  /** The next bytes of the stream. @returns what may go on; the end of the archive does not, see {@link trailer} */
  write(chunk: Buffer): Buffer[] {
    const out: Buffer[] = [];
    let bytes = this.#rest.length > 0 ? Buffer.concat([this.#rest, chunk]) : chunk;
    while (bytes.length > 0) {
      if (this.#extended) {
        const part = bytes.subarray(0, this.#extended.left);
        this.#extended.parts.push(Buffer.from(part));
        this.#extended.left -= part.length;
        bytes = bytes.subarray(part.length);
        if (this.#extended.left === 0) out.push(...this.#endExtended(this.#extended));
      } else if (this.#content > 0) {
        const part = bytes.subarray(0, this.#content);
        out.push(part);
        this.#content -= part.length;
        this.bytes += part.length;
        bytes = bytes.subarray(part.length);
      } else {
        if (bytes.length < BLOCK) break;
        const block = bytes.subarray(0, BLOCK);
        bytes = bytes.subarray(BLOCK);
        // After two blocks of zeros comes nothing but padding.
        if (block.every((byte) => byte === 0)) this.#zeros += 1;
        else if (this.#zeros > 0) throw refused('goes on behind its end');
        else out.push(...this.#header(Buffer.from(block)));
      }
    }
    this.#rest = Buffer.from(bytes);
    return out;
  }

  /** The stream is over: throws when it was cut off. */
  end(): void {
    if (this.#extended || this.#content > 0 || this.#zeros < 2 || this.root === undefined) throw refused('is cut off');
  }

  #header(block: Buffer): Buffer[] {
    if (checksum(block) !== number(block, 148, 8)) throw refused('has a header with a wrong checksum');
    const type = String.fromCharCode(block[156]!);
    const size = number(block, 124, 12);
    if (type === 'x' || type === 'L' || type === 'K') {
      if (size > EXTENDED_LIMIT) throw refused('has an extended header of more than 1 MiB');
      this.#extended = { header: block, type, parts: [], left: padded(size) };
      return size === 0 ? this.#endExtended(this.#extended) : [];
    }
    const kind = KINDS[type];
    if (kind === undefined) throw refused(`has an entry of type ${JSON.stringify(type)}`);
    const { paths, sparse, links, size: given } = this.#next;
    this.#next = { paths: [], links: [] };
    const ustar = block.toString('latin1', 257, 263) === 'ustar\0';
    const prefix = ustar ? text(block, 345, 155) : '';
    const path = sparse ?? paths.at(-1) ?? (prefix === '' ? text(block, 0, 100) : `${prefix}/${text(block, 0, 100)}`);
    const link = links.at(-1) ?? text(block, 157, 100);
    for (const each of [...paths, path]) checkPath(each);
    if (kind === 'hardlink') for (const each of links.length > 0 ? links : [link]) checkPath(each);
    if ((kind === 'character' || kind === 'block') && !this.#rules.devices) {
      throw new VeldError('path.refused', `${shown(path)} is a device node.`, { hint: 'Add --privileged to copy device nodes, too.' });
    }
    const bare = path.replace(/\/+$/, '');
    if (this.root === undefined) {
      if (bare !== 'd') throw refused(`begins with ${shown(path)}`);
      this.root = kind === 'folder' ? 'folder' : 'other';
    } else if (this.root !== 'folder') throw refused('holds more than the one file that was asked for');
    const total = given ?? size;
    if (kind !== 'file' && total > 0) throw refused(`has a ${kind} with content`);
    this.#content = padded(total);
    if (this.#rules.strip && kind !== 'folder') patchMode(block, number(block, 100, 8) & 0o1777);
    return [block];
  }

  #endExtended({ header, type, parts }: Extended): Buffer[] {
    this.#extended = undefined;
    const padding = Buffer.concat(parts);
    const content = padding.subarray(0, number(header, 124, 12));
    if (type === 'L') this.#next.paths.push(text(content, 0, content.length));
    else if (type === 'K') this.#next.links.push(text(content, 0, content.length));
    else {
      const kept = this.#records(content);
      if (kept.length !== content.length) {
        patch(header, 124, kept.length.toString(8).padStart(11, '0'));
        return [header, kept, Buffer.alloc(padded(kept.length) - kept.length)];
      }
    }
    return [header, padding];
  }

  /** Takes note of the records (`LENGTH KEY=VALUE\n`) of an extended header. @returns those that may go on */
  #records(content: Buffer): Buffer {
    const kept: Buffer[] = [];
    for (let at = 0; at < content.length;) {
      const space = content.indexOf(0x20, at);
      const digits = space < 0 ? '' : content.toString('latin1', at, space);
      const length = /^[1-9]\d{0,6}$/.test(digits) ? Number(digits) : 0;
      const equals = content.indexOf(0x3d, space);
      if (length < 5 || at + length > content.length || equals < 0 || equals >= at + length || content[at + length - 1] !== 10) throw refused('has a broken extended header');
      const key = content.toString('utf8', space + 1, equals);
      const value = content.toString('utf8', equals + 1, at + length - 1);
      if (key === 'path') this.#next.paths.push(value);
      else if (key === 'GNU.sparse.name') this.#next.sparse = value;
      else if (key === 'linkpath') this.#next.links.push(value);
      else if (key === 'size') {
        if (!/^\d{1,15}$/.test(value)) throw refused('has a size that is no number');
        this.#next.size = Number(value);
      }
      if (!(this.#rules.strip && /^SCHILY\.xattr\.(?!user\.)/.test(key))) kept.push(content.subarray(at, at + length));
      at += length;
    }
    return Buffer.concat(kept);
  }
}

/** The end of an archive. @param marked with the entry by which the writer in a VE knows that all has come */
export function trailer(marked: boolean): Buffer {
  const end = Buffer.alloc(2 * BLOCK);
  if (!marked) return end;
  const block = Buffer.alloc(BLOCK);
  block.write('end', 0);
  patch(block, 108, '0000000');
  patch(block, 116, '0000000');
  patch(block, 124, '00000000000');
  patch(block, 136, '00000000000');
  block.write('0', 156);
  block.write('ustar\x0000', 257, 'latin1');
  patchMode(block, 0o600);
  return Buffer.concat([block, end]);
}

function checkPath(path: string): void {
  // A sparse file's header names it in a folder `GNUSparseFile.PID`; its real name is in the extended header.
  const parts = path.replace(/\/+$/, '').split('/').filter((part, i) => !(i === 0 && part === '.'));
  if (path.startsWith('/') || parts[0] !== 'd' && !/^GNUSparseFile\.\d+$/.test(parts[0] ?? '') || parts.some((part) => part === '..' || part.includes('\0'))) {
    throw refused(`holds ${shown(path)}, which is outside of what was asked for`);
  }
}

function shown(path: string): string {
  return JSON.stringify(path.slice(0, 100));
}

function padded(size: number): number {
  return Math.ceil(size / BLOCK) * BLOCK;
}

function checksum(block: Buffer): number {
  let sum = 8 * 32;
  for (let i = 0; i < BLOCK; i++) if (i < 148 || i >= 156) sum += block[i]!;
  return sum;
}

function patchMode(block: Buffer, mode: number): void {
  patch(block, 100, mode.toString(8).padStart(7, '0'));
}

/** Write a number field, and the checksum anew. */
function patch(block: Buffer, at: number, digits: string): void {
  block.write(`${digits}\0`, at, 'latin1');
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
}

/** A number field: octal text, or base-256 when the top bit is set. */
function number(block: Buffer, at: number, length: number): number {
  if ((block[at]! & 0x80) !== 0) {
    let value = block[at]! & 0x7f;
    for (let i = 1; i < length; i++) value = value * 256 + block[at + i]!;
    if (!Number.isSafeInteger(value)) throw refused('has a number out of range');
    return value;
  }
  const digits = text(block, at, length).trim();
  if (!/^[0-7]*$/.test(digits)) throw refused('has a broken number in a header');
  return digits === '' ? 0 : Number.parseInt(digits, 8);
}

function text(block: Buffer, at: number, length: number): string {
  const end = block.indexOf(0, at);
  return block.toString('utf8', at, end < 0 || end > at + length ? at + length : end);
}

function refused(what: string): VeldError {
  return new VeldError('path.refused', `The stream of files ${what}.`, { hint: 'Nothing of it was kept. If the VE is yours, look into what runs in it.' });
}
