import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { readProcessUses } from './process-table.ts';
import type { ProcessUse } from './process-table.ts';

test('what a process uses, and what it says of itself, as it says it', async (t) => {
  const child = spawn('/bin/sh', ['-c', 'echo up; read line', 'sh', 'a b', 'new\nline', '\x1b[2J', 'x'.repeat(10_000)], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  const [own, other, ...more] = await readProcessUses([process.pid, child.pid!, 0x3fffffff]);
  assert.equal(more.length, 0, 'one that is not there is left out');
  assert.equal(own!.pid, process.pid);
  assert.ok(own!.cpuSeconds > 0 && own!.cpuSeconds < 3600 && own!.memoryBytes > 1 << 20 && own!.threads > 1, JSON.stringify(own));
  assert.deepEqual([own!.uid, own!.innerPids], [process.geteuid!(), []]);
  assert.equal(other!.comm, 'sh');
  assert.match(other!.command!, /^\/bin\/sh -c echo up; read line sh a b new\nline \x1b\[2J x+$/); // eslint-disable-line no-control-regex
  assert.equal(other!.command!.length, 4096, 'bounded');
});

test('one that has ended and is not yet waited for has no command line, and no memory', async (t) => {
  // The shell becomes a program that waits for nobody, and only then its child ends: it stays a zombie.
  const parent = spawn('/bin/sh', ['-c', 'exec 3<&0; (read line <&3) & echo $!; exec sleep 60'], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => parent.kill('SIGKILL'));
  const [data] = await once(parent.stdout, 'data') as [Buffer];
  const until = async (pid: number, there: (use: ProcessUse) => boolean): Promise<ProcessUse> => {
    for (;;) {
      const [use] = await readProcessUses([pid]);
      assert.ok(use, `${pid} is gone`);
      if (there(use)) return use;
    }
  };
  await until(parent.pid!, ({ comm }) => comm === 'sleep');
  parent.stdin.end();
  const use = await until(Number(String(data)), ({ state }) => state === 'Z');
  assert.deepEqual([use.command, use.memoryBytes, use.comm !== ''], [undefined, 0, true]);
});
