import assert from 'node:assert/strict';
import { test } from 'node:test';
import { victimsIn } from './oom-log.ts';

const line = (group: string, task: string, pid: number): string => `oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=101,mems_allowed=0,oom_memcg=/veld-main/101,task_memcg=${group},task=${task},pid=${pid},uid=165536`;

test('the victims of a group and of those below it, the last ones', () => {
  const log = ['Memory cgroup out of memory: Killed process 7 (stress)', line('/veld-main/101', 'one', 1), line('/veld-main/1011', 'other', 2), line('/veld-main/101/system.slice', 'two', 3)];
  assert.deepEqual(victimsIn(log, '/veld-main/101', 5), [{ pid: 1, name: 'one', ranOut: 'own' }, { pid: 3, name: 'two', ranOut: 'own' }]);
  assert.deepEqual(victimsIn(log, '/veld-main/101', 1), [{ pid: 3, name: 'two', ranOut: 'own' }]);
  assert.deepEqual(victimsIn(log, '/veld-main/7', 1), []);
});

test('a process whose name looks like the rest of the line', () => {
  assert.deepEqual(victimsIn([line('/veld-main/101', 'x,pid=1,uid=0', 42)], '/veld-main/101', 1), [{ pid: 42, name: 'x,pid=1,uid=0', ranOut: 'own' }]);
});

test('what had no memory left: the VE, what is above it, or the host', () => {
  const log = [
    'oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/veld-main,task_memcg=/veld-main/101,task=a,pid=1,uid=0',
    'oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/veld-main/101/system.slice,task_memcg=/veld-main/101/system.slice/x,task=b,pid=2,uid=0',
    'oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=init,mems_allowed=0,global_oom,task_memcg=/veld-main/101/x,task=c,pid=3,uid=0',
  ];
  assert.deepEqual(victimsIn(log, '/veld-main/101', 9).map(({ name, ranOut }) => `${name} ${ranOut}`), ['a group', 'b own', 'c host']);
});
