/** Live snapshots for which a VE stands and is not taken away: what it has stays its own whatever happens, and what was kept is of one instant. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { createSocket } from 'node:dgram';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, test } from 'node:test';
import type { SnapshotRecord } from '../../src/store/types.ts';
import { criuAtWork } from '../lib/criu.ts';
import { fileInstance } from '../lib/instance.ts';
import { SEED, randomFrom } from '../lib/random.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import { openLine, untilText, type Line } from './workloads/clients/talk.ts';

const veld = await fileInstance();
const random = randomFrom(SEED);

/** Answers each line with how many there were. */
const SERVER = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@; my $c = $s->accept; my $n = 0; while (sysread $c, my $line, 100) { $n++; syswrite $c, "$n\\n" }';
/** Has a datagram that it does not read before it is told to, and a file whose name is gone while another name of it is there. */
const HOLDER = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7001, Proto => "udp", V6Only => 0) or die $@; open my $f, "+>", "/root/first" or die; syswrite $f, "kept"; link "/root/first", "/root/second" or die; unlink "/root/first";'
  + '$SIG{USR1} = sub { $s->blocking(0); my $b; my $got = defined $s->recv($b, 99) ? $b : "nothing"; sysseek $f, 0, 0; sysread $f, my $text, 99; open my $o, ">", "/run/told"; print $o "$got $text ", (stat $f)[3]; close $o }; open my $r, ">", "/run/ready"; sleep 1 while 1';

/** Counts in its memory and in a file, always in that order, and says when the two were not the same. */
const COUNTER = 'my $n = 0; my $b; open my $f, "+>", "/root/counter" or die; while (1) { $n++; my $text = sprintf "%09d", $n; sysseek $f, 0, 0; syswrite $f, $text; select undef, undef, undef, 0.0005; sysseek $f, 0, 0; sysread $f, $b, 9; next if $b eq $text; open my $o, ">>", "/run/differs"; print $o "$text $b\n"; close $o }';

let line: Line;
let asked = 0;
after(() => line?.end());
let pid: number | null;
let running: string[];

