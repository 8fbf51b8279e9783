/** Random numbers that can be had again: a test says its seed, and VELD_TEST_SEED repeats it. */
import { randomInt } from 'node:crypto';

/** The seed of this run. */
export const SEED = Number(process.env.VELD_TEST_SEED ?? randomInt(1 << 30));

/** Numbers from 0 up to 1, always the same for a seed (mulberry32, Tommy Ettinger). */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}
