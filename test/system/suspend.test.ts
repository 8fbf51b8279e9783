/** Suspend and resume: the processes of a VE go to the disk and come back, and nobody who talks to them notices more than a pause. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { openSession } from '../lib/session.ts';
import { askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';
import { stateHasDroppable } from '../../src/checkpoint/droppable.ts';
import { hasDroppable, MAP_DROPPABLE } from '../../src/kernel/droppable.ts';
import { namespaceOwner } from '../../src/kernel/namespace-owner.ts';
import type { Obstacle } from '../../src/checkpoint/types.ts';

const veld = await fileInstance();

const suspend = (ve: string) => veld.api.operate('POST', `/v1/ves/${ve}/suspend`);
const resume = (ve: string) => veld.api.operate('POST', `/v1/ves/${ve}/resume`);
const said = async (ve: string, ...command: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, ...command);
  assert.equal(exitCode, 0, `${command.join(' ')}: ${stderr}`);
  return stdout.trim();
};
const states = (): string[] => (existsSync(join(veld.settings.stateDir, 'states')) ? readdirSync(join(veld.settings.stateDir, 'states')) : []);

/** A server that answers each line with the number of lines so far and the line: whoever forgets, or is not the same process, is found out. */
async function serveCount(ve: string, port: number): Promise<void> {
  const program = `use IO::Socket::IP; $| = 1; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => ${port}, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@;
    while (my $c = $s->accept) { next if fork; my $n = 0; $c->autoflush(1); while (<$c>) { $n++; print $c "$n $_" } exit }`;
  await said(ve, 'systemd-run', '--quiet', `--unit=count-${port}`, 'perl', '-e', program);
}

/** A client of it that stays connected. */
async function client(address: string, port: number): Promise<{ ask(line: string): Promise<string>; socket: Socket }> {
  await askableAt(address, port);
  const socket = connect(port, address);
  let text = '';
  socket.setEncoding('utf8');
  socket.on('data', (chunk: string) => { text += chunk; });
  return {
    socket,
    async ask(line) {
      socket.write(`${line}\n`);
      const answer = await until(`an answer to ${line}`, () => (text.endsWith('\n') ? text.trim().split('\n').at(-1) : undefined), 20_000, 5);
      text = '';
      return answer;
    },
  };
}

function askableAt(address: string, port: number): Promise<boolean> {
  return until(`${address} port ${port} to take connections`, () => new Promise<boolean>((done) => {
    const probe = connect({ host: address, port, timeout: 1000 });
    probe.on('connect', () => { probe.destroy(); done(true); });
    probe.on('error', () => done(false));
    probe.on('timeout', () => { probe.destroy(); done(false); });
  }), 20_000, 20);
}

