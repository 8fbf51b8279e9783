/** Live snapshots that have of memory only what has changed since the one before: a kernel that notes that is needed, as those of Debian are. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PATIENCE } from './host.ts';
import type { Host } from './host.ts';

/** MiB that a process of the VE holds, and that it changes when it is told to. */
const HELD = 96, CHANGED = 4;

/** On USR1 the second half of a few MiB changes; on USR2 the sum of all of it is written down, with how often it has changed. */
const HOLDER = `open $r, '<', '/dev/urandom'; read $r, $b, 1 << 20; $m = $b x ${HELD}; $n = 0;
$SIG{USR1} = sub { $n++; for my $i (0 .. ${CHANGED} - 1) { read $r, $b, 1 << 19; substr($m, $i << 21, 1 << 19) = $b } };
$SIG{USR2} = sub { open $f, '>', '/run/sum.new'; print $f $n, ' ', unpack('%64Q*', $m), "\n"; close $f; rename '/run/sum.new', '/run/sum' };
open $f, '>', '/run/held'; close $f; while (1) { sleep 1 }`;

/** On USR1 it makes a child with the number that /run/target tells; that has the memory of its parent, and writes the sum of it down on USR2. */
const HEIR = `use POSIX (); $m = 'heir' x (1 << 20); $SIG{USR1} = sub { open $f, '<', '/run/target'; $t = <$f> + 0; for (1 .. 60) { $p = fork; if (!$p) { if (POSIX::getpid() == $t) {
$SIG{USR2} = sub { open $g, '>', '/run/heir'; print $g unpack('%64Q*', $m); close $g }; sleep 1 while 1 } exit 0 } last if $p == $t; waitpid $p, 0 } };
open $f, '>', '/run/ready'; close $f; while (1) { sleep 1 }`;

/** How often a snapshot is taken again whose dump criu had to try twice. */
const TRIES = 2;

