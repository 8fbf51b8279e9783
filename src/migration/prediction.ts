/** How fast a connection takes what is sent, and for how long a VE will stand. */
import { VeldError } from '../lib/errors.ts';
import type { VeRecord } from '../store/types.ts';
import type { FrameStream } from './frames.ts';

/** What a VE stands for that has next to no memory, in milliseconds, before any was seen to move from here. */
const AT_FIRST = 800;
/** Bytes in a millisecond before any were sent: a wire of 1 Gbit/s. */
const UNKNOWN = 110_000;
/** Less than this, in bytes, tells nothing of a speed. */
const ENOUGH = 1 << 20;

/** How much a new figure counts beside those before. */
const NEW = 0.3;
let base = AT_FIRST;

/** Bytes in a millisecond, by what was sent last. */
export class Speed {
  #rate: number | undefined;

  get rate(): number {
    return this.#rate ?? UNKNOWN;
  }

  /** Take the time of something that is sent. */
  async measure<T>(link: FrameStream, work: () => Promise<T>): Promise<T> {
    const [given, since] = [link.given, performance.now()];
    const result = await work();
    const bytes = link.given - given;
    if (bytes >= ENOUGH) this.#rate = bytes / Math.max(1, performance.now() - since);
    return result;
  }
}

/** For how long a VE will stand of which this is left to send. @param left bytes @returns milliseconds */
export function expected(speed: Speed, left: number): number {
  return base + left / speed.rate;
}

/** Learn from one that stood. @param left bytes that were sent meanwhile @param stood milliseconds */
export function learn(speed: Speed, left: number, stood: number): void {
  base += NEW * (Math.max(0, stood - left / speed.rate) - base);
}

/**
 * @param standing for how long it will stand, in milliseconds @param most for how long it may @param changing bytes of memory that change in a second, where that is known
 * @throws VeldError `migration.refused`
 */
export function checkMaxFreeze({ name }: VeRecord, standing: number, most: number | null, changing: number | null): void {
  if (most === null || standing <= most) return;
  const why = changing === null ? '' : `: ${Math.round(changing / 2 ** 20)} MiB of its memory change in a second`;
  throw new VeldError('migration.refused', `${name} would stand for about ${Math.round(standing)} ms, and ${Math.round(most)} are allowed${why}. It runs on here.`, { hint: 'Move it when it has less to do, or allow more.', details: { expected: standing, changing } });
}
