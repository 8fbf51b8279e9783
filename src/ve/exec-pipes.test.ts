import assert from 'node:assert/strict';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import { withoutComplaint } from './exec-pipes.ts';

const LINE = 'exec `/x`: No such file or directory\n';

test('the one line that is a complaint is taken out, whatever is asked about is the whole line', async () => {
  const raw = new PassThrough();
  const asked: string[] = [];
  const clean = withoutComplaint(raw, (line) => asked.push(line) > 0);
  const all = text(clean);
  raw.end(LINE);
  assert.equal(await all, '');
  assert.deepEqual(asked, [LINE.trim()]);
});

test('a command\'s own words stay, in order', async () => {
  for (const chunks of [[LINE], [LINE, 'more\n'], ['a', LINE], ['no backquote\n'], [LINE.repeat(2)], ['']]) {
    const raw = new PassThrough();
    const all = text(withoutComplaint(raw, () => chunks.length > 1));
    for (const chunk of chunks) {
      raw.write(chunk);
      await sleep(1);
    }
    raw.end();
    assert.equal(await all, chunks.join(''));
  }
});

test('a line in doubt does not wait for the end of a command that lives on', async () => {
  const raw = new PassThrough();
  const clean = withoutComplaint(raw, () => false);
  raw.write(LINE);
  const first = await new Promise((resolve) => { clean.once('data', resolve); });
  assert.equal(String(first), LINE);
});

test('it says when it has looked, also when nobody reads, and ends with what it is fed from', async () => {
  const raw = new PassThrough();
  const clean = withoutComplaint(raw, () => true);
  const looked = new Promise((resolve) => { clean.once('looked', resolve); });
  raw.end(LINE);
  await looked;
  const other = new PassThrough();
  const broken = withoutComplaint(other, () => false);
  const closed = new Promise((resolve) => { broken.once('close', resolve); });
  other.destroy();
  await closed;
});
