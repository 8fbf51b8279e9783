/** `veld top`: the real program in pipes, and on a terminal (made by script(1)). */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { VeldError } from '../lib/errors.ts';
import { startTestDaemon } from './test-daemon.ts';
import type { TestDaemon } from './test-daemon.ts';

/** A daemon with two running VEs and one that is stopped; each request is a second later. `web` uses half a CPU, `db` a quarter. */
async function daemonWithVes(t: TestContext, answer?: (request: number) => void): Promise<TestDaemon> {
  let clock = 0;
  const one = (name: string, number: number, share: number, memoryBytes: number) => ({
    uuid: name, number, name, status: 'running', pid: number, startedAt: new Date(Date.now() - 60_000).toISOString(), clock,
    limits: { cpuPercent: null, memoryBytes: name === 'web' ? 1 << 30 : null, tasks: 4096 },
    usage: { cpuSeconds: clock * share, memoryBytes, tasks: 5 }, traffic: { rxBytes: clock * 2048, txBytes: 0, rxPackets: 0, txPackets: 0 },
  });
  return startTestDaemon(t, {
    'GET /v1/usage': () => {
      clock += 1;
      answer?.(clock);
      return {
        time: new Date().toISOString(), host: { cpus: 2, memoryBytes: 4 * 2 ** 30, availableBytes: 2 ** 30, load: [0.5, 0.25, 0] },
        ves: [one('db', 7, 0.25, 900 << 20), one('web', 101, 0.5, 100 << 20), { ...one('old', 9, 0, 0), status: 'stopped', pid: null, startedAt: null, usage: null, traffic: null }],
      };
    },
    'GET /v1/ves/web/processes': () => {
      clock += 1;
      const process = (pid: number, insidePid: number, share: number, command: string) => ({
        pid, insidePid, uid: 0, user: 'root', state: 'S', threads: 2, cpuSeconds: clock * share, memoryBytes: 1 << 20, startedAt: new Date().toISOString(), command,
      });
      return { clock, more: 0, processes: [process(900, 1, 0.1, '/sbin/init'), process(901, 2, 0.9, 'busy \x1b[2Jloop')] };
    },
    'GET /v1/ves/nobody/processes': () => new VeldError('ve.not_found', 'There is no VE nobody.'),
  });
}

const names = (table: string): string[] => table.trim().split('\n').slice(2).map((line) => line.split(' ')[0]!);

test('a plain table into a pipe, one a sample, the busiest first; one request a sample', async (t) => {
  const daemon = await daemonWithVes(t);
  const { stdout, stderr, status } = await daemon.veld(['top', '--iterations', '2', '--interval', '0.1']);
  assert.deepEqual([stderr, status], ['', 0]);
  const tables = stdout.split('\n\n');
  assert.equal(tables.length, 2);
  assert.match(tables[0]!, /^VEs: 2 of 3 running, CPU 75\.0 % of 200 % {2}Host: load 0\.50 0\.25 0\.00, memory 3 GiB of 4 GiB\nNAME +STATUS +CPU %\* +MEMORY +LIMIT +MEM % +TASKS +RX +TX +UP\n/);
  assert.match(tables[0]!, /^web +running +50\.0 +100 MiB +1 GiB +9\.8 +5 +2 KiB\/s +0 B\/s +1 min$/m);
  assert.deepEqual(names(tables[0]!), ['web', 'db']);
  assert.equal(daemon.asked.length, 3, 'two samples, and the first that rates are against');
  assert.deepEqual(names((await daemon.veld(['top', '-1', '-i', '0.1', '--sort', 'memory'])).stdout), ['db', 'web']);
  assert.deepEqual(names((await daemon.veld(['top', '-1', '-i', '0.1', '--sort', 'name', '-r', '--all'])).stdout), ['web', 'old', 'db']);
});

test('one JSON object a line and sample, with rates from the first on', async (t) => {
  const daemon = await daemonWithVes(t);
  const lines = (await daemon.veld(['top', '--json', '-n', '2', '-i', '0.1'])).stdout.trim().split('\n');
  assert.equal(lines.length, 2);
  for (const line of lines) {
    const { ves } = JSON.parse(line) as { ves: { name: string; cpuPercent: number; rxBytesPerSecond: number }[] };
    assert.deepEqual(ves.map(({ name, cpuPercent, rxBytesPerSecond }) => [name, cpuPercent, rxBytesPerSecond]), [['web', 50, 2048], ['db', 25, 2048]]);
  }
});

