/**
 * User beancounters of real VEs: each limit that is enforced is filled from inside, is refused with its errno, counts that, and passes when it is raised.
 * The neighbour is asked for the same meanwhile, and is refused nothing.
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DoctorCheck } from '../../src/jobs/doctor.ts';
import type { Beancounter, Beancounters } from '../../src/spec/beancounters/table.ts';
import { beancountersText } from '../../src/spec/beancounters/text.ts';
import { createResources } from '../../src/resources/resources.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('web', { 'ubc.numpty': '12' });
await veld.createRunning('next');
await Promise.all(['web', 'next'].map((name) => veld.booted(name)));

const all = (name: string): Promise<Beancounters> => veld.api.call<Beancounters>('GET', `/v1/ves/${name}/beancounters`);
const row = async (name: string, what: string): Promise<Beancounter> => (await all(name)).rows.find((one) => one.name === what)!;
const set = (name: string, changes: Record<string, unknown>): Promise<unknown> => veld.api.operate('PATCH', `/v1/ves/${name}/properties`, { changes });
const groupOf = (number: number): string => createResources({ instance: veld.name, runDir: veld.settings.runDir }).groups(number).unified;

/** Perl that has one more until it is refused, or has MOST: says how many, and the error's name. */
const FILL: Record<string, string> = {
  numtcpsock: 'socket($s, PF_INET, SOCK_STREAM, 0) ? push(@a, $s) : 0',
  numothersock: 'socket($s, PF_INET6, SOCK_DGRAM, 0) ? push(@a, $s) : 0',
  numpty: 'sysopen($s, "/dev/ptmx", 2 | 0400) ? push(@a, $s) : 0',
  numproc: 'defined($s = fork) ? ($s ? push(@a, $s) : (sleep 100, exit)) : 0',
};
const MOST = 60;
async function fill(name: string, what: string): Promise<{ got: number; errno: string }> {
  const code = `use Socket; use Errno; my @a; while (@a < ${MOST}) { my $s; (${FILL[what]}) or last } my ($e) = grep { exists $!{$_} && $!{$_} } qw(ENOBUFS ENOSPC EAGAIN EPERM ENOMEM EMFILE); print scalar(@a), " ", @a < ${MOST} ? $e : "none"; kill 9, @a if "${what}" eq "numproc"`;
  const { stdout, stderr, exitCode } = await veld.exec(name, 'perl', '-e', code);
  assert.equal(exitCode, 0, stderr);
  const [got, errno] = stdout.split(' ') as [string, string];
  return { got: Number(got), errno };
}

test('the table is OpenVZ\'s, in text and JSON, by both names, and tells what is held here', async () => {
  const { code, stdout } = await veld.cli('beancounters', 'web');
  assert.equal(code, 0);
  const lines = stdout.split('\n');
  assert.equal(lines[0], 'Version: 2.5');
  assert.match(lines[2]!, new RegExp(`^ +${(await veld.show('web')).number}: kmemsize +\\d+ +\\d+ +9223372036854775807 +9223372036854775807 +0$`));
  assert.equal(lines.length, 2 + 25 + 1);
  const json = await veld.json<Beancounters>('ubc', 'web');
  assert.equal(beancountersText(json).split('\n').length, lines.length);
  const held = json.rows.filter(({ enforced }) => enforced !== null).map(({ name }) => name);
  for (const name of ['numproc', 'physpages', 'numtcpsock', 'numothersock', 'numpty']) assert.ok(held.includes(name), `${name} is held here`);
  const numproc = json.rows.find(({ name }) => name === 'numproc')!;
  assert.ok(numproc.held >= 5 && numproc.maxheld >= numproc.held && numproc.limit === 4096, JSON.stringify(numproc));
  assert.match((await veld.cli('ubc', '--notes', 'web')).stdout, /^Counted and limited: .*numtcpsock.*\n/m);
  assert.equal((await veld.cli('ubc', 'nobody')).code, 4);
});