export function memoryTests(host: Host): void {
  const { machine } = host;
  const ve = 'holder';
  const sums: Record<string, string> = {};

  const signal = (name: string): Promise<unknown> => host.exec(ve, 'systemctl', 'kill', '-s', name, '--kill-whom=main', 'holder');
  const sum = async (): Promise<string> => {
    await host.exec(ve, 'rm', '-f', '/run/sum');
    await signal('USR2');
    return until('the sum', async () => (await host.exec(ve, 'cat', '/run/sum')).stdout.trim() || undefined, PATIENCE, 250);
  };
  /** Names of the snapshots, by what they are called here. */
  const names: Record<string, string> = {};
  /** @returns MiB of memory that it has by itself, and on how many it stands */
  const take = async (name: string): Promise<{ own: number; parents: number }> => {
    await host.api.operate('POST', `/v1/ves/${ve}/snapshots`, { name, live: true });
    const { id } = (await host.api.call<{ id: string; name: string }[]>('GET', `/v1/ves/${ve}/snapshots`)).find((one) => one.name === name)!;
    const images = `/var/lib/veld/snapshots/${id}/images`;
    const bytes = await machine.ask(`find ${images} -maxdepth 1 -name 'pages-*.img' -printf '%s\n'`);
    const parents = await machine.ask(`find ${images} -name parent | wc -l`);
    return { own: bytes.split('\n').reduce((all, one) => all + Number(one), 0) / 2 ** 20, parents: Number(parents) };
  };
  /** The same of one that stands on another. A dump that criu had to try again has all of the memory: the next one stands on it. */
  const keep = async (word: string, on: boolean): Promise<{ own: number; parents: number }> => {
    for (let tries = 0; ; tries++) {
      names[word] = tries === 0 ? word : `${word}${tries}`;
      const kept = await take(names[word]);
      if (!on || kept.parents > 0 || tries === TRIES) return kept;
    }
  };
  const back = (word: string): Promise<unknown> => host.api.operate('POST', `/v1/ves/${ve}/snapshots/${names[word]}/restore`);

  test('a live snapshot after another has of memory only what has changed, and each is whole by itself', async (t) => {
    await host.create(ve);
    await host.booted(ve);
    assert.equal((await host.exec(ve, 'systemd-run', '--quiet', '--unit=holder', 'perl', '-e', HOLDER)).exitCode, 0);
    await until('it to hold its memory', async () => (await host.exec(ve, 'test', '-e', '/run/held')).exitCode === 0, PATIENCE, 500);
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
      if (i > 0) await signal('USR1');
      sums[name] = await sum();
      const { own, parents } = await keep(name, i > 0);
      t.diagnostic(`${name}: ${own.toFixed(1)} MiB of its own, on ${parents} others; the sum ${sums[name]}`);
      if (i > 0) assert.ok(parents > 0);
      if (i === 0) assert.ok(own > HELD, `the first has ${own} MiB`);
      else assert.ok(own < HELD / 2, `it has ${own} MiB, as if it stood on none`);
      assert.equal(await sum(), sums[name], 'it goes on with what it had');
    }
    await signal('USR1');
    await back('b');
    assert.equal(await sum(), sums.b);
    // The next one stands on the one that was brought back.
    const { own, parents } = await keep('d', true);
    t.diagnostic(`d: ${own.toFixed(1)} MiB of its own, on ${parents} others`);
    assert.ok(parents > 0);
    assert.ok(own < HELD / 2);
    for (const word of ['a', 'b']) await host.api.operate('DELETE', `/v1/ves/${ve}/snapshots/${names[word]}`);
    await back('c');
    assert.equal(await sum(), sums.c, 'without those on which it stood');
    await back('d');
    assert.equal(await sum(), sums.b, 'nor this one');
    await host.api.operate('POST', `/v1/ves/${ve}/clone`, { name: 'held', live: true });
    assert.equal(await host.said('held', 'systemctl', 'is-active', 'holder'), 'active');
    await host.destroy('held');
  });

  test('a process that is there only since then is kept as a whole, also when it has the number of one that has gone', async (t) => {
    assert.equal((await host.exec(ve, 'systemd-run', '--quiet', '--unit=heir', 'perl', '-e', HEIR)).exitCode, 0);
    await until('the heir', async () => (await host.exec(ve, 'test', '-e', '/run/ready')).exitCode === 0, PATIENCE, 500);
    await keep('e', false);
    const number = Number(await host.said(ve, 'systemctl', 'show', '-p', 'MainPID', '--value', 'holder'));
    await host.exec(ve, 'sh', '-c', `systemctl stop holder; echo ${number} >/run/target`);
    // Numbers of processes go on just before that one.
    const { pid } = await host.show(ve);
    const born = async (): Promise<boolean> => {
      await machine.ask(`nsenter --user=/proc/${pid}/ns/user --pid=/proc/${pid}/ns/pid sh -c 'echo ${number - 20} >/proc/sys/kernel/ns_last_pid'`);
      await host.exec(ve, 'systemctl', 'kill', '-s', 'USR1', '--kill-whom=main', 'heir');
      return (await host.exec(ve, 'sh', '-c', `sleep 2; grep -qs perl /proc/${number}/comm`)).exitCode === 0;
    };
    assert.ok(await until('a process with that number', born, PATIENCE, 100));
    const said = async (): Promise<string> => {
      await host.exec(ve, 'sh', '-c', `rm -f /run/heir; kill -USR2 ${number}`);
      return until('the heir to speak', async () => (await host.exec(ve, 'cat', '/run/heir')).stdout || undefined, PATIENCE, 250);
    };
    const before = await said();
    const { own, parents } = await keep('f', true);
    t.diagnostic(`${own.toFixed(1)} MiB of its own, on ${parents} others`);
    assert.ok(parents > 0);
    await back('f');
    assert.equal(await said(), before);
    await host.destroy(ve);
  });
}
