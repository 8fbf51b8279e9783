/** Live migration between two real daemons with uids, pools and templates of their own: a client stays connected, and its every answer is checked. */
import assert from 'node:assert/strict';
import { existsSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { totalmem } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { makeNode, pair } from '../lib/nodes.ts';
import { assertSame } from '../lib/same.ts';
import { serveTalk, talkTo } from '../lib/talk.ts';
import { until } from '../lib/wait.ts';
import type { Instance } from '../lib/instance.ts';
import type { MigrateResult } from '../../src/migration/types.ts';
import type { TemplateView } from '../../src/ve/types.ts';

// Neighbours are told where a VE is now: not those of this machine.
const settings = (own: Instance['settings']): void => { own.network.uplinks = ['lo']; };
const a = await makeNode('alpha', { settings });
const b = await makeNode('beta', { settings, noTemplate: true });
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();

const names = async (node: Instance) => (await node.list()).map(({ name }) => name);
const said = async (node: Instance, ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await node.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const move = async (from: Instance, ve: string, to: string, options: Record<string, unknown> = {}): Promise<MigrateResult> => (await from.api.operate('POST', `/v1/ves/${ve}/migrate`, { node: to, ...options })).result as MigrateResult;

/** What must be the same on the other side. */
const LOOK = `cat /etc/machine-id /proc/sys/kernel/random/boot_id; hostname; cat /root/kept /etc/motd; stat -c '%U %G %a %h %s %F' /root/* /srv/tree /srv/tree/*; getfacl -nc /srv/tree/acl 2>/dev/null; getcap /srv/tree/tool 2>/dev/null
ls -A /usr/share/doc-base /usr/share/doc 2>&1 | head; [ -e /etc/issue.net ] && echo issue is back; pidof perl; systemctl show -p MainPID,ActiveEnterTimestampMonotonic talk-7100.service; ls /run/systemd/units | sort; ip -o addr show dev eth0 scope global`;

const MAKE = `set -e; mkdir -p /srv/tree/sub; echo kept >/root/kept; ln /root/kept /root/linked; ln -s /etc/passwd /root/link; mkfifo /root/fifo; echo changed >/etc/motd; rm /etc/issue.net
rm -rf /usr/share/doc; mkdir /usr/share/doc; echo new >/usr/share/doc/only; truncate -s 50M /srv/tree/sparse; echo end >>/srv/tree/sparse
echo x >/srv/tree/acl; setfacl -m u:33:r,g:4:rw /srv/tree/acl 2>/dev/null || true; cp /bin/true /srv/tree/tool; setcap cap_net_bind_service=ep /srv/tree/tool 2>/dev/null || true; chown 33:33 /srv/tree/tool; chmod 2755 /srv/tree/sub
touch "/srv/tree/$(printf 'odd\\nname')"; head -c 9000000 /dev/urandom >/srv/tree/random; sha256sum /srv/tree/random >/srv/tree/sum`;

/** Without what is the other's, and has an address of this one's pool. */
const own = (traces: string[], other: Instance) => traces.filter((line) => !line.includes(`v${other.name}-`) && !line.includes(`veld_${other.name}`) && !line.startsWith('neighbour proxy'));

let empty: { a: string[]; b: string[] };

test('without a pairing there is no way; nor to a node that may not', async () => {
  empty = { a: a.traces(), b: b.traces() };
  await a.createRunning('web');
  await assert.rejects(move(a, 'web', 'beta'), /node/);
  await pair(a, b, 'beta', { there: 'manage', here: 'migrate' });
  await assert.rejects(move(a, 'web', 'beta'), /right|allow|forbidden/i);
  await b.json('node', 'set', 'alpha', 'allow=migrate,manage');
  assert.equal((await a.show('web')).status, 'running');
});

test('a dry run tells what would be otherwise, and leaves nothing', async () => {
  const before = b.traces();
  const { kind, notes } = await move(a, 'web', 'beta', { dryRun: true });
  assert.equal(kind, 'running');
  assert.ok(notes.some((note) => /uids/.test(note)), notes.join());
  assertSame(b.traces(), before, 'traces');
});

test('a VE moves with its processes, its disk and a connection, and the template comes along', async () => {
  await said(a, 'web', MAKE);
  await serveTalk(a, 'web');
  const { addresses, uuid, mac } = await a.show('web') as unknown as { addresses: string[]; uuid: string; mac: string };
  const talk = await talkTo(addresses[0]!);
  await talk.goesOn();
  const before = await said(a, 'web', LOOK);
  const { stdout } = await a.cli('migrate', 'web', 'beta');
  assert.match(stdout, /web is on beta: [\d.]+ MiB in [\d.]+ s, stood for \d+ ms/);
  await talk.goesOn();
  assert.deepEqual(await names(a), []);
  const there = await b.show('web') as unknown as { addresses: string[]; uuid: string; mac: string; status: string };
  assert.deepEqual([there.uuid, there.addresses, there.status, there.mac], [uuid, addresses, 'running', mac]);
  assert.equal(await said(b, 'web', LOOK), before);
  assert.equal(await said(b, 'web', 'cd /srv/tree && sha256sum -c sum && systemctl is-system-running'), '/srv/tree/random: OK\nrunning');
  assert.deepEqual((await b.api.call<TemplateView[]>('GET', '/v1/templates')).map(({ name }) => name), ['test']);
  await said(b, 'web', 'systemd-run --quiet --wait true');
  talk.end();
  assert.match(await said(b, 'web', 'cat /etc/resolv.conf'), new RegExp(`^search ${b.settings.network.domain}\nnameserver ${b.settings.network.pools[0]!.replace('.0/24', '.1')}$`, 'm'), 'names are asked of this node');
  assertSame(own(a.traces(), b), empty.a, 'traces of the node that it has left');
  assert.equal(existsSync(join(b.settings.stateDir, 'incoming')) ? readdirSync(join(b.settings.stateDir, 'incoming')).length : 0, 0);
});

test('and back, and there again, under load, ten times', { skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async (t) => {
  const talk = await talkTo((await b.show('web')).addresses[0]!);
  const stood: number[] = [];
  for (let round = 0; round < 10; round++) {
    const [from, to, name] = round % 2 === 0 ? [b, a, 'alpha'] as const : [a, b, 'beta'] as const;
    await said(from, 'web', `echo ${round} >>/root/rounds; rm -f /srv/tree/round-*; head -c 3000000 /dev/urandom >/srv/tree/round-${round}`);
    stood.push((await move(from, 'web', name)).stood!);
    await talk.goesOn();
    assert.equal(await said(to, 'web', 'wc -l </root/rounds; ls /srv/tree | grep -c round-'), `${round + 1}\n1`);
    await said(to, 'web', 'systemd-run --quiet --wait true');
  }
  t.diagnostic(`stood for ${stood.map(Math.round).join(', ')} ms; ${talk.answers()} answers, longest silence ${Math.round(talk.longest())} ms`);
  talk.end();
});

test('back once, and it lives on like any other: reboot, snapshot, clone', async () => {
  const talk = await talkTo((await b.show('web')).addresses[0]!);
  const result = await move(b, 'web', 'alpha');
  assert.equal(result.trouble, null);
  await talk.goesOn();
  talk.end();
  await a.api.operate('POST', '/v1/ves/web/snapshots', { name: 'one', live: true });
  await a.api.operate('POST', '/v1/ves/web/clone', { name: 'copy', live: true });
  assert.equal(await said(a, 'copy', 'systemctl is-system-running; cat /root/kept'), 'running\nkept');
  await a.api.operate('DELETE', '/v1/ves/copy?force=true');
  await a.api.operate('DELETE', '/v1/ves/web/snapshots/one');
  const before = await a.show('web');
  await a.exec('web', 'systemctl', 'reboot');
  await until('another init', async () => { const now = await a.show('web'); return now.status === 'running' && now.pid !== before.pid && (await a.exec('web', 'true')).exitCode === 0; });
  assert.equal(await a.booted('web'), 'running');
  assert.equal(await said(a, 'web', 'cat /root/kept'), 'kept');
});

test('a suspended VE goes as what it is, and a stopped one too', async () => {
  const pid = await said(a, 'web', 'systemctl show -p MainPID --value ssh.service; cat /proc/sys/kernel/random/boot_id');
  await a.api.operate('POST', '/v1/ves/web/suspend');
  assert.equal((await move(a, 'web', 'beta')).kind, 'suspended');
  assert.equal((await b.show('web')).status, 'suspended');
  await b.api.operate('POST', '/v1/ves/web/resume');
  assert.equal(await said(b, 'web', 'systemctl show -p MainPID --value ssh.service; cat /proc/sys/kernel/random/boot_id'), pid);
  await b.api.operate('POST', '/v1/ves/web/stop', {});
  await b.json('set', 'web', 'hostname=renamed');
  assert.equal((await move(b, 'web', 'alpha')).kind, 'stopped');
  await a.api.operate('POST', '/v1/ves/web/start', {});
  assert.equal(await said(a, 'web', 'cat /root/kept /etc/hostname'), 'kept\nrenamed');
});

test('what stands in the way is told beforehand, and the VE runs on', async () => {
  await b.createRunning('web');
  await assert.rejects(move(a, 'web', 'beta'), /already a VE named web/);
  await b.api.operate('DELETE', '/v1/ves/web?force=true');
  await assert.rejects(move(a, 'web', 'gamma'), /no node/);
  await a.exec('web', 'systemd-run', '--quiet', '--unit=private', '--property=PrivateNetwork=yes', 'sleep', '600');
  await assert.rejects(move(a, 'web', 'beta'), /cannot be moved now/);
  await a.exec('web', 'systemctl', 'stop', 'private');
  assert.equal((await a.cli('migrate', 'web')).code, 2);
  assert.equal((await a.cli('migrate', '--take-back', 'web')).code, 52);
  assert.equal(await said(a, 'web', 'systemctl is-system-running'), 'running');
  assert.deepEqual(await names(b), []);
});

test('limits of sockets that the other node cannot count are in the way before anything is sent, of a copy, too', async (t) => {
  const inTheWay = join(b.settings.runDir, 'bpf'); // where it loads its programs
  t.after(() => rmSync(inTheWay, { force: true }));
  await b.stop();
  writeFileSync(inTheWay, '');
  await b.start();
  const before = b.traces();
  await a.json('set', 'web', 'ubc.numtcpsock=200');
  for (const how of [{ dryRun: true }, {}, { copy: true, as: 'second' }]) {
    await assert.rejects(move(a, 'web', 'beta', how), /The other node says: ubc\.numtcpsock cannot be held on this host: .*\/bpf/, JSON.stringify(how));
  }
  assert.equal(await said(a, 'web', 'systemctl is-system-running'), 'running');
  assert.deepEqual(await names(b), []);
  assertSame(b.traces(), before, 'traces');
  // What is not counted there, and is not limited, is in nobody's way.
  await a.json('set', 'web', '--unset', 'ubc.numtcpsock');
  assert.equal((await move(a, 'web', 'beta', { dryRun: true })).kind, 'running');
  await b.stop();
  rmSync(inTheWay);
  await b.start();
  await a.json('set', 'web', 'ubc.numtcpsock=200', 'ubc.numothersock=100');
  assert.equal((await move(a, 'web', 'beta', { dryRun: true })).kind, 'running');
  await a.json('set', 'web', '--unset', 'ubc.numtcpsock', '--unset', 'ubc.numothersock');
});

test('a node that has promised its memory already refuses one that would run, before anything is sent; one at rest may come', async () => {
  const asked = async (overcommit: Instance['settings']['overcommit']): Promise<void> => {
    const { libexecDir: _, ...given } = b.settings;
    writeFileSync(b.settingsFile, JSON.stringify({ ...given, overcommit }));
    await b.restart();
  };
  await a.json('set', 'web', `memory.limit=${Math.ceil(totalmem() / 50)}`); // two times what is allowed
  await asked({ memory: { ratio: 0.01, action: 'refuse' } });
  const before = own(b.traces(), a);
  for (const how of [{ dryRun: true }, {}, { copy: true, as: 'second' }]) await assert.rejects(move(a, 'web', 'beta', how), /The other node says: With (web|second) the memory limits of running VEs are/);
  assert.equal(await said(a, 'web', 'systemctl is-system-running'), 'running');
  assertSame(own(b.traces(), a), before, 'traces');
  await a.api.operate('POST', '/v1/ves/web/suspend');
  assert.equal((await move(a, 'web', 'beta', { dryRun: true })).kind, 'suspended');
  await a.api.operate('POST', '/v1/ves/web/resume');
  await asked({ memory: { ratio: 0.01, action: 'warn' } });
  const { notes } = await move(a, 'web', 'beta', { dryRun: true });
  assert.ok(notes.some((note) => /On that node: With web the memory limits/.test(note)), notes.join());
  await asked(b.settings.overcommit);
  await a.json('set', 'web', '--unset', 'memory.limit');
});

test('can be cancelled while its disk is sent: it runs on, and nothing of it is there', async () => {
  const before = own(b.traces(), a);
  await said(a, 'web', 'head -c 250000000 /dev/urandom >/srv/large');
  const { id } = await a.api.call<{ id: string }>('POST', '/v1/ves/web/migrate', { node: 'beta' });
  await until('its disk to be under way', async () => /its disk: [1-9]/.test((await a.api.call<{ message: string }>('GET', `/v1/operations/${id}`)).message), 20_000, 5);
  await a.api.call('DELETE', `/v1/operations/${id}`);
  assert.equal((await until('its end', async () => { const now = await a.api.call<{ state: string }>('GET', `/v1/operations/${id}`); return now.state === 'running' ? undefined : now; })).state, 'cancelled');
  assert.equal(await said(a, 'web', 'systemctl is-system-running; rm /srv/large'), 'running');
  await until('the other node to have forgotten it', () => JSON.stringify(own(b.traces(), a)) === JSON.stringify(before));
  assert.deepEqual(await names(b), []);
});

test('a whole node is evacuated, and what cannot go stays', async () => {
  await Promise.all(['one', 'two'].map((name) => a.createRunning(name)));
  await a.api.operate('POST', '/v1/ves', { name: 'three', template: 'test' });
  await a.api.operate('POST', '/v1/ves/two/freeze');
  assert.equal((await a.cli('evacuate', '--dry-run', 'beta')).code, 9);
  const { code, stdout, stderr } = await a.cli('evacuate', '--at-once', '3', 'beta');
  assert.equal(code, 9, 'of the one that failed');
  assert.match(stdout, /^web is on beta\none is on beta\nthree is on beta\n$/);
  assert.match(stderr, /two: two is frozen/);
  assert.deepEqual(await names(a), ['two']);
  assert.deepEqual((await b.list()).map(({ name, status }) => `${name} ${status}`).sort(), ['one running', 'three stopped', 'web running']);
  for (const name of ['one', 'three']) await b.api.operate('DELETE', `/v1/ves/${name}?force=true`);
  await a.api.operate('DELETE', '/v1/ves/two?force=true');
  assert.equal((await b.cli('migrate', 'web', 'alpha')).code, 0);
  assert.equal(await said(a, 'web', 'cat /root/kept'), 'kept');
});

test('in the end nothing is left on either node', async () => {
  await a.api.operate('DELETE', '/v1/ves/web?force=true');
  assertSame(own(a.traces(), b), empty.a, 'traces');
  assertSame(own(b.traces(), a).filter((line) => !line.includes('/layers/')), empty.b, 'traces');
});
