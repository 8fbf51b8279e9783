/** Application VEs: one command under Veld's own small init, from create to its end. */
import assert from 'node:assert/strict';
import { readFileSync, readlinkSync } from 'node:fs';
import { afterEach, test } from 'node:test';
import { TEMPLATE } from '../lib/cache.ts';
import { listen } from '../lib/events.ts';
import { ApiError } from '../lib/http.ts';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { askUntil } from '../lib/tcp.ts';
import { openTerminal } from '../lib/terminal.ts';
import { until } from '../lib/wait.ts';
import type { VeDetail } from '../../src/ve/types.ts';

const veld = await fileInstance();
const empty = veld.traces();
afterEach(async () => {
  if (veld.pid === undefined) await veld.start();
  // One that is always started again may be starting just now.
  const destroy = (name: string): Promise<boolean> => veld.api.operate('DELETE', `/v1/ves/${name}?force=true`).then(() => true, (error: unknown) => {
    if (error instanceof ApiError && error.code === 've.busy') return false;
    throw error;
  });
  for (const ve of await veld.list()) await until(`${ve.name} to be destroyed`, () => destroy(ve.name));
});

/** An application VE that runs a script in a shell. */
async function running(name: string, script: string, properties: Record<string, unknown> = {}): Promise<VeDetail> {
  return veld.createRunning(name, { 'boot.command': ['/bin/sh', '-c', script], ...properties });
}

const ended = (name: string): Promise<VeDetail> => until(`${name} to have ended`, async () => {
  const ve = await veld.show(name);
  return ve.pid === null && ve.lastExit !== null && ['stopped', 'failed'].includes(ve.status) ? ve : undefined;
});

/** Lines of the console, without their times. */
async function said(name: string): Promise<string[]> {
  return (await veld.cli('logs', name)).stdout.trimEnd().split('\n').map((line) => line.replace(/^\S+ ?/, ''));
}

const untilSaid = (name: string, line: string): Promise<boolean> => until(`${name} to say ${line}`, async () => (await said(name)).includes(line));

const SERVER = 'use IO::Socket::IP; $| = 1; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 8080, Listen => 9, V6Only => 0) or die $@; '
  + 'print "listening\\n"; while (my $c = $s->accept) { print $c "$ENV{GREETING} from uid $< in $ENV{PWD_SEEN}\\n"; close $c }';

test('create with a command behind --: it serves, as its user, in its folder, with its environment', async () => {
  const result = await veld.cli('create', 'app', '--template', TEMPLATE, '--start', '--wait', '--user', 'www-data', '--cwd', '/usr/share', '-e', 'GREETING=good day',
    '--', 'sh', '-c', `PWD_SEEN=$(pwd) exec perl -e '${SERVER}'`);
  assert.equal(result.code, 0, result.stderr);
  const ve = await veld.show('app');
  assert.equal(ve.status, 'running');
  for (const address of ve.addresses) assert.equal(await askUntil(address, 8080), 'good day from uid 33 in /usr/share\n');
  assert.deepEqual(await said('app'), ['listening']);
  // pid 1 is Veld's init, which the template does not have; the command is its only child.
  assert.equal(readlinkSync(`/proc/${ve.pid}/exe`), '/run/veld/init');
  assert.equal((await veld.exec('app', 'cat', '/proc/2/comm')).stdout, 'perl\n');
  assert.equal((await veld.exec('app', 'sh', '-c', 'echo x >/run/veld/init')).exitCode, 2, 'its init cannot be written to');
  assert.match((await veld.exec('app', 'id', '-un')).stdout, /^root$/m);
  assert.equal((await veld.exec('app', 'hostname')).stdout, 'app\n');
  assert.match((await veld.cli('show', 'app')).stdout, /boot\.command +sh -c/);
});

test('orphans of the command are reaped', async () => {
  await running('orphans', '(sh -c "sleep 0.1" & sh -c "sleep 0.1" &); echo up; exec sleep 1000');
  await untilSaid('orphans', 'up');
  await until('only init and the command to be there', async () => {
    const { stdout } = await veld.exec('orphans', 'ps', '-e', '-o', 'stat=,comm=');
    return !/Z|sh$/m.test(stdout) && stdout.includes('sleep');
  });
});