const said = async (ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const ask = async (): Promise<void> => {
  line.send('a\n');
  asked += 1;
  assert.equal(await line.receive(untilText('\n')), String(asked));
};
const snapshot = (name: string): Promise<unknown> => veld.api.operate('POST', '/v1/ves/web/snapshots', { name, live: true });
const list = (): Promise<SnapshotRecord[]> => veld.api.call<SnapshotRecord[]>('GET', '/v1/ves/web/snapshots');
/** What there is on the disk of snapshots, and of layers. */
const kept = (): string[] => ['layers', 'snapshots', 'states'].flatMap((folder) => {
  const path = join(veld.settings.stateDir, folder);
  return existsSync(path) ? readdirSync(path).filter((name) => !name.startsWith('.trash')).map((name) => `${folder}/${name}`) : [];
});
const told = (): Promise<string> => said('web', 'rm -f /run/told; systemctl kill -s USR1 --kill-whom=main holder; for i in $(seq 200); do [ -s /run/told ] && break; sleep 0.05; done; cat /run/told');

test('it stays the same VE, with the same connections, and loses nothing', async () => {
  await veld.createRunning('web');
  assert.equal(await veld.booted('web'), 'running');
  for (const [unit, program] of [['server', SERVER], ['holder', HOLDER]] as const) assert.equal((await veld.exec('web', 'systemd-run', '--quiet', `--unit=${unit}`, 'perl', '-e', program)).exitCode, 0);
  const { addresses, pid: init } = await veld.show('web');
  pid = init;
  line = await until('the server', () => openLine(addresses[0]!, 7000).catch(() => undefined));
  await said('web', 'for i in $(seq 200); do [ -e /run/ready ] && exit; sleep 0.05; done; exit 1');
  const socket = createSocket('udp4');
  await new Promise((done) => { socket.send('unread', 7001, addresses[0], done); });
  socket.close();
  await sleep(200);
  await ask();
  running = [...veld.outline(), ...kept()];
  await snapshot('one');
  assert.equal((await veld.show('web')).pid, pid);
  await ask();
  assert.equal(await told(), 'unread kept 1', 'what it had received and not read, and its file');
  assert.equal(await said('web', 'ls /root; cat /root/second'), 'second\nkept', 'nothing that criu had made');
  assert.equal(await said('web', 'systemctl is-system-running'), 'running');
  assert.deepEqual((await list()).map(({ name, layers }) => [name, layers.length]), [['one', 2]]);
});

/** Pid of the criu that works on this instance, once there is one. */
const findCriu = (): Promise<number> => criuAtWork(veld.name);

test('criu is killed while the disk is copied: it runs on as before, and nothing is left', async (t) => {
  // (Earlier it may have a process run what is criu's own, and that nobody survives: see checkpoint-faults.test.ts.)
  const layers = join(veld.settings.stateDir, 'layers');
  let hits = 0;
  for (let i = 0; i < 6; i++) {
    const before = new Set(readdirSync(layers));
    const ended = snapshot('never').then(() => true, () => false);
    const criu = await findCriu();
    await until('the copy', () => readdirSync(layers).some((name) => !before.has(name) && existsSync(join(layers, name, 'fs'))), 60_000, 1);
    await sleep(Math.floor(random() * 15));
    try {
      process.kill(criu, 'SIGKILL');
    } catch { /* it was quicker */ }
    const done = await ended;
    if (done) await veld.api.operate('DELETE', '/v1/ves/web/snapshots/never');
    else hits += 1;
    assert.equal((await veld.exec('web', 'systemd-run', '--quiet', '--collect', '--wait', 'true')).exitCode, 0);
    assert.equal((await veld.show('web')).pid, pid);
    await ask();
  }
  t.diagnostic(`in the middle ${hits} times of 6`);
  assert.ok(hits > 0, 'never in the middle');
});

test('the daemon is killed when it has been written: it runs on, and nothing is left of what was not finished', async () => {
  await veld.api.operate('DELETE', '/v1/ves/web/snapshots/one');
  assertSame([...veld.outline(), ...kept()], running, 'traces');
  for (const point of ['snapshot.state', 'copy.kept']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await assert.rejects(snapshot('unfinished'), point);
    await veld.restart();
    assert.equal((await veld.show('web')).pid, pid, point);
    assert.deepEqual(await list(), [], point);
    await until(`what ${point} left to be gone`, () => kept().length === running.filter((name) => /^(layers|snapshots|states)\//.test(name)).length);
  }
  assertSame([...veld.outline(), ...kept()], running, 'traces');
  // In the middle of the dump: nobody waits for it any more.
  for (const delay of [0, 100, 250]) {
    const ended = snapshot('unfinished').then(() => true, () => false);
    await findCriu();
    await sleep(delay);
    await veld.kill9();
    await veld.start();
    const done = await ended;
    assert.equal((await veld.show('web')).pid, pid, `killed after ${delay} ms`);
    await ask();
    for (const { name } of await list()) await veld.api.operate('DELETE', `/v1/ves/web/snapshots/${name}`);
    await until(`what was left after ${delay} ms to be gone`, () => done || kept().length === running.filter((name) => /^(layers|snapshots|states)\//.test(name)).length);
    assert.equal(await said('web', 'ls /root'), 'second');
  }
  await veld.restart({ VELD_FAULT: 'fail:copy.kept' });
  await assert.rejects(snapshot('failed'), /injected/);
  assertSame([...veld.outline(), ...kept()], running, 'traces of one that failed');
  await veld.restart();
});

test('what was kept is of one instant, and a file whose name was gone is there', async () => {
  await said('web', 'echo before >/root/file; mkdir /root/folder; setfattr -n user.mark -v here /root/folder 2>/dev/null; rm -r /usr/share/doc; mkdir /usr/share/doc; ln /root/file /root/same');
  assert.equal((await veld.exec('web', 'systemd-run', '--quiet', '--unit=counter', 'perl', '-e', COUNTER)).exitCode, 0);
  await sleep(500);
  await snapshot('two');
  await said('web', 'echo after >/root/file; rm -r /root/folder; echo more >>/root/second');
  const later = await said('web', 'cat /root/counter');
  await veld.api.operate('POST', '/v1/ves/web/snapshots/two/restore');
  assert.equal(await said('web', 'cat /run/differs 2>/dev/null; systemctl is-active counter'), 'active');
  assert.ok(Number(await said('web', 'systemctl stop counter; cat /root/counter')) > 0 && Number(later) > 0);
  assert.equal(await said('web', 'cat /root/file; ls -d /root/folder; ls /usr/share/doc | wc -l; stat -c %h /root/file; cat /root/second'), 'before\n/root/folder\n0\n2\nkept');
  // (A file with several names becomes several when it is written to above a layer, as in any VE.)
  assert.match(await told(), /^nothing kept [01]$/);
  assert.equal(await said('web', 'systemctl is-system-running'), 'running');
});

test('one whose disk cannot be copied so quickly is taken away, and comes back: names too many, or too long together', async () => {
  const before = (await veld.show('web')).pid;
  await said('web', 'mkdir /root/many && cd /root/many && seq 5000 | xargs touch');
  await snapshot('many');
  const many = (await veld.show('web')).pid;
  assert.notEqual(many, before);
  assert.equal(await said('web', 'ls /root/many | wc -l'), '5000');
  // Its upper is a new one now.
  await said('web', `perl -e 'my $n = "d" x 200; for (1 .. 40) { mkdir $n or die; chdir $n or die } open my $f, ">", "deep" or die'`);
  await snapshot('deep');
  assert.notEqual((await veld.show('web')).pid, many);
  assert.match(veld.daemonLog(), /could not be copied while it stands/);
  await veld.api.operate('POST', '/v1/ves/web/snapshots/two/restore');
  assert.equal(await said('web', 'test ! -e /root/many; cat /root/file'), 'before');
  await veld.api.operate('DELETE', '/v1/ves/web?force=true');
});
