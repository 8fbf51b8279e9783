/** `veld traffic`: the real program in pipes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import type { TrafficReport } from '../ve/types.ts';
import { startTestDaemon } from './test-daemon.ts';

const figures = (n: number) => ({ rxBytes: n * 2048, rxPackets: n, txBytes: n * 1024, txPackets: 2 * n });
const report = (...names: string[]): TrafficReport => ({
  classes: [{ name: 'inside', networks: ['10.187.0.0/16'] }, { name: 'outside', networks: [] }],
  ves: names.map((name, i) => ({ uuid: name, number: 101 + i, name, classes: { inside: figures(1), outside: figures(3) } })),
});

test('a line for each class of each VE; exact bytes; JSON; a VE that there is not', async (t) => {
  const daemon = await startTestDaemon(t, {
    'GET /v1/traffic': () => report('web', 'db'), 'GET /v1/ves/web/traffic': () => report('web'), 'GET /v1/ves/db/traffic': () => report('db'),
    'GET /v1/ves/none/traffic': () => new VeldError('ve.not_found', 'There is no VE none.'),
  });
  const { stdout } = await daemon.veld(['traffic']);
  assert.deepEqual(stdout.trimEnd().split('\n').map((line) => line.trim().split(/ {2,}/)), [
    ['NAME', 'CLASS', 'RX', 'RX PACKETS', 'TX', 'TX PACKETS'],
    ...['web', 'db'].flatMap((name) => [[name, 'inside', '2 KiB', '1', '1 KiB', '2'], [name, 'outside', '6 KiB', '3', '3 KiB', '6']]),
  ]);
  assert.match((await daemon.veld(['traffic', 'web', '--bytes'])).stdout, /^web +outside +6144 +3 +3072 +6$/m);
  assert.deepEqual(JSON.parse((await daemon.veld(['traffic', 'web', 'db', '--json'])).stdout), { ...report('web'), ves: [...report('web').ves, ...report('db').ves] });
  assert.equal((await daemon.veld(['traffic', 'none'])).status, 4);
});
