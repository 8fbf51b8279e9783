/**
 * Compression of what is sent, where it pays: where the wire takes less than this machine compresses, what is sent becomes smaller by it, and whoever takes it waits for
 * the wire. All three are measured on the way, again and again, since all three change.
 */
import { promisify } from 'node:util';
import { constants, zstdCompress, zstdDecompress, type ZstdOptions } from 'node:zlib';
import { runDelay } from '../kernel/run-delay.ts';

/** How both sides say it. */
export const ZSTD = 'zstd';

/** What is compressed as one part, in bytes, and how many parts are at a time. */
const SIZE = 256 << 10;
const AHEAD = 2;

/** A part that does not become smaller than this, as a share, is sent as it is; and so is a small one, in bytes: none comes compressed. */
const SMALLER = 0.9;
const LITTLE = 4096;

/** A measurement is of no less than this, in milliseconds and bytes. */
const WINDOW = { time: 100, bytes: 64 << 10 };
/** What of that time must have been waiting for the wire, and what of its own the other side may have been at work. */
const WAITING = 0.5;
const BUSY = 0.7;
/** How much faster than without it must be. What is left to the processors, beside: they have VEs to run. */
const GAIN = 1.3;
/** What of that it must be in the end: else something else was in the way. */
const PROVEN = 1.15;
const SPARE = 2;
/** For how many measurements the answer is believed: at first, and at most, when it was the same all the time. */
const BELIEVED = { first: 4, most: 64 };

/** Largest window of a frame, as a power of 2: the memory that whoever sends it can have us take. */
const WINDOW_LOG = 20;

export interface Part {
  kind: 'D' | 'Z';
  body: Buffer;
  /** Bytes before it was compressed. */
  size: number;
}

/** Whether it pays. */
export interface Judge {
  /** Whether to compress, now. */
  readonly packs: boolean;
  /** Whether it wants to know how well that goes. */
  readonly asks: boolean;
  /** Bulk data begins: what was between is no measure. */
  begin(): void;
  /** So many bytes have gone, which were so many before, and the wire was waited for so many milliseconds. */
  sent(bytes: number, waited: number, size: number): void;
  /** So many bytes have become so many, in milliseconds. */
  packed(size: number, packed: number, took: number): void;
  /** The other side was at work for this share of its time. */
  heard(busy: number): void;
}

/**
 * @param now a clock, in milliseconds
 * @param delay for how long a processor was waited for so far, in milliseconds: that is no waiting for the wire
 */
export function createJudge(now: () => number = () => performance.now(), delay: () => number = runDelay): Judge {
  let [packs, asks, since, bytes, waited, delayed] = [false, false, now(), 0, 0, delay()];
  /** What the wire took without it; and what has gone since it is on, before it was compressed, in how many milliseconds. */
  let [plain, gone, time] = [0, 0, 0];
  /** Share of its time; unknown at first. */
  let busy: number | undefined;
  /** Bytes per millisecond that are compressed, and what they become, as a share. */
  let sample: { speed: number; ratio: number } | undefined;
  /** For how many measurements nothing is asked, and how long the next answer of that kind is believed. */
  let [left, on, off] = [0, BELIEVED.first, 1];

  const judge = (rate: number): void => {
    if (!sample) {
      asks = true;
      return;
    }
    const gain = Math.min(sample.speed / (SPARE * rate), 1 / sample.ratio, 1 / Math.max(busy ?? 1, 0.01));
    packs = gain >= GAIN;
    if (!packs) return refuse();
    [plain, gone, time, left, on] = [rate, 0, 0, on, Math.min(2 * on, BELIEVED.most)];
  };
  const refuse = (): void => {
    [packs, left, on, off, sample] = [false, off, BELIEVED.first, Math.min(2 * off, BELIEVED.most), undefined];
  };

  return {
    get packs() {
      return packs;
    },
    get asks() {
      return asks;
    },
    begin() {
      [since, bytes, waited, delayed] = [now(), 0, 0, delay()];
    },
    sent(more, wait, size) {
      bytes += more;
      waited += wait;
      gone += size;
      const took = now() - since;
      if (took < WINDOW.time || bytes < WINDOW.bytes) return;
      const [rate, bound] = [bytes / took, (waited - (delay() - delayed)) / took >= WAITING && busy !== undefined && busy < BUSY];
      [since, bytes, waited, delayed] = [now(), 0, 0, delay()];
      if (left > 0) left--;
      if (packs) {
        time += took;
        if (sample!.ratio >= SMALLER) return refuse();
        if (left > 0) return;
        if (gone / time < PROVEN * plain) return refuse();
        // What the wire takes is seen only while all of it is used as it is: so it stops for a moment.
        [packs, off] = [false, 1];
      } else if (bound && left === 0) judge(rate);
    },
    packed(size, packed, took) {
      asks = false;
      const [speed, ratio] = [size / Math.max(took, 0.001), packed / size];
      sample = sample ? { speed: (3 * sample.speed + speed) / 4, ratio: (3 * sample.ratio + ratio) / 4 } : { speed, ratio };
    },
    heard(share) {
      busy = share;
    },
  };
}