for (const [what, property, errno] of [
  ['numtcpsock', 'ubc.numtcpsock', 'ENOBUFS'], ['numothersock', 'ubc.numothersock', 'ENOBUFS'], ['numproc', 'pids.limit', 'EAGAIN'], ['numpty', 'ubc.numpty', 'ENOSPC'],
] as const) {
  test(`${what}: refused with ${errno}, counted, raised live; the neighbour has as many as it likes`, async () => {
    const { pid } = await veld.show('web');
    const before = await row('web', what);
    const text = (limit: number): string | number => (property === 'pids.limit' ? limit : `${limit}:${limit}`);
    const low = before.held + 20;
    await set('web', { [property]: text(low) });
    assert.deepEqual(await row('web', what).then(({ barrier, limit }) => [barrier, limit]), [low, low]);
    const [first, neighbour] = await Promise.all([fill('web', what), fill('next', what)]);
    assert.deepEqual([first.errno, neighbour.errno, neighbour.got], [errno, 'none', MOST]);
    // Commands from outside are processes, too.
    assert.ok(first.got <= 20 && first.got >= 8, `${first.got} of 20`);
    const after = await row('web', what);
    if (after.kept.includes('failcnt')) assert.ok(after.failcnt > before.failcnt, `failcnt ${after.failcnt}`);
    else assert.equal(what, 'numpty');
    if (after.kept.includes('maxheld')) assert.ok(after.maxheld >= low - 1, `maxheld ${after.maxheld}`);
    assert.equal((await row('next', what)).failcnt, 0);

    await set('web', { [property]: text(before.held + 200) });
    const second = await fill('web', what);
    assert.deepEqual([second.errno, second.got], ['none', MOST]);
    assert.equal((await row('web', what)).failcnt, after.failcnt);
    await set('web', { [property]: null });
    assert.equal((await row('web', what)).limit, property === 'pids.limit' ? 4096 : null);
    assert.equal((await veld.show('web')).pid, pid, 'without a restart');
  });
}

test('numfile and numflock are held here, or refused with the reason, which doctor and the row tell', async (t) => {
  const { checks } = await veld.api.call<{ checks: DoctorCheck[] }>('GET', '/v1/doctor');
  for (const [what, counted] of [['numfile', null], ['numflock', 'lines of /proc/locks']] as const) {
    const { message } = checks.find(({ id }) => id === `resources.ubc.${what}`) ?? {};
    const now = await row('web', what);
    t.diagnostic(`${what}: ${message ?? 'held'}`);
    if (message === undefined) {
      assert.ok(now.enforced !== null && now.held >= 0);
      continue;
    }
    assert.deepEqual([now.enforced, now.limit, now.counted], [null, null, counted]);
    const reason = /held: (.*)\.$/.exec(message)![1]!;
    assert.ok(now.note!.includes(reason), now.note!);
    for (const refused of [set('web', { [`ubc.${what}`]: '500:500' }), veld.api.operate('POST', '/v1/ves', { name: 'refused', template: 'test', properties: { [`ubc.${what}`]: '500:500' } })]) {
      await assert.rejects(refused, (error: Error) => error.message.includes('property.unsupported') && error.message.includes(reason));
    }
  }
  assert.equal((await veld.api.raw('GET', '/v1/ves/refused')).status, 404);
});

test('numpty that was set when the VE was made holds from its boot', async () => {
  await set('web', { 'ubc.numpty': '6' });
  await veld.api.operate('POST', '/v1/ves/web/restart', {});
  await veld.booted('web');
  const { held, limit } = await row('web', 'numpty');
  assert.equal(limit, 6);
  assert.deepEqual(await fill('web', 'numpty'), { got: 6 - held, errno: 'ENOSPC' });
});

test('physpages: a process that wants more than there is is ended, and counted; raised live it passes', async () => {
  const hog = (): Promise<{ exitCode: number; stdout: string }> => veld.exec('web', 'perl', '-e', 'my $x = "y" x (150 << 20); print length $x');
  await set('web', { 'memory.limit': '120M', 'memory.swap': '0' });
  const before = await row('web', 'physpages');
  assert.equal(before.limit, (120 << 20) / 4096);
  const other = veld.exec('next', 'perl', '-e', 'my $x = "y" x (150 << 20); print length $x');
  assert.equal((await hog()).exitCode, 137);
  assert.equal((await other).stdout, String(150 << 20));
  const after = await row('web', 'physpages');
  assert.ok(after.failcnt > before.failcnt, JSON.stringify(after));
  assert.ok((await row('web', 'oomguarpages')).failcnt > 0);
  assert.ok(after.maxheld <= after.limit! && after.maxheld > 0.9 * after.limit!, JSON.stringify(after));
  assert.equal((await row('next', 'physpages')).failcnt, 0);
  await set('web', { 'memory.limit': '400M' });
  assert.equal((await hog()).stdout, String(150 << 20));
  await set('web', { 'memory.limit': null, 'memory.swap': null });
});

/** Listens, has some sockets besides, and answers each connection with a line; on USR1 it closes those. */
const SERVER = 'use Socket; my @a; for (1..6) { socket(my $s, PF_INET, SOCK_STREAM, 0) or die; push @a, $s } socket(my $l, PF_INET, SOCK_STREAM, 0); setsockopt($l, SOL_SOCKET, SO_REUSEADDR, 1);'
  + ' bind($l, sockaddr_in(7777, INADDR_ANY)) or die; listen($l, 20); $SIG{USR1} = sub { splice @a, 6 }; while (1) { accept(my $c, $l) or next; syswrite($c, "hello\\n"); push @a, $c }';

