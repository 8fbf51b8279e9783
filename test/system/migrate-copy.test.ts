/** A copy of a VE on another node, between nodes in network namespaces of their own: it is another VE, and the one that it is made of goes on, whatever happens. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { ApiError } from '../lib/http.ts';
import { holdings } from '../lib/liar.ts';
import { serveTalk } from '../lib/talk.ts';
import { talkFrom } from '../lib/talk-elsewhere.ts';
import { until } from '../lib/wait.ts';
import { makeWiredNodes, WIRE4, type WiredNode } from '../lib/wired-nodes.ts';
import type { MigrateResult } from '../../src/migration/types.ts';
import type { OperationRecord } from '../../src/store/types.ts';

const { wire, a, b, client, destroy } = await makeWiredNodes();
after(destroy);

const copy = async (ve: string, options: Record<string, unknown> = {}): Promise<MigrateResult> => (await a.veld.api.operate('POST', `/v1/ves/${ve}/migrate`, { node: 'beta', copy: true, ...options })).result as MigrateResult;
const said = async ({ veld }: WiredNode, ve: string, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
  assert.equal(exitCode, 0, `${command}: ${stderr}`);
  return stdout.trim();
};
const names = async ({ veld }: WiredNode) => (await veld.list()).map(({ name, status }) => `${name} ${status}`).sort();
const codeOf = (work: Promise<unknown>): Promise<string> => work.then(() => 'done', (error: Error) => (error instanceof ApiError ? error.code : error.message));
const drop = ({ veld }: WiredNode, ve: string): Promise<unknown> => veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`);

/** Ask the server of serveTalk once, from within the VE. @returns how many questions it has heard */
const ASK = `perl -e 'use IO::Socket::IP; my $s = IO::Socket::IP->new(PeerHost => "::1", PeerPort => 7100, Timeout => 10) or die $@; print $s "1\\n"; my @w = split " ", scalar <$s>; print $w[1]'`;

/** Who it is, each line another secret or name of its own; and what it is, which a copy shares. */
const WHO = 'cat /etc/machine-id; cat /etc/ssh/ssh_host_ed25519_key.pub | cut -d" " -f2; cat /etc/ssh/ssh_host_ecdsa_key.pub | cut -d" " -f2; hostname; cat /etc/hostname';
const WHAT = 'cat /root/kept; sha256sum /srv/random; stat -c "%U:%G %a" /srv/random /root; pidof perl; getcap /srv/tool';

/** An established connection to port 7100 in /proc/net/tcp6 (proc(5): addresses and ports are hexadecimal, the state is 01). */
const CONNECTION = /:1BBC [0-9A-F]+:[0-9A-F]{4} 01 /;

/** Nothing of the one is the other's. */
async function areTwo(model: string, node: WiredNode, other: string): Promise<void> {
  const [one, two] = await Promise.all([a.veld.show(model), node.veld.show(other)]) as unknown as { uuid: string; addresses: string[]; mac: string }[];
  assert.ok(one!.uuid !== two!.uuid && one!.mac !== two!.mac && two!.addresses.length > 0 && two!.addresses.every((address) => !one!.addresses.includes(address)), JSON.stringify([one, two]));
}
async function areOthers(model: string, node: WiredNode, other: string): Promise<void> {
  const [mine, its] = [await said(a, model, WHO), await said(node, other, WHO)].map((text) => text.split('\n'));
  assert.equal(its!.length, 5, its!.join());
  its!.forEach((line, i) => assert.ok(line !== mine![i] && line !== '', `${line} is the other's`));
  assert.deepEqual(its!.slice(3), [other, other]);
  assert.equal(its![0], (await node.veld.show(other)).uuid.replaceAll('-', ''));
}