/** Bulk data in the parts as which it is sent, in its order. @param size largest part that is not compressed, in bytes */
export async function* partsOf(source: AsyncIterable<Buffer>, size: number, judge?: Judge): AsyncGenerator<Part> {
  /** What is being compressed, what comes next, and what is only to show how well it goes. */
  const waiting: Promise<Part>[] = [];
  const [next, trial] = [new Gathered(), new Gathered()];
  let trying = false;
  const begin = (chunk: Buffer): void => {
    const part = pack(chunk, judge!);
    part.catch(() => {}); // whoever takes it hears of it
    waiting.push(part);
  };
  for await (const chunk of source) {
    let rest = chunk;
    while (rest.length > 0) {
      const [packs, taken] = [judge?.packs === true, rest.subarray(0, judge?.packs ? SIZE - next.length : size)];
      rest = rest.subarray(taken.length);
      if (packs) {
        next.add(taken);
        if (next.length >= SIZE) begin(next.take());
        if (waiting.length >= AHEAD) yield await waiting.shift()!;
        continue;
      }
      if (next.length > 0) begin(next.take());
      while (waiting.length > 0) yield await waiting.shift()!;
      yield { kind: 'D', body: taken, size: taken.length };
      if (!judge?.asks || trying) continue;
      trial.add(taken);
      if (trial.length < SIZE) continue;
      trying = true;
      void pack(trial.take(), judge).catch(() => {}).finally(() => { trying = false; }); // nobody waits for it
    }
  }
  if (next.length > 0) begin(next.take());
  while (waiting.length > 0) yield await waiting.shift()!;
}

/** Pieces that become one. */
class Gathered {
  #pieces: Buffer[] = [];
  length = 0;

  add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.length += piece.length;
  }

  take(): Buffer {
    const all = this.#pieces.length === 1 ? this.#pieces[0]! : Buffer.concat(this.#pieces);
    [this.#pieces, this.length] = [[], 0];
    return all;
  }
}

const compress = promisify<Buffer, ZstdOptions, Buffer>(zstdCompress);
const decompress = promisify(zstdDecompress) as unknown as (body: Buffer, options: ZstdOptions) => Promise<{ buffer: Buffer; engine: { bytesWritten: number } }>;

async function pack(chunk: Buffer, judge: Judge): Promise<Part> {
  if (chunk.length < LITTLE) return { kind: 'D', body: chunk, size: chunk.length };
  const began = performance.now();
  const body = await compress(chunk, { params: { [constants.ZSTD_c_compressionLevel]: 1 } });
  judge.packed(chunk.length, body.length, performance.now() - began);
  return body.length < SMALLER * chunk.length ? { kind: 'Z', body, size: chunk.length } : { kind: 'D', body: chunk, size: chunk.length };
}

/** @param limit most bytes that it may become @throws Error for what is none, becomes more, or takes more memory */
export async function unpack(body: Buffer, limit: number): Promise<Buffer> {
  const { buffer, engine } = await decompress(body, { maxOutputLength: limit, params: { [constants.ZSTD_d_windowLogMax]: WINDOW_LOG }, info: true });
  if (engine.bytesWritten !== body.length) throw new Error('something stands behind its end');
  if (buffer.length < LITTLE || buffer.length <= body.length) throw new Error('nobody would have compressed it');
  return buffer;
}
