/**
 * Live migration between nodes in network namespaces of their own, with a switch between them and a client on the same wire: the neighbours learn where a VE is now,
 * and the wire may be cut at any moment.
 */
import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { ApiError } from '../lib/http.ts';
import { serveTalk } from '../lib/talk.ts';
import { talkFrom, type TalkElsewhere } from '../lib/talk-elsewhere.ts';
import { until } from '../lib/wait.ts';
import { stopped } from '../lib/wire.ts';
import { makeWiredNodes, WIRE4, WIRE6, type WiredNode } from '../lib/wired-nodes.ts';
import type { MigrateResult } from '../../src/migration/types.ts';

const wired = await makeWiredNodes();
const { wire, a, b, client } = wired;
const ends: (() => void)[] = [];
after(async () => {
  for (const end of ends) end();
  await wired.destroy();
});

const move = async (from: WiredNode, ve: string, to: WiredNode): Promise<MigrateResult> => (await from.veld.api.operate('POST', `/v1/ves/${ve}/migrate`, { node: to.name })).result as MigrateResult;

const runsOn = async ({ veld }: WiredNode, ve: string): Promise<boolean> => (await veld.list()).some(({ name, status }) => name === ve && status === 'running');
const knows = async ({ veld }: WiredNode, ve: string): Promise<boolean> => (await veld.list()).some(({ name }) => name === ve);
const home = async (): Promise<[WiredNode, WiredNode]> => (await runsOn(a, 'web') ? [a, b] : [b, a]);

/** A VE runs on this node, and the other one has nothing of it. */
const isAt = (node: WiredNode, ve: string, timeout?: number): Promise<unknown> => {
  const other = node === a ? b : a;
  return until(`${ve} to be on ${node.name} alone`, async () => await runsOn(node, ve) && !await knows(other, ve), timeout);
};

/** Let what goes to a node take its time, so that there is a middle of it. */
const narrow = (name: string, rate = '80mbit'): void => void wire.switch.sh('tc', 'qdisc', 'replace', 'dev', `${name}-eth0`, 'root', 'tbf', 'rate', rate, 'burst', '256kb', 'latency', '50ms');
/** All of the wire is whole and wide. */
const whole = (): void => {
  for (const { name } of [a, b]) {
    wire.mend(name);
    wire.switch.sh('sh', '-c', `tc qdisc del dev ${name}-eth0 root 2>/dev/null || true`);
  }
};

/** How a migration ends, said in one word. */
const outcomeOf = (moving: Promise<unknown>): Promise<string> => moving.then(() => 'moved', (error: Error) => (error instanceof ApiError ? error.code : error.message));

/** What must mean the same where the disk arrives as it was: its uids are free there, unlike in migrate.test.ts. */
const MAKE = `set -e; mkdir -p /srv/t; echo x >/srv/t/a; ln /srv/t/a /srv/t/b; ln -s a /srv/t/l; chown 33:33 /srv/t/a; cp /bin/true /srv/t/tool; setcap cap_net_raw=ep /srv/t/tool 2>/dev/null || true; chmod 4755 /srv/t/tool
rm /etc/issue.net; rm -rf /usr/share/doc; mkdir /usr/share/doc; echo n >/usr/share/doc/n`;
const LOOK = `cat /proc/self/uid_map; stat -c '%n %U %G %a %h %s %F' /srv/t /srv/t/*; getcap /srv/t/tool 2>/dev/null; ls -A /usr/share/doc; [ -e /etc/issue.net ] || echo no issue`;

test('a VE with addresses of the wire: both connections of a client go on, and its neighbour table follows at once', async (t) => {
  const [v4, v6] = [WIRE4(50), WIRE6(50)];
  await a.veld.createRunning('web', { 'network.addresses': `${v4},${v6}` });
  await serveTalk(a.veld, 'web');
  await serveTalk(a.veld, 'web', 7106);
  assert.equal((await a.veld.exec('web', 'sh', '-c', MAKE)).exitCode, 0);
  const [{ uidBase }, was] = [await a.veld.show('web'), (await a.veld.exec('web', 'sh', '-c', LOOK)).stdout];
  const talks = [await talkFrom(t, client, v4), await talkFrom(t, client, v6, 7106)];
  for (const [from, to] of [[a, b], [b, a]] as const) {
    for (const talk of talks) await talk.goesOn();
    for (const address of [v4, v6]) assert.equal(client.neighbour(address).mac, from.machine.mac('eth0'));
    for (const talk of talks) await talk.longest();
    const { stood, trouble } = await move(from, 'web', to);
    assert.equal(trouble, null);
    assert.equal((await to.veld.show('web')).uidBase, uidBase, 'its uids on the host are free there, and kept');
    assert.equal((await to.veld.exec('web', 'sh', '-c', LOOK)).stdout, was);
    for (const address of [v4, v6]) await until(`the client to know where ${address} is`, () => client.neighbour(address).mac === to.machine.mac('eth0'), 2500);
    for (const talk of talks) await talk.goesOn();
    t.diagnostic(`| ${from.name} to ${to.name}: stood for ${Math.round(stood!)} ms, longest silence ${(await Promise.all(talks.map((talk) => talk.longest()))).map(Math.round).join(' ms (IPv4), ')} ms (IPv6)`);
  }
  for (const talk of talks) talk.end();
});

