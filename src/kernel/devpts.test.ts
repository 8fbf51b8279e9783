/** Pseudo-terminals of a process with a /dev/pts of its own. Needs root. */
import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { limitPtys, readPtys } from './devpts.ts';
import { readProcess, type ProcessId } from './process.ts';

const skip = process.getuid?.() !== 0 ? 'needs root' : false;
const children = new Set<ChildProcess>();
after(() => { for (const child of children) child.kill('SIGKILL'); });

/** Opens terminals until one is refused, each time that it is told to. */
const OPENER = `
import errno, os
have = []
while True:
  result = 'none'
  try:
    while len(have) < 30: have.append(os.open('/dev/pts/ptmx', os.O_RDWR | os.O_NOCTTY))
  except OSError as e: result = errno.errorcode[e.errno]
  print(len(have), result, flush=True)
  input()
`;

async function begin(mount: string): Promise<{ init: ProcessId; next: () => Promise<string> }> {
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', `${mount}; exec python3 -c "$0"`, OPENER], { stdio: ['pipe', 'pipe', 'inherit'] });
  children.add(child);
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const line = async (): Promise<string> => String((await lines.next()).value);
  const first = line();
  await first;
  return {
    init: { pid: child.pid!, startTime: readProcess(child.pid!)!.startTime },
    next: () => { child.stdin.write('\n'); return line(); },
  };
}

test('terminals are counted, and as many as the limit says; the other options stay', { skip }, async () => {
  const { init, next } = await begin('mount -t devpts -o newinstance,ptmxmode=0666,mode=0620,gid=5,max=3 devpts /dev/pts');
  assert.deepEqual(await readPtys(init), { held: 3, limit: 3 });
  assert.equal(await next(), '3 ENOSPC');
  assert.equal(await limitPtys(init, 5), true);
  assert.equal(await next(), '5 ENOSPC');
  assert.deepEqual(await readPtys(init), { held: 5, limit: 5 });
  assert.match(readFileSync(`/proc/${init.pid}/mountinfo`, 'utf8'), /^\S+ \S+ \S+ \S+ \/dev\/pts .* - devpts devpts rw,gid=5,mode=620,ptmxmode=666,max=5$/m);
  await limitPtys(init, 2);
  assert.equal(await next(), '5 ENOSPC', 'those that there are stay');
  await limitPtys(init, null);
  assert.equal(await next(), '30 none');
  assert.deepEqual(await readPtys(init), { held: 30, limit: null });
});

test('what is no devpts is not touched', { skip }, async () => {
  const { init } = await begin('mount -t devpts -o newinstance,max=3 devpts /dev/pts; mount -t tmpfs tmpfs /dev/pts; mount -t devpts -o newinstance,ptmxmode=0666 devpts /mnt; touch /dev/pts/ptmx; mount --bind /mnt/ptmx /dev/pts/ptmx');
  assert.equal(await readPtys(init), undefined);
  assert.equal(await limitPtys(init, 5), false);
});
