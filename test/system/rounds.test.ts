/**
 * Suspend and resume, again and again on one VE under load, and of many VEs at once. 100 rounds and 20 VEs in `./check full`, a few of each otherwise.
 *
 * Each client keeps one connection and sends numbers; the server answers each with how many it has had on that connection and how much it has kept, so
 * that a lost or doubled request, or a process that began anew, is found out. Times are told, not judged: the machine has other things to do.
 */
import assert from 'node:assert/strict';
import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import { talk, untilText, type Line } from './workloads/clients/talk.ts';

const FULL = process.env.VELD_TEST_FULL !== undefined;
const ROUNDS = FULL ? 100 : 8;
const VES = FULL ? 20 : 4;
const CLIENTS = 4;

const veld = await fileInstance();
const empty = veld.traces();

/** Serves each client by a process of its own; a ring of 8 MiB is written over all the time, and so is a file. */
const SERVER = 'use IO::Socket::IP; $SIG{CHLD} = "IGNORE"; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@; '
  + 'while (my $c = $s->accept) { next if fork; $c->autoflush(1); my ($n, $sum, @ring) = (0, 0, map { "x" x 4096 } 1 .. 512); open my $f, "+>", "/root/ring." . int(rand 1e9); '
  + 'while (my $line = <$c>) { chomp $line; $n++; $sum += $line; $ring[$n % 512] = "$line " x 500; seek $f, ($n % 64) * 4096, 0; print $f "$line\\n"; print $c "$n $sum\\n" } exit }';

const operate = (verb: string, ve: string) => veld.api.operate('POST', `/v1/ves/${ve}/${verb}`);

async function serve(ve: string): Promise<void> {
  const { exitCode, stderr } = await veld.exec(ve, 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
  assert.equal(exitCode, 0, stderr);
}

/** @param clients that ask @param pause between their questions, in milliseconds */
async function load(ve: string, clients: number, pause: number): ReturnType<typeof talk> {
  const host = (await veld.show(ve)).addresses[0]!;
  const kept = Array.from({ length: clients }, () => 0);
  const ask = async (line: Line, n: number, client: number): Promise<void> => {
    const number = (n * 7919) % 1000;
    kept[client]! += number;
    line.send(`${number}\n`);
    assert.equal(await line.receive(untilText('\n')), `${n} ${kept[client]}`);
  };
  return until(`${ve} to serve`, () => talk({ host, port: 7000, clients, pause, ask }).catch(() => undefined), 20_000);
}

const bytes = (folder: string): number => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).blocks * 512, 0);
const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1]!;

test(`${ROUNDS} rounds on one VE under load: no request is lost or doubled, and its state does not grow`, async (t) => {
  await veld.createRunning('web');
  assert.equal(await veld.booted('web'), 'running');
  await serve('web');
  const { uuid } = await veld.show('web');
  let clients = await load('web', CLIENTS, 5);
  const [times, sizes]: [number[], number[]] = [[], []];
  let answers = 0;
  for (let round = 1; round <= ROUNDS; round++) {
    const began = performance.now();
    await operate('suspend', 'web');
    sizes.push(bytes(join(veld.settings.stateDir, 'states', uuid, 'images')));
    if (round === Math.ceil(ROUNDS * 0.3)) await veld.restart();
    if (round === Math.ceil(ROUNDS * 0.5)) writeFileSync('/proc/sys/vm/drop_caches', '2'); // names of files are forgotten
    await operate('resume', 'web');
    times.push(performance.now() - began);
    await clients.answered();
    assert.deepEqual(clients.problems(), [], `round ${round}`);
    if (round === Math.ceil(ROUNDS * 0.7)) {
      // A reboot inside ends the connections, and nothing else.
      answers += (await clients.stop()).answers;
      const { pid } = await veld.show('web');
      await veld.exec('web', 'systemctl', 'reboot');
      await until('another init', async () => { const now = await veld.show('web'); return now.status === 'running' && now.pid !== pid; }, 60_000);
      assert.equal(await veld.booted('web'), 'running');
      await serve('web');
      clients = await load('web', CLIENTS, 5);
    }
  }
  const report = await clients.stop();
  assert.deepEqual(report.problems, []);
  assert.equal((await veld.exec('web', 'systemctl', 'is-system-running')).stdout.trim(), 'running');
  const [early, late] = [sizes.slice(2, 7), sizes.slice(-5)].map(median) as [number, number];
  assert.ok(late <= early * 1.2, `images of ${late} bytes at the end, ${early} at the beginning`);
  t.diagnostic(`| ${ROUNDS} rounds | ${answers + report.answers} answers; suspend + resume ${median(times.slice(2, 7)).toFixed(0)} ms at the beginning, ${median(times.slice(-5)).toFixed(0)} ms at the end; `
    + `images ${(early / 1e6).toFixed(1)} MB, then ${(late / 1e6).toFixed(1)} MB; longest gap ${report.longestGap.toFixed(0)} ms |`);
  await veld.api.operate('DELETE', '/v1/ves/web?force=true');
});

test(`${VES} VEs at once, each with a client`, async (t) => {
  const names = Array.from({ length: VES }, (_, i) => `ve${i}`);
  await Promise.all(names.map((ve) => veld.createRunning(ve)));
  for (const ve of names) {
    assert.equal(await veld.booted(ve), 'running');
    await serve(ve);
  }
  const clients = await Promise.all(names.map((ve) => load(ve, 1, 50)));
  for (let round = 1; round <= 3; round++) {
    const began = performance.now();
    await Promise.all(names.map((ve) => operate('suspend', ve)));
    const between = performance.now();
    assert.ok((await veld.list()).every(({ status }) => status === 'suspended'));
    await Promise.all(names.map((ve) => operate('resume', ve)));
    t.diagnostic(`| ${VES} VEs at once, round ${round} | all suspended after ${(between - began).toFixed(0)} ms, all back after ${(performance.now() - between).toFixed(0)} ms |`);
    for (const [i, client] of clients.entries()) {
      await client.answered();
      assert.deepEqual(client.problems(), [], names[i]);
    }
  }
  for (const client of clients) assert.deepEqual((await client.stop()).problems, []);
  for (const ve of names) assert.equal((await veld.exec(ve, 'systemctl', 'is-system-running')).stdout.trim(), 'running', ve);
  await Promise.all(names.map((ve) => veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`)));
  assertSame(veld.traces(), empty, 'traces');
});