test('a VE on a bridge: the switch learns the port behind which it is now', async (t) => {
  const address = WIRE4(60);
  const { mac } = await a.veld.createRunning('port', { 'network.mode': 'bridge', 'network.bridge': 'lan', 'network.addresses': `${address}/24` });
  await serveTalk(a.veld, 'port');
  const talk = await talkFrom(t, client, address);
  for (const [from, to] of [[a, b], [b, a]] as const) {
    await talk.goesOn();
    assert.equal(wire.portOf(mac), `${from.name}-eth1`);
    await talk.longest();
    const { stood, trouble } = await move(from, 'port', to);
    assert.equal(trouble, null);
    assert.equal(wire.portOf(mac), `${to.name}-eth1`);
    await talk.goesOn();
    assert.equal(client.neighbour(address).mac, mac);
    t.diagnostic(`| ${from.name} to ${to.name}: stood for ${Math.round(stood!)} ms, longest silence ${Math.round(await talk.longest())} ms`);
  }
  talk.end();
});

/** For tests that wait until the nodes give something up. */
const LONG = { skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' };

/** Give a VE what is on its way for some seconds. */
const fill = async ({ veld }: WiredNode, ve: string): Promise<void> => {
  const { stdout, stderr } = await veld.exec(ve, 'sh', '-c', 'head -c 60000000 /dev/urandom >/root/big; stat -c %s /root/big');
  assert.equal(stdout, '60000000\n', stderr);
};
const grown = (name: string, bytes: number): Promise<unknown> => {
  const before = wire.passed(name);
  return until(`${bytes} bytes to go to ${name}`, () => wire.passed(name) > before + bytes, 20_000, 5);
};
const incomingOf = ({ veld }: WiredNode): string => join(veld.settings.stateDir, 'incoming');

/** Wait until a daemon has stopped at its fault point, do something, and let it go on. */
async function whileStopped({ veld }: WiredNode, work: () => void): Promise<void> {
  const pid = veld.pid as number;
  await stopped(pid);
  try {
    work();
  } finally {
    process.kill(pid, 'SIGCONT');
  }
}

/** Wait until processes are on their way to a node: from the moment in which they stand it takes some seconds. */
async function processesOnTheWay(from: WiredNode, to: WiredNode, rate: string): Promise<void> {
  await whileStopped(from, () => narrow(to.name, rate));
  await until('processes to come', () => readdirSync(incomingOf(to)).some((id) => readdirSync(join(incomingOf(to), id)).length > 0), 20_000, 5);
}

/** A connection whose end has waited for long: TCP asks again later and later. */
let patient: TalkElsewhere;

test('the wire is cut before the grant is sent, for good: it stands undecided, all of it is kept, and it goes on by itself when the wire is back', LONG, async (t) => {
  t.after(whole);
  const [from, to] = await home();
  await from.veld.restart({ VELD_FAULT: 'stop:migrate.granted' });
  patient = await talkFrom({ after: (end) => void ends.push(end) }, client, WIRE6(50), 7106); // the other server has one client at a time
  const moving = outcomeOf(move(from, 'web', to));
  await whileStopped(from, () => wire.cut(to.name));
  assert.equal(await moving, 'migration.undecided');
  assert.equal((await from.veld.show('web')).status, 'suspended');
  assert.equal(await runsOn(to, 'web'), false);
  assert.equal((await from.veld.cli('resume', 'web')).code, 55);
  whole();
  const began = performance.now();
  await isAt(from, 'web', 30_000);
  t.diagnostic(`| cut for good before the grant: settled ${Math.round(performance.now() - began)} ms after the wire was back`);
  // Nobody waits until its client asks once more: what it had asked has waited here.
  const settled = performance.now();
  await patient.goesOn(60_000);
  t.diagnostic(`| a connection that has waited goes on ${Math.round(performance.now() - settled)} ms after that`);
  const talk = await talkFrom(t, client, WIRE4(50));
  await talk.goesOn();
});

for (const moment of ['disk', 'processes', 'grant'] as const) {
  test(`the wire is cut for a second in the middle of the ${moment}: it moves all the same`, moment === 'processes' ? {} : LONG, async (t) => {
    t.after(whole);
    const [from, to] = await home();
    const talk = await talkFrom(t, client, WIRE4(50));
    if (moment === 'disk') await fill(from, 'web');
    else await from.veld.restart({ VELD_FAULT: moment === 'grant' ? 'stop:migrate.granted' : 'stop:migrate.paused' });
    await talk.goesOn();
    await talk.longest();
    narrow(to.name);
    const moving = outcomeOf(move(from, 'web', to));
    if (moment === 'disk') await grown(to.name, 10e6);
    if (moment === 'processes') await processesOnTheWay(from, to, '24mbit');
    if (moment === 'grant') await whileStopped(from, () => wire.cut(to.name));
    else wire.cut(to.name);
    await sleep(1000);
    whole();
    assert.equal(await moving, 'moved');
    await isAt(to, 'web');
    await talk.goesOn();
    t.diagnostic(`| cut for 1 s, ${moment}: longest silence ${Math.round(await talk.longest())} ms`);
    await to.veld.exec('web', 'rm', '-f', '/root/big');
  });
}

test('a connection to the VE that stood undecided goes on, too', LONG, async (t) => {
  await patient.goesOn(60_000);
  t.diagnostic(`| longest silence ${Math.round(await patient.longest())} ms`);
  patient.end();
});

for (const moment of ['processes', 'disk'] as const) {
  test(`the wire is cut for good in the middle of the ${moment}: it is where it was`, LONG, async (t) => {
    t.after(whole);
    const [from, to] = await home();
    if (moment === 'disk') await fill(from, 'web');
    else await from.veld.restart({ VELD_FAULT: 'stop:migrate.paused' });
    const talk = await talkFrom(t, client, WIRE4(50));
    narrow(to.name);
    const moving = outcomeOf(move(from, 'web', to));
    if (moment === 'disk') await grown(to.name, 10e6);
    else await processesOnTheWay(from, to, '24mbit');
    wire.cut(to.name);
    const began = performance.now();
    assert.equal(await moving, 'migration.link');
    const given = Math.round(performance.now() - began);
    assert.equal(await runsOn(from, 'web'), true);
    await talk.goesOn();
    t.diagnostic(`| cut for good, ${moment}: given up after ${given} ms, longest silence ${Math.round(await talk.longest())} ms`);
    whole();
    await isAt(from, 'web');
    await until('nothing to be left of it', () => !existsSync(incomingOf(to)) || readdirSync(incomingOf(to)).length === 0);
    await from.veld.exec('web', 'rm', '-f', '/root/big');
  });
}

test('the wire is cut when it was taken, before that is said: it runs on the target alone, and the source finds out when the wire is back', LONG, async (t) => {
  t.after(whole);
  const [from, to] = await home();
  await to.veld.restart({ VELD_FAULT: 'stop:migrate-in.owned' });
  const talk = await talkFrom(t, client, WIRE4(50));
  const moving = outcomeOf(move(from, 'web', to));
  await whileStopped(to, () => wire.cut(to.name));
  await until('it to run there', () => runsOn(to, 'web'));
  // Until the source has given up the connection, and asks.
  const end = performance.now() + 17_000;
  while (performance.now() < end) {
    assert.equal(await runsOn(from, 'web'), false);
    await sleep(500);
  }
  whole();
  assert.equal(await moving, 'moved');
  await isAt(to, 'web');
  await talk.goesOn();
  t.diagnostic(`| cut for 17 s after the grant: longest silence ${Math.round(await talk.longest())} ms`);
});

test('nothing is left in any of the networks', async () => {
  for (const ve of ['web', 'port']) for (const { veld } of [a, b]) await veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`).catch(() => {});
  for (const { machine, veld } of [a, b]) {
    const left = machine.sh('sh', '-c', 'ip -o link; ip neigh show proxy; ip -6 neigh show proxy; ip route; ip -6 route').split('\n').filter((line) => line.includes(`v${veld.name}-`) || /proxy|192\.0\.2\.[56]|2001:db8:1::[56]/.test(line));
    assert.deepEqual(left, []);
  }
});
