/**
 * Every limit of a VE: filled from inside, refused as it is said to be, counted where the kernel counts it, raised while the VE runs, and then it passes; the neighbour answers all the time. The same on
 * each kind of host. What was seen is noted for the table in docs/explanation/limits.md.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ApiError } from '../http.ts';
import { CPU_FILLS } from './cpu-fills.ts';
import { DISK_FILLS } from './disk-fills.ts';
import type { LimitGround } from './ground.ts';
import { ITEM_FILLS } from './item-fills.ts';
import { MEMORY_FILLS } from './memory-fills.ts';
import type { Neighbour } from './neighbour.ts';
import { askNeighbour } from './neighbour.ts';
import { NETWORK_FILLS } from './network-fills.ts';
import { note } from './record.ts';

export interface Fill {
  property: string;
  /** What happens over the limit, and what counts it: for people. */
  over: string;
  counted: string;
  /**
   * Fill it, raise it, and leave the VE without it.
   * @returns why it could only be written here; nothing when it was filled
   */
  fill(ground: LimitGround): Promise<string | undefined>;
}

export const FILLS: readonly Fill[] = [...CPU_FILLS, ...MEMORY_FILLS, ...ITEM_FILLS, ...DISK_FILLS, ...NETWORK_FILLS];

/** Properties, with commas: only these. */
const WANTED = process.env.VELD_TEST_ROWS?.split(',');

/** One test for each limit, between two that begin and end the asking. */
export function limitFills(ground: LimitGround, fills: readonly Fill[] = FILLS): void {
  let neighbour: Neighbour | undefined;
  let pid: number | null;

  test('the neighbour answers', async () => {
    neighbour = await askNeighbour(ground);
    ({ pid } = await ground.show(ground.ve));
  });

  for (const fill of fills.filter(({ property }) => WANTED?.includes(property) !== false)) {
    test(`${fill.property}: ${fill.over}; raised it passes, and the neighbour is not disturbed`, { timeout: 300_000 * ground.slow }, async (t) => {
      let written: string | undefined;
      let refusal: string | undefined;
      const answers = await neighbour!.during(async () => {
        try {
          written = await fill.fill(ground);
        } catch (error) {
          if (!(error instanceof ApiError) || error.code !== 'property.unsupported') throw error;
          refusal = /: (.*)\.$/s.exec(error.error.message)?.[1] ?? error.error.message;
        }
      });
      assert.equal((await ground.show(ground.ve)).pid, pid, 'without a restart');
      t.diagnostic(`${refusal ?? written ?? 'held'}; the neighbour answered ${answers.count} times, in ${answers.slowest} ms at most`);
      if (refusal !== undefined) note(ground, fill, { state: 'refused', why: refusal });
      else if (written !== undefined) note(ground, fill, { state: 'written', why: written });
      else note(ground, fill, { state: 'held', neighbour: answers });
    });
  }

  test('the neighbour has been refused nothing', () => neighbour!.end());
}