describe('a VE with systemd', () => {
  let four: Awaited<ReturnType<typeof client>>;
  let six: Awaited<ReturnType<typeof client>>;
  let empty: string[];
  /** How long it had been up, as it sees it, and when that was asked: seconds. */
  let up: { seconds: number; at: number };
  const uptime = async (): Promise<typeof up> => ({ seconds: Number((await said('web', 'cat', '/proc/uptime')).split(' ')[0]), at: performance.now() / 1000 });

  test('is suspended: nothing of it runs, and nothing of it is on the host but its files', async () => {
    empty = veld.traces();
    const ve = await veld.createRunning('web', { 'memory.limit': '512M' });
    await veld.booted('web');
    await serveCount('web', 7000);
    four = await client(ve.addresses.find((address) => address.includes('.'))!, 7000);
    six = await client(ve.addresses.find((address) => address.includes(':'))!, 7000);
    assert.equal(await four.ask('a'), '1 a');
    assert.equal(await six.ask('a'), '1 a');
    await said('web', 'sh', '-c', 'mkdir -p /run/kept && echo in memory >/run/kept/file && hostname changed-by-hand');
    assert.deepEqual(await veld.api.call('GET', '/v1/ves/web/obstacles'), []);
    up = await uptime();
    const result = await veld.cli('suspend', 'web');
    assert.equal(result.code, 0, result.stderr);
    assert.equal(result.stdout, 'web suspended\n');
    const view = await veld.show('web');
    assert.equal(view.status, 'suspended');
    assert.ok(Date.parse(view.suspendedAt!) > Date.now() - 60_000);
    assertSame(veld.traces(), empty, 'traces of a suspended VE');
  });

  test('says why it cannot be started or used meanwhile', async () => {
    for (const [args, code, words] of [
      [['start', 'web'], 35, /a boot would lose what it was doing/], [['exec', 'web', 'true'], 8, /web is suspended/], [['suspend', 'web'], 35, /suspended already/],
      [['checkpoint', '--check', 'web'], 35, /suspended already/],
    ] as const) {
      const result = await veld.cli(...args);
      assert.equal(result.code, code, args.join(' '));
      assert.match(result.stderr, words);
    }
  });

  test('stays so over a new daemon', async () => {
    await veld.kill9();
    await veld.start();
    assert.equal((await veld.show('web')).status, 'suspended');
    assert.equal(states().length, 1);
  });

  test('is resumed: the same processes go on, connections and all', async () => {
    const result = await veld.cli('resume', 'web');
    assert.equal(result.code, 0, result.stderr);
    assert.equal((await veld.show('web')).status, 'running');
    assert.equal(await four.ask('b'), '2 b');
    assert.equal(await six.ask('b'), '2 b');
    assert.equal(await said('web', 'cat', '/run/kept/file'), 'in memory');
    assert.equal(await said('web', 'hostname'), 'changed-by-hand');
    assert.equal(await said('web', 'systemctl', 'is-system-running'), 'running');
    assert.deepEqual(states(), []);
  });

  test('counts for itself: its user namespace belongs to its own root, as when it was booted', async () => {
    const { pid, uidBase } = await veld.show('web');
    assert.equal(namespaceOwner(pid as number), uidBase);
  });

  test('has been up for as long as it ran', async () => {
    const now = await uptime();
    const passed = now.at - up.at;
    assert.ok(up.seconds > 0 && up.seconds < 60, `${up.seconds} s, when it had just booted`);
    assert.ok(now.seconds > up.seconds && now.seconds - up.seconds <= passed + 0.02, `${now.seconds} s, ${passed} s after ${up.seconds} s`);
    const { startedAt } = await veld.show('web');
    const seen = (Date.now() - Date.parse(startedAt!)) / 1000;
    assert.ok(Math.abs(seen - (await uptime()).seconds) < 1.1, `${seen} s from outside, ${now.seconds} s inside`);
  });

  test('has its console again', async () => {
    await said('web', 'sh', '-c', 'echo a word on the console >/dev/console');
    await until('the word in the log', async () => (await veld.cli('logs', 'web')).stdout.includes('a word on the console'));
  });

  test('is held to its limits, those that were changed meanwhile too', async () => {
    await suspend('web');
    await veld.api.operate('PATCH', '/v1/ves/web/properties', { changes: { 'memory.limit': '256M' } });
    await resume('web');
    assert.equal(await four.ask('c'), '3 c');
    assert.match(await said('web', 'grep', 'MemTotal', '/proc/meminfo'), /\b262144 kB/);
    // Nothing that root of the VE could write belongs to it.
    assert.match(await said('web', 'sh', '-c', '(echo 1 >/sys/fs/cgroup/cgroup.max.depth) 2>&1 || true'), /denied|read-only/i);
  });

  test('goes there and back again and again', async () => {
    for (let round = 0; round < 5; round++) {
      await suspend('web');
      await resume('web');
      assert.equal(await four.ask('again'), `${4 + round} again`);
    }
    assert.equal(await said('web', 'systemctl', 'is-system-running'), 'running');
  });

  test('reboots itself like any other, and can be suspended after that', async () => {
    const { pid } = await veld.show('web');
    await veld.exec('web', 'systemctl', 'reboot');
    const again = await until('another init', async () => {
      const shown = await veld.show('web');
      return [pid, null].includes(shown.pid) ? undefined : shown;
    });
    assert.equal(namespaceOwner(again.pid as number), again.uidBase);
    await veld.booted('web');
    await suspend('web');
    await resume('web');
    assert.equal(await said('web', 'hostname'), 'web');
  });

  test('finds what it has made of its network', async () => {
    // The VE has no nft of its own: the host's, in its namespaces, does the same.
    const inside = async (...command: string[]): Promise<string> => {
      const { pid } = await veld.show('web');
      return execFileSync('nsenter', [`--user=/proc/${pid}/ns/user`, `--net=/proc/${pid}/ns/net`, ...command], { encoding: 'utf8' });
    };
    await inside('nft', 'add table inet mine; add chain inet mine in { type filter hook input priority 0; policy drop; }; add rule inet mine in ct state established,related accept; add rule inet mine in tcp dport 7000 accept');
    await said('web', 'sh', '-c', 'ip addr add 192.0.2.9/24 dev eth0; ip -6 addr add 2001:db8::9/64 dev eth0 nodad; ip route add 198.51.100.0/24 via 192.0.2.1; ip rule add from 192.0.2.9 lookup 77; '
      + 'ip route add default via 192.0.2.1 table 77; ip route add 203.0.113.0/24 nexthop via 192.0.2.1 nexthop via 192.0.2.2; echo 2 >/proc/sys/net/ipv4/conf/eth0/rp_filter; echo 77 >/proc/sys/net/ipv4/ip_default_ttl');
    const all = (): Promise<string> => inside('sh', '-c', 'nft list ruleset; ip -o addr show scope global | sed "s/^[0-9]*: eth0[^ ]* //"; ip route; ip -6 route | grep db8; ip rule; ip route show table 77; cat /proc/sys/net/ipv4/conf/eth0/rp_filter /proc/sys/net/ipv4/ip_default_ttl');
    const before = await all();
    assert.match(before, /table inet mine/);
    await serveCount('web', 7000);
    const held = await client((await veld.show('web')).addresses[0]!, 7000);
    assert.equal(await held.ask('a'), '1 a');
    await suspend('web');
    await resume('web');
    assert.equal(await all(), before);
    assert.equal(await held.ask('b'), '2 b', 'through its own firewall');
    held.socket.destroy();
  });

  test('is destroyed with its state', async () => {
    await suspend('web');
    await veld.api.operate('DELETE', '/v1/ves/web');
    assert.deepEqual(states(), []);
    assertSame(veld.traces(), empty, 'traces of a destroyed VE');
    four.socket.destroy();
    six.socket.destroy();
  });
});

