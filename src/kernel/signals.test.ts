import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { isHandled, listensTo } from './signals.ts';

test('a signal counts that is caught, or blocked to be taken otherwise; an ignored one does not', () => {
  // Of busybox' init: blocked HUP, INT, QUIT, USR1, USR2, TERM, CHLD, PWR; caught TSTP.
  const status = 'Name:\tinit\nSigBlk:\t0000000020014a07\nSigIgn:\t0000000000000100\nSigCgt:\t0000000000080000\n';
  assert.deepEqual([12, 30, 20, 1].map((signal) => isHandled(status, signal)), [true, true, true, true]);
  assert.deepEqual([9, 14, 64].map((signal) => isHandled(status, signal)), [false, false, false]);
  assert.equal(isHandled('SigBlk:\tfffffffe7ffbfeff\n', 64), true);
});

test('a real process is read', async () => {
  const child = spawn('/bin/sh', ['-c', 'trap "" PWR; trap : USR2; echo up; read x'], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  assert.deepEqual([listensTo(child.pid!, 'SIGUSR2'), listensTo(child.pid!, 'SIGPWR'), listensTo(child.pid!, 'SIGUSR1')], [true, false, false]);
  child.stdin.end();
  await once(child, 'exit');
  assert.equal(listensTo(child.pid!, 'SIGUSR2'), false);
});
