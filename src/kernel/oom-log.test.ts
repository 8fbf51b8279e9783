import assert from 'node:assert/strict';
import { test } from 'node:test';
import { victimsIn } from './oom-log.ts';

const line = (group: string, task: string, pid: number): string => `oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=101,mems_allowed=0,oom_memcg=/veld-main/101,task_memcg=${group},task=${task},pid=${pid},uid=165536`;

test('the victims of a group and of those below it, the last ones', () => {
  const log = ['Memory cgroup out of memory: Killed process 7 (stress)', line('/veld-main/101', 'one', 1), line('/veld-main/1011', 'other', 2), line('/veld-main/101/system.slice', 'two', 3)];
  assert.deepEqual(victimsIn(log, '/veld-main/101', 5), [{ pid: 1, name: 'one' }, { pid: 3, name: 'two' }]);
  assert.deepEqual(victimsIn(log, '/veld-main/101', 1), [{ pid: 3, name: 'two' }]);
  assert.deepEqual(victimsIn(log, '/veld-main/7', 1), []);
});

test('a process whose name looks like the rest of the line', () => {
  assert.deepEqual(victimsIn([line('/veld-main/101', 'x,pid=1,uid=0', 42)], '/veld-main/101', 1), [{ pid: 42, name: 'x,pid=1,uid=0' }]);
});
