import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, renameSync, rmSync, statSync, existsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { createLogger, openLog } from './log.ts';
import { redact } from './redact.ts';
import { VeldError } from './errors.ts';

function capture(): { lines: Record<string, unknown>[]; write(line: string): void } {
  const lines: Record<string, unknown>[] = [];
  return { lines, write: (line) => { lines.push(JSON.parse(line) as Record<string, unknown>); } };
}

test('child loggers carry the request id, errors carry code, stack and cause', () => {
  const out = capture();
  const log = createLogger(out).child({ requestId: 'r1' });
  log.error({ err: new VeldError('ve.busy', 'web is busy.', { cause: new Error('inner') }) }, 'start failed');
  const [line] = out.lines;
  assert.equal(line?.requestId, 'r1');
  assert.equal(line?.msg, 'start failed');
  assert.equal(line?.level, 'error');
  const err = line?.err as Record<string, unknown>;
  assert.equal(err.code, 've.busy');
  assert.match(err.stack as string, /log\.test/);
  assert.equal((err.cause as Record<string, unknown>).message, 'inner');
});

test('secrets are never written, at any depth', () => {
  const out = capture();
  createLogger(out).info({ body: { env: { A: 'hidden1' }, list: [{ rootPassword: 'hidden2', apiToken: 'hidden3' }] }, session: 'hidden4', Authorization: 'hidden5' });
  assert.doesNotMatch(JSON.stringify(out.lines), /hidden/);
});

test('hostile values do not break a line', () => {
  const loop: Record<string, unknown> = { n: 1n, bytes: Buffer.from('x') };
  loop.self = loop;
  const shown = JSON.stringify(redact([loop, JSON.parse('{"__proto__": {"polluted": true}}'), 'x'.repeat(100_000)]));
  assert.ok(shown.length < 20_000);
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test('the file is bounded: one old file is kept, and a reopened log writes to the new file', () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-log-'));
  try {
    const file = join(folder, 'sub', 'veldd.log');
    const log = openLog({ file, maxBytes: 4000, level: 'info' });
    for (let i = 0; i < 200; i += 1) log.logger.info({ i }, 'a line of some length');
    assert.ok(statSync(file).size <= 4000);
    assert.ok(statSync(`${file}.1`).size <= 4000);
    const last = readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? '';
    assert.equal((JSON.parse(last) as { i: number }).i, 199);
    renameSync(file, `${file}.moved`);
    log.reopen();
    log.logger.info('after');
    assert.match(readFileSync(file, 'utf8'), /after/);
    log.close();
    assert.equal(existsSync(file), true);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
