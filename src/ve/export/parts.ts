/**
 * A stream of messages and of bulk data between them. Each is a part: its bytes, then a mark and 01. Where its bytes themselves hold the mark, 00 follows there. A message is one
 * part, a JSON object whose `type` says whether bulk data follows as another part.
 *
 * There are no lengths in it: a repository that stores what streams have in common once finds the same bytes again only where nothing stands between them that depends on where
 * they are, or on how they were read.
 */
import type { Readable, Writable } from 'node:stream';
import { VeldError } from '../../lib/errors.ts';
import { writeTo } from '../../lib/streams.ts';

/** No end of it is its beginning: so it never overlaps with itself. */
const MARK = Buffer.from('fe7665 6c642d70617274 a19d3c4b5e6f7081 92a3b4c5d6e7f80912 2b3c4d5e'.replaceAll(' ', ''), 'hex');
const [INSIDE, END] = [Buffer.of(0), Buffer.of(1)];
/** Longest message, in bytes. */
const MESSAGE = 4 << 20;

/** How many bytes at the end of a buffer may be the beginning of a mark. */
function begun(bytes: Buffer): number {
  for (let length = Math.min(MARK.length - 1, bytes.length); length > 0; length--) {
    if (bytes[bytes.length - length] === MARK[0] && bytes.subarray(bytes.length - length).equals(MARK.subarray(0, length))) return length;
  }
  return 0;
}

/** Writes parts into a stream, which somebody must read. */
export class PartWriter {
  #out: Writable;

  constructor(out: Writable) {
    this.#out = out;
  }

  async message<M extends { type: string }>(message: M): Promise<void> {
    await this.bulk([Buffer.from(JSON.stringify(message))]);
  }

  /** @param onProgress told of each piece, bytes */
  async bulk(data: Iterable<Buffer> | AsyncIterable<Buffer>, onProgress?: (bytes: number) => void): Promise<void> {
    let left: Buffer = Buffer.alloc(0);
    for await (const chunk of data) {
      const bytes = left.length > 0 ? Buffer.concat([left, chunk]) : chunk;
      let at = 0;
      for (let mark; (mark = bytes.indexOf(MARK, at)) >= 0; at = mark + MARK.length) {
        await this.#write(bytes.subarray(at, mark + MARK.length));
        await this.#write(INSIDE);
      }
      const rest = bytes.subarray(at);
      const held = begun(rest);
      await this.#write(rest.subarray(0, rest.length - held));
      left = Buffer.from(rest.subarray(rest.length - held));
      onProgress?.(chunk.length);
    }
    await this.#write(Buffer.concat([left, MARK, END]));
  }

  async #write(bytes: Buffer): Promise<void> {
    if (bytes.length === 0) return;
    if (this.#out.destroyed) throw new VeldError('operation.cancelled', 'Nobody takes the export any more.', { details: { signal: 'SIGPIPE' } });
    await writeTo(this.#out, bytes);
  }
}

/** Reads parts. Nothing of them is believed. */
export class PartReader {
  #from: AsyncIterator<Buffer>;
  #left: Buffer = Buffer.alloc(0);

  constructor(from: Readable) {
    this.#from = from[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  }

  /** @throws VeldError `export.unusable` */
  async message(): Promise<{ type: string } & Record<string, unknown>> {
    const pieces: Buffer[] = [];
    let length = 0;
    for await (const piece of this.bulk()) {
      length += piece.length;
      if (length > MESSAGE) throw broken('holds a message that is too long');
      pieces.push(piece);
    }
    let message: unknown;
    try {
      message = JSON.parse(Buffer.concat(pieces).toString('utf8'));
    } catch {
      throw broken('holds a message that cannot be read');
    }
    if (typeof message !== 'object' || message === null || typeof (message as { type: unknown }).type !== 'string') throw broken('holds a message that says nothing');
    return message as { type: string } & Record<string, unknown>;
  }

  /** The bytes of a part. To be read to its end before anything else is. */
  async* bulk(): AsyncGenerator<Buffer> {
    for (;;) {
      const mark = this.#left.indexOf(MARK);
      if (mark < 0) {
        const ready = this.#left.length - begun(this.#left);
        const [now, later] = [this.#left.subarray(0, ready), this.#left.subarray(ready)];
        this.#left = later;
        if (now.length > 0) yield now;
        await this.#more();
        continue;
      }
      const after = mark + MARK.length;
      while (this.#left.length === after) await this.#more();
      const what = this.#left[after];
      if (what !== INSIDE[0] && what !== END[0]) throw broken('holds a mark that is none');
      const now = this.#left.subarray(0, what === END[0] ? mark : after);
      this.#left = this.#left.subarray(after + 1);
      if (now.length > 0) yield now;
      if (what === END[0]) return;
    }
  }

  /** Nothing may follow. */
  async end(): Promise<void> {
    if (this.#left.length > 0 || (await this.#from.next()).done !== true) throw broken('goes on behind its end');
  }

  async #more(): Promise<void> {
    const next = await this.#from.next();
    if (next.done === true) throw broken('is cut short');
    this.#left = this.#left.length > 0 ? Buffer.concat([this.#left, next.value]) : next.value;
  }
}

export function broken(what: string): VeldError {
  return new VeldError('export.unusable', `The export ${what}.`);
}