test('processes of a VE; what they say of themselves is made harmless', async (t) => {
  const daemon = await daemonWithVes(t);
  const { stdout } = await daemon.veld(['top', 'web', '-1', '-i', '0.1']);
  assert.match(stdout, /^web: 2 processes, 4 threads\nHOST PID +PID +USER +S +CPU %\* +MEMORY +CPU TIME +UP +COMMAND\n +901 +2 +root +S +90\.0 .* busy loop\n +900 +1 +root +S +10\.0 .* \/sbin\/init\n$/);
  assert.equal((await daemon.veld(['top', 'nobody', '-1'])).status, 4);
});

test('what makes no sense is refused', async (t) => {
  const daemon = await daemonWithVes(t);
  for (const [words, said] of [
    [['top', '--sort', 'user'], /VEs cannot be sorted by user/], [['top', 'web', '--sort', 'rx'], /processes cannot be sorted by rx/], [['top', '--sort', 'colour'], /Allowed choices/],
    [['top', '-i', '0'], /'0' is not a number of seconds/], [['top', '-n', '0'], /at least 1/], [['top', 'web', '--all'], /--all is for VEs/],
  ] as const) {
    const { stderr, status } = await daemon.veld(words);
    assert.match(stderr, said);
    assert.equal(status, 2);
  }
  assert.equal(daemon.asked.length, 0);
});

test('on a terminal: a picture that keys sort, that fits the window, and that goes without a trace', async (t) => {
  const daemon = await daemonWithVes(t);
  const main = join(import.meta.dirname, 'main.ts');
  const child = spawn('script', ['-qec', `stty rows 8 cols 70; '${process.execPath}' '${main}' --socket '${daemon.socket}' top -i 0.1; echo left with $?; stty -a`, '/dev/null'],
    { env: { PATH: process.env.PATH, TERM: 'xterm', NO_COLOR: '1' }, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let seen = '';
  const waiting: { pattern: RegExp; resolve: () => void }[] = [];
  child.stdout.on('data', (chunk: Buffer) => {
    seen += chunk.toString('utf8');
    for (const one of waiting.splice(0)) if (one.pattern.test(seen)) one.resolve(); else waiting.push(one);
  });
  /** What comes from now on, until the pattern is in it. */
  const until = async (pattern: RegExp): Promise<string> => {
    if (!pattern.test(seen)) await new Promise<void>((resolve) => { waiting.push({ pattern, resolve }); });
    const text = seen;
    seen = '';
    return text;
  };
  const first = await until(/\x1b\[H.*web .* 50\.0 .*\x1b\[J/s); // eslint-disable-line no-control-regex
  assert.ok(first.startsWith('\x1b[?1049h\x1b[?25l\x1b[?7l'), JSON.stringify(first.slice(0, 40)));
  const picture = first.slice(first.lastIndexOf('\x1b[H'));
  for (const line of picture.split('\r\n')) assert.ok(line.replaceAll(/\x1b\[[0-9;?]*[A-Za-z]/g, '').length <= 70, line); // eslint-disable-line no-control-regex
  assert.ok(picture.indexOf('web') < picture.indexOf('db '), picture);
  child.stdin.write('m');
  await until(/MEMORY\*.*\n.*db .*\n.*web /s);
  child.stdin.write('R');
  await until(/MEMORY\^.*\n.*web .*\n.*db /s);
  child.stdin.write('q');
  const last = await until(/left with 0.*echoke/s);
  assert.match(last, /\x1b\[\?7h\x1b\[\?25h\x1b\[\?1049l/); // eslint-disable-line no-control-regex
  assert.match(last, / icanon /);
  assert.match(last, / echo /);
});

test('a daemon that goes away is told, and waited for', async (t) => {
  let broken = false;
  const daemon = await daemonWithVes(t, () => { if (broken) throw new VeldError('daemon.stopping', 'The daemon is stopping.'); });
  const child = spawn('script', ['-qec', `'${process.execPath}' '${join(import.meta.dirname, 'main.ts')}' --socket '${daemon.socket}' top -i 0.1`, '/dev/null'],
    { env: { PATH: process.env.PATH, TERM: 'xterm' }, stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  let seen = '';
  let state = 0;
  await new Promise<void>((resolve, reject) => {
    child.stdout.on('data', (chunk: Buffer) => {
      seen += chunk.toString('utf8');
      if (state === 0 && /50\.0/.test(seen)) { broken = true; state = 1; seen = ''; }
      if (state === 1 && /stopping\. Trying again/.test(seen)) { broken = false; state = 2; seen = ''; }
      if (state === 2 && /VEs: 2 of 3 running/.test(seen)) { state = 3; child.stdin.write('\x03'); }
    });
    child.on('exit', (code) => (state === 3 && code === 0 ? resolve() : reject(new Error(`ended in state ${state} with ${code}: ${seen}`))));
  });
});