test('stop is SIGTERM to the command; its status is known', async () => {
  await running('polite', 'trap "echo bye; exit 7" TERM; echo up; while :; do sleep 0.05; done');
  await untilSaid('polite', 'up');
  const { result } = await veld.api.operate('POST', '/v1/ves/polite/stop');
  assert.deepEqual(result, { forced: false });
  const ve = await veld.show('polite');
  assert.deepEqual([ve.status, ve.lastExit?.code, ve.lastExit?.reason], ['stopped', 7, 'stopped']);
  assert.deepEqual(await said('polite'), ['up', 'bye']);
  assertSame(veld.traces(), empty, 'a stopped VE leaves nothing');
});

test('a command that does not listen is killed after stop.timeout', async () => {
  await running('deaf', 'trap "" TERM; echo up; while :; do sleep 0.05; done', { 'stop.timeout': 1 });
  await untilSaid('deaf', 'up');
  assert.deepEqual((await veld.api.operate('POST', '/v1/ves/deaf/stop')).result, { forced: true });
  assert.equal((await veld.show('deaf')).lastExit?.code, 137);
});

test('a command that cannot be run makes the start fail, with the status of a shell, and nothing is left', async () => {
  const cases: [properties: Record<string, unknown>, code: string, exit: number, message: RegExp][] = [
    [{ 'boot.command': ['no-such-program', 'x'] }, 'exec.not_found', 127, /"no-such-program".*No such file/],
    [{ 'boot.command': ['/etc/passwd'] }, 'exec.not_executable', 126, /"\/etc\/passwd".*Permission denied/],
    [{ 'boot.command': ['sleep', '9'], 'boot.user': 'nobody-here' }, 'request.invalid', 2, /no user "nobody-here"/],
    [{ 'boot.command': ['sh', '-c', 'echo wrong option >&2; exit 3'] }, 've.init_died', 10, /status 3; .*: wrong option/],
  ];
  for (const [properties, code, exit, message] of cases) {
    await veld.api.operate('POST', '/v1/ves', { name: 'wrong', template: TEMPLATE, properties });
    const error = await veld.api.operate('POST', '/v1/ves/wrong/start').catch((thrown: unknown) => thrown);
    assert.ok(error instanceof ApiError, `${JSON.stringify(properties)} was started`);
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.equal((await veld.cli('start', 'wrong')).code, exit);
    assert.equal((await veld.show('wrong')).status, 'stopped');
    assertSame(veld.traces(), empty, 'a failed start leaves nothing');
    await veld.api.operate('DELETE', '/v1/ves/wrong');
  }
  // What an earlier boot said is not taken for this one's words.
  await veld.api.operate('POST', '/v1/ves', { name: 'wrong', template: TEMPLATE, properties: { 'boot.command': ['no-such-program'] } });
  await veld.cli('start', 'wrong');
  await veld.cli('set', 'wrong', 'boot.command=false');
  assert.match((await veld.cli('start', 'wrong')).stderr, /status 1 without a word/);
});

test('the end of the command is the end of the VE: 0 is done, all else has failed', async () => {
  // 129 and 130 are a reboot and a poweroff of a system; a command that ends so has just ended.
  for (const [status, then] of [[0, 'stopped'], [3, 'failed'], [129, 'failed'], [130, 'failed']] as const) {
    await running(`ends-${status}`, `sleep 0.3; exit ${status}`);
    const ve = await ended(`ends-${status}`);
    assert.deepEqual([ve.status, ve.lastExit?.code], [then, status]);
    assert.equal(ve.lastExit?.reason, 'its command ended');
  }
  // One that is done before anybody has looked has been started, too.
  await veld.api.operate('POST', '/v1/ves', { name: 'quick', template: TEMPLATE, properties: { 'boot.command': ['true'] }, start: true });
  assert.deepEqual([(await ended('quick')).lastExit?.code], [0]);
  // A VE is seen to have ended before all of it is cleared away.
  await until('the rest to go', () => veld.traces().every((line) => empty.includes(line)), 20_000).catch(() => {});
  assertSame(veld.traces(), empty, 'nothing is left of them');
});

