/** Snapshots, roll-back and clones: a VE as it was at one instant, disk and processes, and as another VE. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { askUntil, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';
import type { SnapshotRecord } from '../../src/store/types.ts';

const veld = await fileInstance();
const empty = [...veld.traces(), ...kept()];

/** What is on the disk of volumes, layers, states and snapshots. */
function kept(): string[] {
  return ['ves', 'layers', 'states', 'snapshots'].flatMap((folder) => {
    const path = join(veld.settings.stateDir, folder);
    return existsSync(path) ? readdirSync(path).filter((name) => !name.startsWith('.trash')).map((name) => `${folder}/${name}`) : [];
  });
}

const ok = async (...args: string[]): Promise<string> => {
  const result = await veld.cli(...args);
  assert.equal(result.code, 0, `veld ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
};
const said = async (ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
/** A process that knows a number which no file has, and tells it on a signal. */
const keeper = (number: number): string => `systemd-run --quiet --unit=keeper perl -e 'my $n = ${number}; $SIG{USR1} = sub { open my $f, ">", "/run/told"; print $f $n++; close $f }; sleep 1 while 1'`;
const tell = (ve: string): Promise<string> => said(ve, 'rm -f /run/told; systemctl kill -s USR1 --kill-whom=main keeper; for i in $(seq 100); do [ -s /run/told ] && break; sleep 0.05; done; cat /run/told');

describe('a running VE', () => {
  test('is kept with its processes, and runs on', async () => {
    await veld.createRunning('web');
    await veld.booted('web');
    await serveGreeting(veld, 'web', 7000);
    await said('web', keeper(41));
    await said('web', 'echo first >/root/file; mkdir -p /root/folder && touch /root/folder/old');
    const { pid } = await veld.show('web');
    assert.equal((await veld.cli('snapshot', 'create', 'web', 'cold')).code, 7, 'its files are being written');
    assert.equal(await ok('snapshot', 'create', '--live', 'web', 'one'), 'snapshot one of web created\n');
    assert.equal((await veld.show('web')).pid, pid, 'it was never away');
    assert.equal(await tell('web'), '41');
    assert.equal(await said('web', 'systemctl is-system-running'), 'running');
    assert.match(await ok('snapshot', 'list', 'web'), /^one +\S+ \S+ +disk and processes$/m);
    assert.equal((await veld.cli('snapshot', 'create', '--live', 'web', 'one')).code, 41);
  });

  test('what is sent to it while it is away waits for it', async () => {
    // (SO_RCVBUF, as much as the kernel lets it have: some seconds of what is sent, since on a busy host it is away for long.)
    await said('web', `systemd-run --quiet --unit=datagrams perl -e 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7001, Proto => "udp", V6Only => 0) or die $@; setsockopt $s, 1, 8, pack("i", 1 << 20); open my $f, ">", "/run/datagrams"; $f->autoflush(1); while (1) { $s->recv(my $b, 99); print $f "$b\\n" }'`);
    const [address = ''] = (await veld.show('web')).addresses;
    const socket = createSocket('udp4');
    // Away is who has no route but that to where packets wait. (What has come to it before, and no program has read, is lost: see docs/explanation/checkpoint.md.)
    const destination = address.split('.').toReversed().map((byte) => Number(byte).toString(16).padStart(2, '0')).join('').toUpperCase();
    const isAway = (): boolean => !readFileSync('/proc/net/route', 'utf8').split('\n').some((line) => line.split('\t')[1] === destination && line.split('\t')[6] === '0');
    const waited: number[] = [];
    let sent = 0;
    let away = false;
    const timer = setInterval(() => {
      const before = away;
      away = isAway();
      if (before && away) waited.push(sent - 1);
      socket.send(String(sent), 7001, address);
      sent += 1;
    }, 8);
    try {
      await until('the first to arrive', async () => (await said('web', 'wc -l </run/datagrams')) !== '0');
      for (const name of ['u1', 'u2', 'u3']) {
        const before = waited.length;
        await ok('snapshot', 'create', '--live', 'web', name);
        assert.ok(waited.length > before + 5, 'it was never away');
      }
      await sleep(200);
    } finally {
      clearInterval(timer);
      socket.close();
    }
    const heard = await until('the last to arrive', async () => {
      const numbers = (await said('web', 'cat /run/datagrams')).split('\n').map(Number);
      return numbers.includes(sent - 1) ? numbers : undefined;
    });
    assert.equal(new Set(heard).size, heard.length, 'one came twice');
    assert.deepEqual(waited.filter((number) => !heard.includes(number)), [], `of ${waited.length} that waited`);
    for (const name of ['u1', 'u2', 'u3']) await ok('snapshot', 'delete', 'web', name);
    await said('web', 'systemctl stop datagrams');
  });

  test('is rolled back: memory and disk are of the same instant, and the snapshot stays', async () => {
    await said('web', 'echo second >/root/file; rm -r /root/folder; touch /root/new');
    assert.equal(await tell('web'), '42');
    assert.equal(await tell('web'), '43');
    for (let round = 0; round < 2; round++) {
      await ok('snapshot', 'restore', 'web', 'one');
      assert.equal(await said('web', 'cat /root/file; ls /root/folder; test ! -e /root/new'), 'first\nold');
      assert.equal(await tell('web'), '41');
      await said('web', 'echo third >/root/file');
    }
    assert.match(await askUntil((await veld.show('web')).addresses[0]!, 7000), /greetings from web/);
  });

  test('is cloned: both run, each with its own name, addresses, uids and keys', async () => {
    const keys = await said('web', 'cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id');
    const before = await tell('web');
    await ok('clone', '--live', 'web', 'twin', '--set', 'memory.limit=256M');
    const [web, twin] = await Promise.all([veld.show('web'), veld.show('twin')]);
    assert.equal(twin.status, 'running');
    assert.notEqual(twin.uidBase, web.uidBase);
    for (const address of twin.addresses) assert.ok(!web.addresses.includes(address));
    assert.equal(Number(await tell('web')), Number(before) + 1);
    assert.equal(Number(await tell('twin')), Number(before) + 1, 'it has the memory of the other, and no more');
    assert.match(await askUntil(twin.addresses[0]!, 7000), /greetings from twin/);
    assert.match(await askUntil(web.addresses[0]!, 7000), /greetings from web/);
    assert.equal(await said('twin', 'cat /root/file; hostname; cat /etc/hostname'), 'third\ntwin\ntwin');
    assert.notEqual(await said('twin', 'cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id'), keys);
    assert.equal(await said('web', 'cat /etc/ssh/ssh_host_*_key.pub /etc/machine-id'), keys);
    assert.match(await said('twin', 'grep MemTotal /proc/meminfo'), /\b262144 kB/);
    for (const ve of ['web', 'twin']) assert.equal(await said(ve, 'systemctl is-system-running'), 'running', ve);
    // Nothing of the model's range is left in the clone: neither users nor files.
    assert.match(readFileSync(`/proc/${twin.pid}/uid_map`, 'utf8'), new RegExp(`^\\s*0\\s+${twin.uidBase}\\s+65536\\n$`));
    assert.equal(await said('twin', 'stat -c %U:%G /root/file /etc /run; find / -xdev -nouser | head -1'), 'root:root\nroot:root\nroot:root');
    assert.deepEqual(await veld.api.call<SnapshotRecord[]>('GET', '/v1/ves/twin/snapshots'), []);
  });

  test('and its clone live their own lives', async () => {
    await said('twin', 'echo mine >/root/file');
    assert.equal(await said('web', 'cat /root/file'), 'third');
    const { pid } = await veld.show('twin');
    await veld.exec('twin', 'systemctl', 'reboot');
    await until('another init', async () => ![pid, null].includes((await veld.show('twin')).pid));
    await veld.booted('twin');
    assert.equal(await said('twin', 'cat /root/file; hostname'), 'mine\ntwin');
    await veld.api.operate('POST', '/v1/ves/twin/suspend');
    await veld.api.operate('POST', '/v1/ves/twin/resume');
    await ok('snapshot', 'create', '--live', 'twin', 'of-the-clone');
    await said('twin', 'echo other >/root/file');
    await ok('snapshot', 'restore', 'twin', 'of-the-clone');
    assert.equal(await said('twin', 'cat /root/file'), 'mine');
  });
});

