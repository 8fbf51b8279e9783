/** oom_score_adj of processes, seen on one of our own. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { changeOomScore } from './oom-score.ts';

const group = /^0::(.*)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1];

test('it is changed for a process of the group alone, and once', { skip: group === undefined && 'there is no cgroup2 here' }, async () => {
  const child = spawn('/bin/sleep', ['60']);
  const pid = child.pid!;
  const score = (): number => Number(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8'));
  const before = score();
  const seen: number[] = [];
  const set = (value: number, where = group!): string => changeOomScore(pid, where, (now) => {
    seen.push(now);
    return value;
  });
  assert.equal(set(500, `${group === '/' ? '' : group}/elsewhere`), 'gone', 'another one that has got its number');
  assert.equal(score(), before);
  assert.equal(set(500), 'changed');
  assert.equal(score(), 500);
  assert.equal(set(500), 'kept');
  assert.deepEqual(seen, [before, before, 500]);
  child.kill('SIGKILL');
  await once(child, 'exit');
  assert.equal(set(400), 'gone');
});
