/**
 * Whose process the kernel ends when memory runs out: the one with the most memory, to which `oom_score_adj` adds so many thousandths of all there is (mm/oom_kill.c, oom_badness; proc(5)). There is no file
 * in control groups that says it for a VE as a whole, so all its processes are given a place in one of two bands: those of VEs that use more than is guaranteed to them come before all others,
 * however small they are. Within a band a process keeps its rank among its own: what it, or its systemd, has set for it.
 */

/** Ranks in a band; what is set inside is from 0 to 1000, a hundred of it a rank. */
const RANKS = 10;
/** Where the band of those begins that use more than their guarantee; the other one begins at 0. */
const OVER = 898;

/** A rank in its band. Numbers that nobody sets by hand: so a process that has one was placed, or begun by one that was. */
function inBand(rank: number): number {
  return rank === 0 ? 0 : 10 * rank + 1;
}

const RANK_OF = new Map(Array.from({ length: RANKS + 1 }, (_, rank) => rank).flatMap((rank) => [[inBand(rank), rank], [OVER + inBand(rank), rank]] as const));

/** `over`: it uses more than is guaranteed to it; `within`: it does not; `none`: nothing is guaranteed to anybody. */
export type Standing = 'over' | 'within' | 'none';

/**
 * The place of a process. To ask again for what was answered changes nothing, so it does not matter how often, or by whom, it was put there before.
 * @param score its oom_score_adj now, -1000 to 1000 @param standing of its VE; `none` gives back what a process was placed for
 */
export function placeOf(score: number, standing: Standing): number {
  const known = RANK_OF.get(score);
  if (standing === 'none') return known === undefined ? score : 100 * known;
  return inBand(known ?? Math.ceil(Math.max(0, score) / 100)) + (standing === 'over' ? OVER : 0);
}

/** What counts against a guarantee, in bytes: memory and swap, without the page cache, which goes before anybody is ended. */
export function usedForOom({ memoryBytes, cacheBytes, swapBytes }: { memoryBytes: number; cacheBytes: number; swapBytes: number }): number {
  return memoryBytes - (Number.isNaN(cacheBytes) ? 0 : cacheBytes) + (Number.isNaN(swapBytes) ? 0 : swapBytes);
}

/** @param guarantee bytes; null: all that it uses */
export function isOver(used: number, guarantee: number | null): boolean {
  return guarantee !== null && used > guarantee;
}
