/** `veld beancounters` against a server that answers in the API's shapes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Beancounter, Beancounters } from '../spec/beancounters/table.ts';
import { beancountersText, HEAD } from '../spec/beancounters/text.ts';
import { startTestDaemon } from './test-daemon.ts';

const row = (name: string, fields: Partial<Beancounter> = {}): Beancounter => ({
  name, unit: 'items', held: 1, maxheld: 2, barrier: null, limit: null, failcnt: 0, kept: ['held', 'maxheld', 'failcnt'], counted: 'x', enforced: 'x', note: null, ...fields,
});
const ROWS = [row('kmemsize', { enforced: null, kept: ['held'] }), row('dummy', { counted: null }), row('numproc', { limit: 240, barrier: 240 }), row('numfile', { counted: null, enforced: null, kept: [] }), row('numpty', { kept: ['held'], note: 'Held loosely.' })];
const PATH = 'GET /v1/ves/web/beancounters';

test('into a pipe it is OpenVZ\'s file and nothing else; ubc is the same; with --notes what the numbers do not say', async (t) => {
  const now: Beancounters = { number: 101, rows: ROWS };
  const daemon = await startTestDaemon(t, { [PATH]: () => now });
  for (const words of [['beancounters', 'web'], ['ubc', 'web']]) assert.deepEqual(await daemon.veld(words).then(({ status, stdout, stderr }) => [status, stdout, stderr]), [0, beancountersText(now), '']);
  assert.deepEqual(JSON.parse((await daemon.veld(['--json', 'ubc', 'web'])).stdout), now);
  const { stdout } = await daemon.veld(['ubc', '--notes', 'web']);
  assert.ok(stdout.startsWith(`${beancountersText(now)}\n`));
  assert.deepEqual(stdout.slice(beancountersText(now).length + 1).split('\n'), [
    'Counted and limited: numproc, numpty.',
    'Counted only, nothing limits it here: kmemsize.',
    'Not known on this kernel, the zeros say nothing: numfile.',
    'maxheld is no peak, but what is held now: kmemsize, numpty.',
    'failcnt is not kept: numpty.',
    'numpty: Held loosely.',
    '',
  ]);
});

test('watched, only what has changed comes after the first look, with the difference', async (t) => {
  const looks: Beancounters[] = [
    { number: 101, rows: ROWS },
    { number: 101, rows: ROWS },
    { number: 101, rows: ROWS.map((one) => (one.name === 'numproc' ? { ...one, held: 5, limit: null, failcnt: 3 } : one)) },
  ];
  const look = (): (() => Beancounters) => { let i = 0; return () => looks[Math.min(i++, looks.length - 1)]!; };
  const words = ['ubc', '--watch', '--interval', '0.1', '--iterations', '3', 'web'];
  const daemon = await startTestDaemon(t, { [PATH]: look() });
  const { stdout } = await daemon.veld(words);
  assert.ok(stdout.startsWith(HEAD));
  const rest = stdout.slice(beancountersText(looks[0]!).length).split('\n');
  assert.match(rest[0]!, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d$/);
  assert.match(rest[1]!, /^ {12}numproc +5 +2 +240 +9223372036854775807 +3 {2}held \+4, limit was 240, failcnt \+3$/);
  assert.deepEqual(rest.slice(2), ['']);
  const other = await startTestDaemon(t, { [PATH]: look() });
  const lines = (await other.veld(['--json', ...words])).stdout.trimEnd().split('\n').map((line) => (JSON.parse(line) as Beancounters).rows.map(({ name }) => name));
  assert.deepEqual(lines, [ROWS.map(({ name }) => name), [], ['numproc']]);
});
