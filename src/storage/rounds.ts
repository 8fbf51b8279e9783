/** When a disk that goes on being written has been carried often enough, so that the rest can be carried while its VE stands. */

/** This little may be left, in bytes; so many rounds there are at most; one that is not smaller than this part of the one before helps no more. */
const LITTLE = 8 << 20;
const ROUNDS = 6;
const SHRINKS = 0.7;

/**
 * Whether what is left is to be carried while the VE stands.
 * @param left bytes
 * @param before bytes of the round before; Infinity: there was one alone
 * @param round number of the next round, from 1
 */
export function isEnough(left: number, before: number, round: number): boolean {
  return left < LITTLE || round > ROUNDS || left > SHRINKS * before;
}