test('a command is suspended and resumed, cloned and rolled back with its console', async () => {
  // It answers each line from the console; whoever began anew would count from one again.
  await running('talks', 'echo up; n=0; while read line; do n=$((n+1)); echo "$n $line"; done');
  await untilSaid('talks', 'up');
  const type = async (ve: string, line: string, answer: string): Promise<void> => {
    const terminal = openTerminal(`veld console ${ve}`, veld.settingsFile);
    await terminal.shows(/to leave|detach/i);
    terminal.type(`${line}\r`);
    await terminal.shows(answer);
    terminal.hangUp();
  };
  await type('talks', 'one', '1 one');
  // Whoever is attached hears of it.
  const attached = openTerminal('veld console --wait talks', veld.settingsFile);
  await attached.shows(/to leave|detach/i);
  for (const [line, answer] of [['two', '2 two'], ['three', '3 three']] as const) {
    await veld.api.operate('POST', '/v1/ves/talks/suspend');
    await attached.shows('talks is suspended; waiting until it is resumed');
    await veld.api.operate('POST', '/v1/ves/talks/resume');
    await type('talks', line, answer);
  }
  await attached.shows('2 two');
  await attached.shows('3 three');
  attached.hangUp();
  // What held the console's other end in the dump is no longer there.
  assert.deepEqual((await veld.exec('talks', 'sh', '-c', 'cat /proc/[0-9]*/comm')).stdout.split('\n').filter((name) => name === 'sleep'), []);
  await veld.api.operate('POST', '/v1/ves/talks/snapshots', { name: 'here', live: true });
  await veld.api.operate('POST', '/v1/ves/talks/clone', { name: 'copy', live: true });
  await type('copy', 'four', '4 four');
  await type('talks', 'vier', '4 vier');
  await veld.api.operate('POST', '/v1/ves/talks/snapshots/here/restore');
  await type('talks', 'quatre', '4 quatre');
  assert.deepEqual((await veld.exec('copy', 'sh', '-c', 'echo x >/run/veld/init')).exitCode, 2, 'its init cannot be written to');
  assert.equal((await veld.cli('stop', 'copy')).code, 0);
  assert.equal((await veld.show('copy')).status, 'stopped');
});

test('the restart policy holds for commands', async () => {
  const listener = await listen(veld.api);
  await running('again', 'echo run; sleep 0.3; exit 5', { 'restart.policy': 'on-failure' });
  await until('a second run', async () => (await said('again')).filter((line) => line === 'run').length >= 2);
  await running('done', 'echo run; sleep 0.3; exit 0', { 'restart.policy': 'on-failure' });
  assert.equal((await ended('done')).status, 'stopped');
  await running('always', 'echo run; sleep 0.3; exit 0', { 'restart.policy': 'always' });
  await until('a second run', async () => (await said('always')).filter((line) => line === 'run').length >= 2);
  assert.equal((await said('done')).filter((line) => line === 'run').length, 1);
  assert.ok(!listener.events.some((event) => event.type === 've.rebooted'));
  listener.close();
});

test('a command lives on while the daemon is away; its end meanwhile is recorded', async () => {
  const ve = await running('alone', 'echo up; while [ ! -e /tmp/end ]; do sleep 0.05; done; exit 9');
  await veld.kill9();
  assert.equal(readlinkSync(`/proc/${ve.pid}/exe`), '/run/veld/init');
  await veld.start();
  assert.deepEqual([(await veld.show('alone')).pid, (await veld.show('alone')).status], [ve.pid, 'running']);
  assert.equal((await veld.exec('alone', 'sh', '-c', 'sleep 0.5 && touch /tmp/end &')).exitCode, 0);
  await veld.kill9();
  await until('the command to have ended', () => !isThere(ve.pid));
  await veld.start();
  const after = await ended('alone');
  assert.deepEqual([after.status, after.lastExit?.code], ['failed', 9]);
});

test('a change of the command waits for the next start; without one the VE boots its system', async () => {
  await running('changing', 'echo first; exec sleep 1000');
  await untilSaid('changing', 'first');
  assert.equal((await veld.cli('set', 'changing', 'boot.command=echo second')).code, 13);
  const changed = await veld.cli('set', '--next-start', 'changing', "boot.command=sh -c 'echo \"second  $0\"; exec sleep 1000'");
  assert.equal(changed.code, 0, changed.stderr);
  assert.deepEqual((await veld.show('changing')).pending, ['boot.command']);
  const { pid } = await veld.show('changing');
  assert.equal((await veld.cli('restart', 'changing')).code, 0);
  assert.notEqual((await veld.show('changing')).pid, pid);
  await untilSaid('changing', 'second  sh');
  assert.equal((await veld.cli('set', '--next-start', 'changing', '--unset', 'boot.command')).code, 0);
  assert.equal((await veld.cli('restart', 'changing')).code, 0);
  assert.equal(await veld.booted('changing'), 'running');
});

function isThere(pid: number | null): boolean {
  try {
    return !/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
