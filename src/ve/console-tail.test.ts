import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { test, type TestContext } from 'node:test';
import { tailConsole, type ConsoleTail } from './console-tail.ts';

const TIME = '2026-11-23T17:51:03.249178291+00:00';
const row = (tag: 'F' | 'P', text: string): string => `${TIME} stdout ${tag} ${text}\n`;

function logFile(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'veld-tail-'));
  t.after(() => rmSync(folder, { recursive: true }));
  return join(folder, 'console');
}

function read(t: TestContext, file: string, lines: number): { tail: ConsoleTail; seen: () => string } {
  const tail = tailConsole(file, lines);
  t.after(() => tail.destroy());
  const chunks: Buffer[] = [];
  tail.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { tail, seen: () => Buffer.concat(chunks).toString('latin1') };
}

async function shows(seen: () => string, expected: string): Promise<void> {
  for (let i = 0; i < 400 && seen() !== expected; i++) await sleep(5);
  assert.equal(seen(), expected);
}

test('the last lines, then what comes, as it was written', async (t) => {
  const file = logFile(t);
  writeFileSync(file, row('F', 'one\r') + row('F', 'two\r') + row('P', 'thr') + row('F', 'ee\r') + row('P', 'login: '));
  const all = read(t, file, 100);
  const last = read(t, file, 1);
  const none = read(t, file, 0);
  await shows(all.seen, 'one\r\ntwo\r\nthree\r\nlogin: ');
  await shows(last.seen, 'three\r\nlogin: ');
  appendFileSync(file, row('P', 'r') + row('F', 'oot\xff\0 stdout F x').slice(0, -5));
  await shows(none.seen, 'r');
  appendFileSync(file, Buffer.from([0xff, 10]));
  await shows(none.seen, Buffer.from('root\xff\0 stdout F x', 'utf8').subarray(0, -4).toString('latin1') + '\xff\n');
});

test('a log that is renewed is read to its end, then the new one from its beginning', async (t) => {
  const file = logFile(t);
  writeFileSync(file, row('F', 'old'));
  const { tail, seen } = read(t, file, 10);
  await shows(seen, 'old\n');
  appendFileSync(file, row('F', 'last of the old'));
  writeFileSync(`${file}.new`, row('F', 'new'));
  renameSync(`${file}.new`, file);
  tail.look();
  await shows(seen, 'old\nlast of the old\nnew\n');
});

test('a log that is not there yet, words of ours, and the end', async (t) => {
  const file = logFile(t);
  const { tail, seen } = read(t, file, 10);
  await sleep(10);
  tail.say('waiting\n');
  writeFileSync(file, row('F', 'booting'));
  tail.look();
  await shows(seen, 'waiting\nbooting\n');
  appendFileSync(file, row('F', 'bye'));
  tail.finish();
  await new Promise((resolve) => { tail.on('end', resolve); });
  assert.equal(seen(), 'waiting\nbooting\nbye\n');
});

test('rows that are none are left out', async (t) => {
  const file = logFile(t);
  writeFileSync(file, `no row at all\n${'x'.repeat(200_000)}\n${row('F', 'good')}`);
  await shows(read(t, file, 10).seen, 'good\n');
});

test('who does not read stops the reading, and loses nothing', async (t) => {
  const file = logFile(t);
  writeFileSync(file, '');
  const tail = tailConsole(file, 10);
  t.after(() => tail.destroy());
  const text = 'y'.repeat(1000);
  for (let i = 0; i < 5000; i++) appendFileSync(file, row('F', text));
  tail.look();
  tail.finish();
  let size = 0;
  for await (const chunk of tail) size += (chunk as Buffer).length;
  assert.equal(size, 5000 * 1001);
});
