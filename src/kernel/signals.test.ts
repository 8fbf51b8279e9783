import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { isHandled, listensTo } from './signals.ts';

test('a signal counts that is caught, or blocked to be taken otherwise; an ignored one does not', () => {
  // Of busybox' init: blocked HUP, INT, QUIT, USR1, USR2, TERM, CHLD, PWR; caught TSTP.
  const status = 'Name:\tinit\nSigBlk:\t0000000020014a07\nSigIgn:\t0000000000000100\nSigCgt:\t0000000000080000\n';
  assert.deepEqual([12, 30, 20, 1].map((signal) => isHandled(status, signal)), [true, true, true, true]);
  assert.deepEqual([9, 14, 64].map((signal) => isHandled(status, signal)), [false, false, false]);
  assert.equal(isHandled('SigBlk:\tfffffffe7ffbfeff\n', 64), true);
});

test('one that waits for signals listens, though they are out of its mask meanwhile', async (t) => {
  const child = spawn('/usr/bin/perl', ['-MPOSIX', '-e', '$| = 1; my $s = POSIX::SigSet->new(SIGUSR2); sigprocmask(SIG_BLOCK, $s); print "up\n"; '
    + `my $m = pack("Q", 1 << (SIGUSR2 - 1)); syscall(${process.arch === 'arm64' ? 137 : 128}, $m, 0, 0, 8)`], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  while (!readFileSync(`/proc/${child.pid}/wchan`, 'utf8').includes('sig')) await setImmediate();
  assert.equal(isHandled(readFileSync(`/proc/${child.pid}/status`, 'utf8'), 12), false, 'what this test is about');
  assert.equal(listensTo(child.pid!, 'SIGUSR2'), true);
  child.kill('SIGUSR2');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});

test('a real process is read', async (t) => {
  const child = spawn('/bin/sh', ['-c', 'trap "" PWR; trap : USR2; echo up; read x'], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  await once(child.stdout, 'data');
  assert.deepEqual([listensTo(child.pid!, 'SIGUSR2'), listensTo(child.pid!, 'SIGPWR'), listensTo(child.pid!, 'SIGUSR1')], [true, false, false]);
  child.stdin.end();
  await once(child, 'exit');
  assert.equal(listensTo(child.pid!, 'SIGUSR2'), false);
});