test('of a running VE: its client stays with it, and the copy is another one with the same memory', async (t) => {
  await a.veld.createRunning('web', { 'network.addresses': WIRE4(50) });
  await serveTalk(a.veld, 'web');
  await said(a, 'web', 'echo kept >/root/kept; head -c 3000000 /dev/urandom >/srv/random; chown 33:33 /srv/random; cp /bin/true /srv/tool; setcap cap_net_raw=ep /srv/tool');
  await a.veld.api.operate('POST', '/v1/ves/web/snapshots', { name: 'stays', live: true });
  const talk = await talkFrom(t, client, WIRE4(50));
  await talk.goesOn();
  const [who, heard, { uidBase }] = [await said(a, 'web', WHO), await talk.answers(), await a.veld.show('web')];
  const dry = await copy('web', { as: 'web2', dryRun: true });
  assert.deepEqual([dry.kind, dry.copy, dry.number], ['running', 'web2', null]);
  assert.deepEqual(await names(b), []);
  const { stdout } = await a.veld.cli('migrate', 'web', 'beta', '--copy', '--as', 'web2');
  assert.match(stdout, /web2, a copy of web, is on beta: [\d.]+ MiB in [\d.]+ s\n$/);
  await talk.goesOn();
  assert.deepEqual([await names(a), await names(b)], [['web running'], ['web2 running']]);
  await areTwo('web', b, 'web2');
  await areOthers('web', b, 'web2');
  assert.equal(await said(a, 'web', WHO), who);
  assert.doesNotMatch(await said(b, 'web2', 'cat /proc/net/tcp /proc/net/tcp6'), CONNECTION, 'the connection is closed in the copy');
  assert.match(await said(a, 'web', 'cat /proc/net/tcp /proc/net/tcp6'), CONNECTION);
  assert.equal(await said(b, 'web2', WHAT), await said(a, 'web', WHAT));
  assert.equal((await b.veld.show('web2')).uidBase, uidBase, 'its uids were free there');
  const its = Number(await said(b, 'web2', ASK));
  assert.ok(its >= heard && its <= await talk.answers() + 1, `${its}: it has counted what the other had until then`);
  for (const [node, ve] of [[a, 'web'], [b, 'web2']] as const) assert.equal(await said(node, ve, 'systemctl is-system-running'), 'running', ve);
  assert.deepEqual((await a.veld.api.call<{ name: string }[]>('GET', '/v1/ves/web/snapshots')).map(({ name }) => name), ['stays']);
  assert.deepEqual(await b.veld.api.call('GET', '/v1/ves/web2/snapshots'), []);
  await talk.goesOn();
  talk.end();
});

test('the name must be free there; without one it is that of the VE', async () => {
  const before = holdings(b.veld);
  assert.equal(await codeOf(copy('web', { as: 'web2' })), 've.name_taken');
  assert.equal(await codeOf(copy('web', { as: 'Not a name' })), 'name.invalid');
  assert.equal(await codeOf(a.veld.api.operate('POST', '/v1/ves/web/migrate', { node: 'beta', as: 'web3' })), 'request.invalid');
  assert.deepEqual(holdings(b.veld), before);
  assert.equal((await copy('web')).copy, 'web');
  await areTwo('web', b, 'web');
  assert.notEqual((await b.veld.show('web')).uidBase, (await a.veld.show('web')).uidBase, 'its uids are those of web2 there');
  assert.equal(await said(b, 'web', WHAT), await said(a, 'web', WHAT));
  assert.equal(await said(b, 'web', 'find / -xdev -nouser | head -1'), '');
  await drop(b, 'web');
});

test('a copy lives on like any other: it reboots, is suspended, moves', async () => {
  const who = await said(b, 'web2', WHO);
  const { pid } = await b.veld.show('web2');
  await b.veld.exec('web2', 'systemctl', 'reboot');
  await until('another init', async () => ![pid, null].includes((await b.veld.show('web2')).pid));
  await b.veld.booted('web2');
  assert.equal(await said(b, 'web2', WHO), who);
  await b.veld.api.operate('POST', '/v1/ves/web2/migrate', { node: 'alpha' });
  assert.equal(await said(a, 'web2', WHO), who);
  await drop(a, 'web2');
});

test('of a stopped VE: its disk', async () => {
  await a.veld.createRunning('cold');
  await said(a, 'cold', 'echo kept >/root/kept');
  await a.veld.api.operate('POST', '/v1/ves/cold/stop', {});
  assert.equal((await copy('cold', { as: 'cold2' })).kind, 'stopped');
  assert.deepEqual([await names(a), await names(b)], [['cold stopped', 'web running'], ['cold2 stopped']]);
  await areTwo('cold', b, 'cold2');
  for (const [node, ve] of [[a, 'cold'], [b, 'cold2']] as const) {
    await node.veld.api.operate('POST', `/v1/ves/${ve}/start`, {});
    await node.veld.booted(ve);
    assert.equal(await said(node, ve, 'cat /root/kept'), 'kept');
  }
  await areOthers('cold', b, 'cold2');
  await drop(a, 'cold');
  await drop(b, 'cold2');
});