describe('what comes from outside', () => {
  test('commands and shells end, and hear why', async () => {
    await veld.createRunning('door');
    await veld.booted('door');
    const plain = await openSession(veld.api, 'door', { command: ['sleep', '1000'] });
    const terminal = await openSession(veld.api, 'door', { command: ['sh', '-c', 'trap "" HUP; echo deaf; while :; do sleep 1; done'], tty: { columns: 80, rows: 24, term: 'xterm' } });
    await until('the shell', () => terminal.stdout().includes('deaf'));
    await suspend('door');
    for (const session of [plain, terminal]) await assert.rejects(session.exit, { code: 'exec.interrupted', message: /door is being suspended/ });
    await resume('door');
    assert.equal(await said('door', 'sh', '-c', 'pgrep -c sleep || true'), '0');
  });

  test('a state can be thrown away for a boot', async () => {
    await said('door', 'touch', '/run/from-before');
    await suspend('door');
    const result = await veld.cli('start', '--discard-state', 'door');
    assert.equal(result.code, 0, result.stderr);
    assert.equal((await veld.show('door')).status, 'running');
    assert.equal((await veld.exec('door', 'test', '-e', '/run/from-before')).exitCode, 1);
    assert.deepEqual(states(), []);
  });
});

describe('a VE that cannot be suspended', () => {
  test('is told before anything is done: whose fault it is, and the remedy', async () => {
    await veld.createRunning('held');
    await veld.booted('held');
    await serveGreeting(veld, 'held', 7100);
    await said('held', 'systemd-run', '--quiet', '--unit=holder', 'sh', '-c', 'exec 3<>/dev/console; exec sleep 1000');
    await said('held', 'mv', '/usr/bin/setsid', '/usr/bin/setsid.away');
    const found = await until('the console to be held', async () => {
      const obstacles = await veld.api.call<Obstacle[]>('GET', '/v1/ves/held/obstacles');
      return obstacles.length > 0 ? obstacles : undefined;
    });
    assert.equal(found.length, 1);
    assert.equal(found[0]!.kind, 'console');
    assert.equal(found[0]!.process?.name, 'sleep');
    const check = await veld.cli('checkpoint', '--check', 'held');
    assert.equal(check.code, 37);
    assert.match(check.stdout, /\(sleep\) has the console open, and the VE lacks a program[^]*setsid/);
    await assert.rejects(suspend('held'), { code: 'checkpoint.refused' });
    assert.equal((await veld.show('held')).status, 'running');
    const { addresses } = await veld.show('held');
    assert.match(await askUntil(addresses[0]!, 7100), /greetings from held/);
    await said('held', 'mv', '/usr/bin/setsid.away', '/usr/bin/setsid');
    // With the console still held.
    await suspend('held');
    await resume('held');
    const holder = await said('held', 'systemctl', 'show', '-P', 'MainPID', 'holder');
    await said('held', 'sh', '-c', `echo still here >/proc/${holder}/fd/3`);
    await until('the word in the log', async () => (await veld.cli('logs', 'held')).stdout.includes('still here'));
    assert.equal(await said('held', 'sh', '-c', 'pgrep -fc "[s]leep 1000000000" || true'), '0');
  });

  test('runs on as before when criu fails in the middle', async () => {
    const before = (await veld.show('held')).pid;
    // A deleted file that is too large to be kept.
    await said('held', 'sh', '-c', 'systemd-run --quiet --unit=ghost sh -c "exec 3<>/root/big; fallocate -l 1100M /root/big; rm /root/big; exec sleep 1000"');
    await until('the deleted file', async () => (await said('held', 'sh', '-c', 'ls -l /proc/*/fd 2>/dev/null | grep -c "big (deleted)" || true')) !== '0');
    await assert.rejects(suspend('held'), { code: 'checkpoint.failed' });
    const after = await veld.show('held');
    assert.equal(after.status, 'running');
    assert.equal(after.pid, before);
    assert.deepEqual(states(), []);
    assert.match(await askUntil(after.addresses[0]!, 7100), /greetings from held/);
  });
});

