import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { defaultSettings } from '../lib/settings.ts';
import { followConsole } from './follow-log.ts';
import { consoleLogFile } from './logs.ts';

const bounded = { timeout: 20_000 };

function prepare(t: TestContext, content?: string): { file: string; follow: (tail?: number) => AsyncGenerator<string>; stop: AbortController } {
  const settings = { ...defaultSettings('t'), stateDir: mkdtempSync(join(tmpdir(), 'veld-follow-')) };
  const file = consoleLogFile(settings, 'u');
  const stop = new AbortController();
  mkdirSync(dirname(file), { recursive: true });
  if (content !== undefined) writeFileSync(file, content);
  const followers: AsyncGenerator<string>[] = [];
  t.after(async () => {
    stop.abort();
    for (const follower of followers) await follower.return(undefined);
    rmSync(settings.stateDir, { recursive: true, force: true });
  });
  return {
    file, stop,
    follow(tail) {
      const follower = followConsole(settings, 'u', { ...tail !== undefined && { tail }, signal: stop.signal });
      followers.push(follower);
      return follower;
    },
  };
}

async function next(lines: AsyncGenerator<string>): Promise<string | undefined> {
  const { value, done } = await lines.next();
  return done ? undefined : value;
}

test('what is there, from the end, then what comes: rows in pieces, characters in pieces', bounded, async (t) => {
  const { file, follow } = prepare(t, 'T1 stdout F one\nT2 stdout F two\nT3 stdout F three\n');
  const lines = follow(2);
  assert.deepEqual([await next(lines), await next(lines)], ['T2 two', 'T3 three']);
  const [a, b] = [Buffer.from('T4 stdout F gr\u00fcn\n').subarray(0, 15), Buffer.from('T4 stdout F gr\u00fcn\n').subarray(15)];
  const coming = next(lines);
  appendFileSync(file, a);
  setImmediate(() => appendFileSync(file, b));
  assert.equal(await coming, 'T4 gr\u00fcn');
});

test('a file that is not there yet, and one that conmon begins anew, with what stood in the old one last', bounded, async (t) => {
  const { file, follow } = prepare(t);
  const lines = follow();
  const first = next(lines);
  writeFileSync(file, 'T1 stdout F one\n');
  assert.equal(await first, 'T1 one');
  appendFileSync(file, 'T2 stdout F last of the old\n');
  writeFileSync(`${file}.tmp`, 'T3 stdout F first of the new\n');
  renameSync(`${file}.tmp`, file);
  assert.deepEqual([await next(lines), await next(lines)], ['T2 last of the old', 'T3 first of the new']);
  appendFileSync(file, 'T4 stdout F goes on\n');
  assert.equal(await next(lines), 'T4 goes on');
});

test('a prompt, which has no end, is told after a moment; what follows is a line of its own', bounded, async (t) => {
  const { file, follow } = prepare(t, 'T1 stdout P login: ');
  const lines = follow();
  const prompt = next(lines);
  appendFileSync(file, '\n'); // conmon ends its row, not the line
  assert.equal(await prompt, 'T1 login: ');
  appendFileSync(file, 'T2 stdout F root\n');
  assert.equal(await next(lines), 'T2 root');
});

test('it ends with the log, and when nobody listens any more', bounded, async (t) => {
  const gone = prepare(t, 'T1 stdout F one\n');
  const lines = gone.follow();
  await next(lines);
  const end = next(lines);
  rmSync(gone.file);
  assert.equal(await end, undefined);
  const left = prepare(t, '');
  const waiting = next(left.follow());
  setImmediate(() => left.stop.abort());
  assert.equal(await waiting, undefined);
});