describe('a stopped VE', () => {
  test('is kept, rolled back and cloned by its disk', async () => {
    await veld.api.operate('POST', '/v1/ves', { name: 'cold', template: (await veld.show('web')).template.fingerprint });
    await veld.api.operate('POST', '/v1/ves/cold/start');
    await veld.booted('cold');
    await said('cold', 'echo one >/root/file');
    await veld.api.operate('POST', '/v1/ves/cold/stop');
    assert.equal((await veld.cli('snapshot', 'create', '--live', 'cold', 'x')).code, 8);
    await ok('snapshot', 'create', 'cold', 'disk');
    assert.match(await ok('snapshot', 'list', 'cold'), /^disk +\S+ \S+ +disk$/m);
    await ok('clone', 'cold', 'copy');
    assert.equal((await veld.show('copy')).status, 'stopped');
    for (const ve of ['cold', 'copy']) await veld.api.operate('POST', `/v1/ves/${ve}/start`);
    for (const ve of ['cold', 'copy']) await veld.booted(ve);
    assert.equal(await said('copy', 'cat /root/file; hostname'), 'one\ncopy');
    await said('cold', 'echo two >/root/file');
    await ok('snapshot', 'restore', 'cold', 'disk');
    assert.equal((await veld.show('cold')).status, 'stopped');
    await veld.api.operate('POST', '/v1/ves/cold/start');
    await veld.booted('cold');
    assert.equal(await said('cold', 'cat /root/file'), 'one');
  });
});

