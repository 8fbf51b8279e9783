/**
 * A stream of messages and of bulk data between them. Each is a part: blocks with their length before them (32 bits, big-endian), and a block of none at its end. A
 * message is one part, a JSON object whose `type` says whether bulk data follows as another part.
 */
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { VeldError } from '../../lib/errors.ts';

/** Longest message, in bytes. */
const MESSAGE = 4 << 20;
/** Longest block. */
const BLOCK = 16 << 20;

/** Writes parts into a stream, which somebody must read. */
export class PartWriter {
  #out: Writable;

  constructor(out: Writable) {
    this.#out = out;
  }

  async message<M extends { type: string }>(message: M): Promise<void> {
    await this.bulk([Buffer.from(JSON.stringify(message))]);
  }

  /** @param onProgress told of each block, bytes */
  async bulk(data: Iterable<Buffer> | AsyncIterable<Buffer>, onProgress?: (bytes: number) => void): Promise<void> {
    for await (const chunk of data) {
      for (let at = 0; at < chunk.length; at += BLOCK) await this.#block(chunk.subarray(at, at + BLOCK));
      onProgress?.(chunk.length);
    }
    await this.#write(Buffer.alloc(4));
  }

  async #block(chunk: Buffer): Promise<void> {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(chunk.length);
    await this.#write(Buffer.concat([length, chunk]));
  }

  async #write(bytes: Buffer): Promise<void> {
    if (this.#out.destroyed) throw new VeldError('operation.cancelled', 'Nobody takes the export any more.');
    if (!this.#out.write(bytes)) await Promise.race([once(this.#out, 'drain'), once(this.#out, 'close')]);
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
    const blocks: Buffer[] = [];
    let length = 0;
    for await (const block of this.bulk()) {
      length += block.length;
      if (length > MESSAGE) throw broken('holds a message that is too long');
      blocks.push(block);
    }
    let message: unknown;
    try {
      message = JSON.parse(Buffer.concat(blocks).toString('utf8'));
    } catch {
      throw broken('holds a message that cannot be read');
    }
    if (typeof message !== 'object' || message === null || typeof (message as { type: unknown }).type !== 'string') throw broken('holds a message that says nothing');
    return message as { type: string } & Record<string, unknown>;
  }

  /** The blocks of a part. To be read to its end before anything else is. */
  async* bulk(): AsyncGenerator<Buffer> {
    for (;;) {
      const length = (await this.#exactly(4)).readUInt32BE(0);
      if (length === 0) return;
      if (length > BLOCK) throw broken('holds a block that is too long');
      for (let left = length; left > 0;) {
        const chunk = await this.#some(left);
        left -= chunk.length;
        yield chunk;
      }
    }
  }

  /** Nothing may follow. */
  async end(): Promise<void> {
    if (this.#left.length > 0 || (await this.#from.next()).done !== true) throw broken('goes on behind its end');
  }

  async #exactly(length: number): Promise<Buffer> {
    const parts: Buffer[] = [];
    for (let left = length; left > 0;) {
      const chunk = await this.#some(left);
      left -= chunk.length;
      parts.push(chunk);
    }
    return Buffer.concat(parts);
  }

  /** At least one byte, and not more than asked for. */
  async #some(most: number): Promise<Buffer> {
    while (this.#left.length === 0) {
      const next = await this.#from.next();
      if (next.done === true) throw broken('is cut short');
      this.#left = next.value;
    }
    const chunk = this.#left.subarray(0, most);
    this.#left = this.#left.subarray(chunk.length);
    return chunk;
  }
}

export function broken(what: string): VeldError {
  return new VeldError('export.unusable', `The export ${what}.`);
}
