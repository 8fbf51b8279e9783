/** Whether to compress, on wires, processors and data that are made up: the clock is, too. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { createJudge, partsOf, type Judge } from './packing.ts';

interface World {
  /** MB per second that the wire takes, that are compressed, and that the other side and the source can do. */
  wire: number;
  zstd: number;
  taker?: number;
  giver?: number;
  /** What compressed data becomes, as a share. */
  ratio?: number;
  /** Which share of its time this side waits for a processor. */
  starved?: number;
  /** That the wire only looks like one: whatever is sent takes as long as it does uncompressed. */
  mirage?: boolean;
}

/** Send for some seconds through one world after another. @returns for each, which share of what was sent was compressed */
function sharesIn(...worlds: World[]): number[] {
  let [now, delay] = [0, 0];
  const judge = createJudge(() => now, () => delay);
  return worlds.map(({ wire, zstd, taker = 1e6, giver = 1e6, ratio = 0.4, starved = 0, mirage = false }) => {
    let [packed, all] = [0, 0];
    const size = 256 << 10;
    const ms = (bytes: number, rate: number): number => bytes / (rate * 1000);
    judge.begin();
    for (const end = now + 60_000; now < end;) {
      const { packs } = judge;
      const bytes = packs ? size * ratio : size;
      const [onWire, own] = [ms(mirage ? size : bytes, wire), Math.max(ms(size, giver), packs ? ms(size, zstd) : 0)];
      const took = Math.max(onWire, own, ms(size, taker));
      now += took;
      delay += starved * took;
      judge.heard(ms(size, taker) / took);
      judge.sent(bytes, took - own, size);
      if (packs || judge.asks) judge.packed(size, size * ratio, ms(size, zstd));
      if (packs) packed += size;
      all += size;
    }
    return packed / all;
  });
}

test('a wire that takes less than is compressed has it compressed, and another one never', () => {
  for (const wire of [1, 10, 50, 100]) assert.ok(sharesIn({ wire, zstd: 400 })[0]! > 0.9, `${wire} MB/s`);
  for (const wire of [200, 400, 2000]) assert.equal(sharesIn({ wire, zstd: 400 })[0], 0, `${wire} MB/s`);
  assert.equal(sharesIn({ wire: 50, zstd: 100 })[0], 0, 'a processor that has no time for it');
});

test('nor does it where the wire is not what takes the time', () => {
  assert.equal(sharesIn({ wire: 1000, zstd: 400, taker: 20 })[0], 0, 'the other side writes slowly');
  assert.equal(sharesIn({ wire: 100, zstd: 400, giver: 20 })[0], 0, 'this side reads slowly');
  assert.equal(sharesIn({ wire: 50, zstd: 400, starved: 0.8 })[0], 0, 'this side does not get to it');
  assert.ok(sharesIn({ wire: 50, zstd: 400, mirage: true })[0]! < 0.1, 'whatever it is, it does not help');
  assert.ok(sharesIn({ wire: 10, zstd: 400, taker: 100, giver: 100 })[0]! > 0.9, 'both do, and the wire is slower still');
});

test('what does not become smaller is left as it is', () => {
  for (const ratio of [0.8, 0.95, 1.01]) assert.ok(sharesIn({ wire: 10, zstd: 400, ratio })[0]! < 0.05, String(ratio));
});

test('it notices what changes', () => {
  const shares = sharesIn({ wire: 10, zstd: 400 }, { wire: 1000, zstd: 400 }, { wire: 10, zstd: 400 }, { wire: 10, zstd: 400, ratio: 1 }, { wire: 10, zstd: 400 });
  const expected = [true, false, true, false, true];
  shares.forEach((share, i) => assert.ok(expected[i] ? share > 0.8 : share < 0.2, `${i}: ${share}`));
});

test('what only shows how well it goes is one part at a time, and goes as it is', async () => {
  let trials = 0;
  const asking: Judge = { packs: false, asks: true, begin() {}, sent() {}, packed: () => void trials++, heard() {} };
  const chunks = Array.from({ length: 400 }, (_, i) => Buffer.alloc(65_536, i));
  let at = 0;
  for await (const { kind, body } of partsOf(Readable.from(chunks) as AsyncIterable<Buffer>, 1 << 20, asking)) assert.ok(kind === 'D' && body.equals(chunks[at++]!));
  await sleep(500); // those that are under way
  assert.ok(at === 400 && trials < 25, `${trials} trials of 100 that could be`);
});