test('a state whose processes have memory that the kernel may drop says so, and comes back', { skip: !hasDroppable() && 'this kernel has none' }, async () => {
  const { uuid } = await veld.createRunning('dropper');
  await veld.booted('dropper');
  const kept = (): boolean => stateHasDroppable({ images: join(veld.settings.stateDir, 'states', uuid, 'images') });
  await suspend('dropper');
  assert.equal(kept(), false, 'no program of this template has any');
  await resume('dropper');
  // mmap(2) of such memory. (systemd takes words with a dollar for variables.)
  await said('dropper', 'systemd-run', '--quiet', '--unit=dropper', 'perl', '-e', `syscall(${process.arch === 'arm64' ? 222 : 9}, 0, 4096, 3, ${0x20 | MAP_DROPPABLE}, -1, 0) == -1 and die; open F, ">", "/run/made"; sleep 1 while 1`);
  await until('the mapping', async () => (await veld.exec('dropper', 'test', '-e', '/run/made')).exitCode === 0);
  await suspend('dropper');
  assert.equal(kept(), true);
  await resume('dropper');
  assert.match(await said('dropper', 'sh', '-c', 'cat /proc/$(systemctl show -P MainPID dropper)/smaps'), /^VmFlags:.* dp\b/m);
  await veld.api.operate('DELETE', '/v1/ves/dropper?force=true');
});

describe('a host that goes down', () => {
  test('suspends the VEs that want it, and brings them back as they were', async () => {
    const kept = await veld.createRunning('kept', { 'shutdown.action': 'suspend' });
    await veld.createRunning('other');
    await veld.booted('kept');
    await serveCount('kept', 7000);
    const held = await client(kept.addresses[0]!, 7000);
    assert.equal(await held.ask('a'), '1 a');
    const { pid } = await veld.show('other');
    await veld.restart({ VELD_SHUTDOWN: 'yes' });
    await veld.stop();
    assert.equal(states().length, 1, 'one is on the disk');
    await veld.start();
    await until('kept to be back', async () => (await veld.show('kept')).status === 'running');
    assert.equal(await held.ask('b'), '2 b', 'over one and the same connection');
    assert.equal((await veld.show('other')).pid, pid, 'the other one is left to be stopped in order');
    held.socket.destroy();
  });

  test('boots one that cannot be brought back', async () => {
    await veld.restart({ VELD_SHUTDOWN: 'yes' });
    await veld.stop();
    const [uuid] = states();
    writeFileSync(join(veld.settings.stateDir, 'states', uuid!, 'images/pstree.img'), 'nothing of the sort');
    await veld.start();
    await until('kept to be back', async () => (await veld.show('kept')).status === 'running');
    assert.equal(await veld.booted('kept'), 'running');
    assert.deepEqual(states(), []);
    for (const ve of ['kept', 'other']) await veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`);
  });

  test('leaves them alone when only the daemon stops', async () => {
    const { pid } = await veld.createRunning('kept', { 'shutdown.action': 'suspend' });
    await veld.restart();
    assert.equal((await veld.show('kept')).pid, pid);
    await veld.api.operate('DELETE', '/v1/ves/kept?force=true');
  });
});
