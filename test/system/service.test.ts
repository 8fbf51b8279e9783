/** The daemon as a process: one at a time, replaced after a kill, stopped in order, with a log that tells who asked. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileInstance, makeInstance } from '../lib/instance.ts';
import { startTime } from '../lib/guard.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance({ noTemplate: true });
const { socket, runDir, log } = veld.settings;

interface Line { audit?: boolean; route?: string; requestId?: string; peer?: { pid: number; uid: number } }
const lines = (): Line[] => readFileSync(log.file, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Line);

test('the socket is for root and its group only, and the pid file names the process', () => {
  assert.equal(statSync(socket).mode & 0o777, 0o660);
  assert.equal(statSync(socket).uid, 0);
  assert.equal(readFileSync(join(runDir, 'veldd.pid'), 'utf8'), `${veld.pid} ${startTime(veld.pid!)}\n`);
  assert.equal(statSync(veld.settings.stateDir).mode & 0o777, 0o700);
});

test('a change is in the log with the peer and the request id of the answer, a question is not', async () => {
  await veld.api.raw('GET', '/v1/ves');
  const answer = await veld.api.raw('POST', '/v1/ves', { name: 'x', template: 'nothing' });
  assert.equal(answer.status, 404);
  const audit = await until('the audit line', () => lines().find((line) => line.requestId === answer.headers['x-request-id'] && line.audit === true));
  assert.deepEqual(audit.peer, { pid: process.pid, uid: 0, gid: 0 });
  assert.equal(audit.route, '/v1/ves');
  assert.equal(lines().filter((line) => line.audit === true).length, 1);
});

test('SIGHUP opens the log anew', async () => {
  renameSync(log.file, `${log.file}.moved`);
  process.kill(veld.pid!, 'SIGHUP');
  await until('the new log', async () => {
    await veld.api.raw('GET', '/v1');
    return existsSync(log.file);
  });
});

test('a second daemon is refused, and hurts nothing', async () => {
  await assert.rejects(veld.second(), /works on/);
  assert.equal((await veld.api.raw('GET', '/v1')).status, 200);
  assert.match(readFileSync(join(runDir, 'veldd.pid'), 'utf8'), new RegExp(`^${veld.pid} `));
});

test('an instance with addresses in common with one that runs is refused', async () => {
  const other = makeInstance({ noTemplate: true, settings: (settings) => { settings.network.pools = [...veld.settings.network.pools]; } });
  try {
    await assert.rejects(other.start(), /in common with/);
    assert.equal((await veld.api.raw('GET', '/v1')).status, 200);
  } finally {
    assert.deepEqual(await other.destroy(), []);
  }
});

test('after kill -9 the next daemon takes the socket over; SIGTERM ends it in order', async () => {
  await veld.kill9();
  assert.ok(existsSync(socket));
  await veld.start();
  assert.equal((await veld.api.raw('GET', '/v1')).status, 200);
  assert.equal(await veld.stop(), 0);
  assert.equal(existsSync(socket), false);
  assert.equal(existsSync(join(runDir, 'veldd.pid')), false);
  const { code, stderr } = await veld.cli('list');
  assert.equal(code, 3);
  assert.match(stderr, new RegExp(socket));
  await veld.start();
});