describe('what is not needed any more', () => {
  test('goes: snapshots with their layers, unless something stands on these', async () => {
    assert.equal((await veld.cli('snapshot', 'delete', 'web', 'none')).code, 41);
    const { layers } = (await veld.api.call<SnapshotRecord[]>('GET', '/v1/ves/web/snapshots'))[0]!;
    await ok('snapshot', 'delete', 'web', 'one');
    assert.ok(existsSync(join(veld.settings.stateDir, 'layers', layers.at(-1)!.id)), 'web and twin stand on it');
    for (const ve of ['web', 'twin', 'cold', 'copy']) await veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`);
    assertSame([...veld.traces(), ...kept()], empty, 'after the last VE');
  });

  test('states are closed to everybody but root', async () => {
    await veld.createRunning('last');
    await veld.booted('last');
    await veld.api.operate('POST', '/v1/ves/last/suspend');
    assert.equal(statSync(join(veld.settings.stateDir, 'states')).mode & 0o777, 0o700);
    await veld.api.operate('DELETE', '/v1/ves/last');
  });
});

test('snapshots are a tree with descriptions, and a VE is made of one, with host keys of its own', async () => {
  await veld.createRunning('root');
  const snapshots = (): Promise<{ id: string; name: string; parent: string | null; description: string }[]> => veld.json('snapshot', 'list', 'root');
  const cli = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await veld.cli(...args);
    assert.equal(code, 0, `veld ${args.join(' ')}: ${stderr}`);
  };
  await veld.exec('root', 'sh', '-c', 'echo first >/root/word');
  await cli('snapshot', 'create', 'root', 'a', '--live', '-d', 'the first');
  await veld.exec('root', 'sh', '-c', 'echo second >/root/word');
  await cli('snapshot', 'create', 'root', 'b', '--live');
  await cli('snapshot', 'restore', 'root', 'a');
  await cli('snapshot', 'create', 'root', 'c', '--live');
  const [a, b, c] = await snapshots();
  assert.deepEqual([a!.parent, b!.parent, c!.parent], [null, a!.id, a!.id]);
  assert.equal(a!.description, 'the first');
  const changed = async (...args: string[]): Promise<string[]> => (await ok('snapshot', 'diff', 'root', ...args)).split('\n').filter((line) => line.includes('/root/'));
  assert.deepEqual(await changed('a', 'b'), ['M /root/word']);
  assert.deepEqual(await changed('a'), [], 'it is what it was then');
  await veld.exec('root', 'sh', '-c', 'mkdir /root/made; echo x >/root/made/file; rm /root/.profile');
  assert.deepEqual(await changed('c'), ['D /root/.profile', 'A /root/made/', 'A /root/made/file']);
  await cli('clone', 'root', 'look', '--snapshot', 'b');
  await cli('start', 'look');
  assert.equal((await veld.exec('look', 'cat', '/root/word')).stdout, 'second\n');
  assert.equal((await veld.exec('root', 'cat', '/root/word')).stdout, 'first\n');
  const key = async (ve: string): Promise<string> => (await veld.exec(ve, 'cat', '/etc/ssh/ssh_host_ed25519_key.pub')).stdout;
  assert.notEqual(await key('look'), await key('root'));
  await cli('clone', 'root', 'alive', '--snapshot', 'b', '--live');
  assert.equal((await veld.exec('alive', 'cat', '/root/word')).stdout, 'second\n');
  await cli('snapshot', 'delete', 'root', 'a');
  assert.deepEqual((await snapshots()).map(({ name, parent }) => [name, parent]), [['b', null], ['c', null]]);
  await cli('destroy', '--force', 'look', 'alive', 'root');
});
