/** The neighbour of limits that are filled: what is done to it is seen. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { run } from '../../src/lib/run.ts';
import { askNeighbour } from '../lib/limits/neighbour.ts';
import type { LimitGround } from '../lib/limits/ground.ts';

/** Nobody else's loopback address. */
const ADDRESS = '127.0.74.1';
const folder = mkdtempSync(join(tmpdir(), 'veld-neighbour-'));
let says = 'well';
let delay = 0;
let pid = 1;
let refusals = 0;
const server = createServer((socket) => {
  socket.on('error', () => {});
  setTimeout(() => socket.end(says), delay);
}).listen(7400, ADDRESS);
after(() => {
  rmSync(folder, { recursive: true });
  server.close();
});

const ground = {
  ve: 'web', neighbour: 'next', slow: 1, folder, node: `${process.execPath} ${join(import.meta.dirname, '../lib/limits')}`,
  exec: () => Promise.resolve({ exitCode: 0, stdout: '', stderr: '' }),
  show: () => Promise.resolve({ pid, addresses: [ADDRESS] }),
  beancounters: () => Promise.resolve({ number: 1, rows: [{ name: 'numproc', failcnt: refusals }] }),
  onHost: async (line: string) => (await run('/bin/sh', ['-ec', line])).stdout.trim(),
} as unknown as LimitGround;

test('a neighbour that is refused something, is slow, or is started anew fails what was done meanwhile', { timeout: 60_000 }, async () => {
  const neighbour = await askNeighbour(ground);
  const { count, slowest } = await neighbour.during(() => sleep(500));
  assert.ok(count >= 2 && slowest < 2000, `${count}, ${slowest} ms`);

  says = 'fork: Resource temporarily unavailable';
  await assert.rejects(neighbour.during(() => sleep(300)), /what the neighbour said/);
  says = 'well';
  await sleep(500);
  delay = 2200;
  await assert.rejects(neighbour.during(() => sleep(300)), /took 2\d\d\d ms/);
  delay = 0;
  await neighbour.during(() => sleep(300)).catch(() => {}); // the last of the slow ones
  await assert.rejects(neighbour.during(() => {
    pid = 2;
    return Promise.resolve();
  }), /started anew/);
  refusals = 1;
  await assert.rejects(neighbour.end(), /refusals of the neighbour/);
});