function client(address: string): { socket: ReturnType<typeof connect>; said: () => string } {
  let said = '';
  const socket = connect({ host: address, port: 7777 }).on('error', () => {}).on('data', (chunk) => { said += chunk.toString(); });
  return { socket, said: () => said };
}

test('a connection that comes in over the limit waits, those that are there go on, and raised it comes in', async (t) => {
  await veld.exec('web', 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
  const { held } = await until('the server', async () => {
    const now = await row('web', 'numtcpsock');
    return now.held >= 7 ? now : undefined;
  });
  const address = (await veld.show('web')).addresses.find((one) => one.includes('.'))!;
  await set('web', { 'ubc.numtcpsock': held + 1 });
  const first = client(address);
  t.after(() => first.socket.destroy());
  await until('the first', () => first.said() === 'hello\n');
  const { failcnt } = await row('web', 'numtcpsock');
  const second = client(address);
  t.after(() => second.socket.destroy());
  await until('a refusal', async () => (await row('web', 'numtcpsock')).failcnt > failcnt);
  await sleep(500);
  assert.equal(second.said(), '');
  assert.equal((await row('web', 'numtcpsock')).held, held + 1);
  await set('web', { 'ubc.numtcpsock': held + 5 });
  await until('the second', () => second.said() === 'hello\n', 60_000);
  for (const { socket } of [first, second]) socket.destroy();
  await veld.exec('web', 'systemctl', 'kill', '-s', 'USR1', '--kill-whom=main', 'server');
  await until('both to be over', async () => (await row('web', 'numtcpsock')).held <= held);
});

test('suspended and resumed: what is held is right, more than the limit comes back, peak and failcnt are kept, and the limit holds', async () => {
  const before = await row('web', 'numtcpsock');
  const procs = await row('web', 'numproc');
  assert.ok(before.failcnt > 0 && before.held >= 8);
  await veld.api.operate('POST', '/v1/ves/web/suspend', {});
  await set('web', { 'ubc.numtcpsock': before.held - 3 });
  await veld.api.operate('POST', '/v1/ves/web/resume', {});
  const after = await until('the sockets', async () => {
    const now = await row('web', 'numtcpsock');
    return now.held <= before.held ? now : undefined;
  });
  // Connections of this test may have ended meanwhile.
  assert.ok(after.held >= before.held - 2, `${after.held} of ${before.held}`);
  assert.deepEqual([after.maxheld, after.failcnt, after.limit], [before.maxheld, before.failcnt, before.held - 3]);
  const procsAfter = await row('web', 'numproc');
  assert.ok(procsAfter.failcnt >= procs.failcnt && procsAfter.maxheld >= procs.maxheld, JSON.stringify([procs, procsAfter]));
  assert.deepEqual(await fill('web', 'numtcpsock'), { got: 0, errno: 'ENOBUFS' });
  assert.equal((await row('web', 'numpty')).limit, 6);
  await set('web', { 'ubc.numtcpsock': before.held + 5 });
  assert.equal((await fill('web', 'numtcpsock')).errno, 'ENOBUFS');
});

test('a daemon that is killed leaves counters and limits as they are, and the next one knows them', async () => {
  const before = await row('web', 'numtcpsock');
  await veld.kill9();
  await veld.start();
  assert.deepEqual(await row('web', 'numtcpsock'), before);
  assert.equal((await fill('web', 'numtcpsock')).errno, 'ENOBUFS');
  assert.equal((await row('web', 'numtcpsock')).failcnt, before.failcnt + 1);
  await set('web', { 'ubc.numtcpsock': null });
  assert.equal((await fill('web', 'numtcpsock')).errno, 'none');
});

test('nothing is left at groups, pinned or mounted, when VEs are gone, also when the daemon was killed', async () => {
  const group = groupOf((await veld.show('web')).number);
  const attached = JSON.parse(spawnSync('bpftool', ['-j', 'cgroup', 'show', group], { encoding: 'utf8' }).stdout) as { id: number; name: string }[];
  assert.deepEqual(attached.map(({ name }) => name).sort(), ['veld_connections', 'veld_create', 'veld_release']);
  // (Connections that are cut off the kernel closes by itself, which takes it minutes, and their sockets hold the programs meanwhile: there are none.)
  await veld.api.operate('DELETE', '/v1/ves/next?force=true', {});
  await veld.api.operate('DELETE', '/v1/ves/web?force=true', {});
  await veld.kill9();
  const programs = (): { id: number }[] => JSON.parse(spawnSync('bpftool', ['-j', 'prog', 'show'], { encoding: 'utf8' }).stdout) as { id: number }[];
  // The kernel frees them a moment later.
  await until('the programs to be gone', () => !programs().some(({ id }) => attached.some((one) => one.id === id)), 60_000, 200);
  assert.doesNotMatch(readFileSync('/proc/self/mounts', 'utf8'), new RegExp(`${veld.settings.runDir}/bpf`));
  await veld.start();
});