test('of a suspended VE: it comes suspended, and becomes another one when it is resumed', async () => {
  const what = await said(a, 'web', WHAT);
  const heard = Number(await said(a, 'web', ASK));
  await a.veld.api.operate('POST', '/v1/ves/web/suspend');
  assert.equal((await copy('web', { as: 'slept' })).kind, 'suspended');
  assert.deepEqual([await names(a), await names(b)], [['web suspended'], ['slept suspended']]);
  assert.equal(await codeOf(b.veld.api.operate('POST', '/v1/ves/slept/migrate', { node: 'alpha' })), 'migration.refused');
  await b.veld.api.operate('POST', '/v1/ves/slept/resume');
  await a.veld.api.operate('POST', '/v1/ves/web/resume');
  await areTwo('web', b, 'slept');
  await areOthers('web', b, 'slept');
  for (const [node, ve] of [[a, 'web'], [b, 'slept']] as const) {
    assert.equal(await said(node, ve, WHAT), what);
    assert.equal(Number(await said(node, ve, ASK)), heard + 1);
    assert.equal(await said(node, ve, 'systemctl is-system-running'), 'running');
  }
  await drop(b, 'slept');
});

test('a wire that breaks, or a cancel, in the middle: it goes on all the same, and nothing is there', async (t) => {
  await said(a, 'web', `systemd-run --quiet perl -e 'open my $r, "<", "/dev/urandom"; read $r, my $b, 60 << 20; open my $f, ">", "/run/filled"; close $f; sleep 1 while 1'`);
  await until('its memory to be full', async () => (await a.veld.exec('web', 'test', '-e', '/run/filled')).exitCode === 0, 120_000);
  const before = holdings(b.veld);
  const talk = await talkFrom(t, client, WIRE4(50));
  for (const [how, code] of [['cancel', 'cancelled'], ['cut', 'failed']] as const) {
    const { id } = await a.veld.api.call<OperationRecord>('POST', '/v1/ves/web/migrate', { node: 'beta', copy: true, as: 'never', bandwidth: 4 << 20 });
    const now = (): Promise<OperationRecord> => a.veld.api.call('GET', `/v1/operations/${id}`);
    await until('its processes to be under way', async () => /its processes: [1-9]/.test((await now()).message), 120_000, 20);
    await talk.goesOn();
    if (how === 'cancel') await a.veld.api.call('DELETE', `/v1/operations/${id}`);
    else wire.cut('beta');
    await talk.goesOn();
    const end = await until('its end', async () => { const record = await now(); return record.state === 'running' ? undefined : record; }, 120_000);
    assert.equal(end.state, code, JSON.stringify(end));
    if (how === 'cut') assert.equal(end.error?.code, 'migration.link');
    await until('the other node to have forgotten it', () => JSON.stringify(holdings(b.veld)) === JSON.stringify(before), 120_000);
    wire.mend('beta');
    assert.deepEqual([await names(a), await names(b)], [['web running'], []]);
    assert.deepEqual((await a.veld.api.call<{ name: string }[]>('GET', '/v1/ves/web/snapshots')).map(({ name }) => name), ['stays']);
    assert.equal(await said(a, 'web', 'systemctl is-system-running'), 'running');
    await talk.goesOn();
  }
  talk.end();
});

/** Where, which fault, and whether the copy is there then; those with `full` only in `./check full`. */
const FAULTS: [where: 'source' | 'target', fault: string, there: boolean, full?: 'full'][] = [
  ['source', 'kill:migrate.kept', false],
  ['source', 'fail:migrate.kept', false, 'full'],
  ['target', 'kill:migrate-in.prepared', false, 'full'],
  ['target', 'fail:migrate-in.prepared', false, 'full'],
  ['target', 'fail:migrate-in.grant', false, 'full'],
  ['target', 'kill:migrate-in.owned', true],
];

for (const [where, fault, there, full] of FAULTS) {
  test(`${fault} at the ${where}: it goes on, and the copy is ${there ? 'there' : 'not there'}, wholly`, { skip: full !== undefined && process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async (t) => {
    const talk = await talkFrom(t, client, WIRE4(50));
    await talk.goesOn();
    const before = holdings(b.veld);
    const { veld } = where === 'source' ? a : b;
    await veld.restart({ VELD_FAULT: fault });
    const copying = codeOf(copy('web', { as: 'made' }));
    if (fault.startsWith('kill:')) {
      await veld.died();
      await veld.start();
    }
    assert.notEqual(await copying, 'done');
    if (!fault.startsWith('kill:')) await veld.restart();
    await until('both to be what they are', async () => JSON.stringify([await names(a), await names(b)]) === JSON.stringify([['web running'], there ? ['made running'] : []]), 120_000);
    await talk.goesOn();
    assert.deepEqual((await a.veld.api.call<{ name: string }[]>('GET', '/v1/ves/web/snapshots')).map(({ name }) => name), ['stays']);
    if (there) {
      await areTwo('web', b, 'made');
      await areOthers('web', b, 'made');
      await drop(b, 'made');
    }
    await until('the other node to have forgotten it', () => JSON.stringify(holdings(b.veld)) === JSON.stringify(before), 120_000);
    talk.end();
  });
}
