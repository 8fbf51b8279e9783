/** Traffic of real VEs by class, over all that may happen to a VE. What counts, and how exactly: src/network/traffic.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Traffic } from '../../src/network/types.ts';
import type { TrafficReport } from '../../src/ve/types.ts';
import { makeTwoNodes, type RelayedNode } from '../lib/two-nodes.ts';

const nodes = await makeTwoNodes();
after(() => nodes.destroy());
const { a, b } = nodes;
const web = await a.veld.createRunning('web');
const db = await a.veld.createRunning('db');
const UDP4 = 28;
const [BYTES, COUNT] = [1000, 30];

const ipv4 = ({ addresses }: { addresses: string[] }): string => addresses.find((address) => !address.includes(':'))!;
const sums = async (node: RelayedNode, name = 'web'): Promise<Record<string, Traffic>> => (await node.veld.json<TrafficReport>('traffic', name)).ves[0]!.classes;
/** Let datagrams go from the VE. */
const send = async (node: RelayedNode, to: string): Promise<void> => {
  const { exitCode, stderr } = await node.veld.exec('web', 'bash', '-ec', `for i in $(seq ${COUNT}); do printf '%${BYTES}s' x >/dev/udp/${to}/7000; done`);
  assert.equal(exitCode, 0, stderr);
};
/** What a VE has sent more than before; whoever hears nothing says so, once in a while, and something else may have been said. */
const grew = (before: Traffic, now: Traffic): void => {
  const bytes = now.txBytes - before.txBytes;
  assert.ok(bytes >= COUNT * (BYTES + UDP4) && bytes < COUNT * (BYTES + UDP4) + 5000, `${bytes} bytes`);
};
const least = (before: Record<string, Traffic>, now: Record<string, Traffic>, what: string): void => {
  for (const [name, { rxBytes, txBytes }] of Object.entries(before)) assert.ok(now[name]!.rxBytes >= rxBytes && now[name]!.txBytes >= txBytes && now[name]!.txBytes < txBytes + 10_000, `${what}: ${name} ${JSON.stringify([before, now])}`);
};

test('from VE to VE is inside, on both sides; to somebody else it is outside; what the kernel drops of its own is not counted twice', async () => {
  const [before, other] = [await sums(a), await sums(a, 'db')];
  await send(a, ipv4(db));
  const [now, then] = [await sums(a), await sums(a, 'db')];
  grew(before.inside!, now.inside!);
  assert.ok(then.inside!.rxBytes - other.inside!.rxBytes >= COUNT * (BYTES + UDP4));
  assert.equal(now.outside!.txBytes, before.outside!.txBytes);
  const { stdout } = await a.veld.cli('traffic', 'web', '--bytes');
  assert.match(stdout, new RegExp(`^web +inside +${now.inside!.rxBytes} +\\d+ +${now.inside!.txBytes} +\\d+$`, 'm'));
  const metrics = await a.veld.api.call<string>('GET', '/metrics');
  assert.ok(Number(new RegExp(`^veld_ve_class_transmit_bytes_total\\{ve="web",number="${web.number}",class="inside"\\} (\\d+)$`, 'm').exec(metrics)![1]) >= now.inside!.txBytes);
});

test('sums go on over a daemon that is killed, other classes, a flushed firewall, a restart, suspend and resume, and a roll-back', async () => {
  let before = await sums(a);
  await a.veld.kill9();
  await send0(ipv4(db));
  await a.veld.start();
  let now = await sums(a);
  grew(before.inside!, now.inside!);
  const steps: [string, () => Promise<unknown>][] = [
    ['another start', () => a.veld.restart()],
    ['a restart of the VE', () => a.veld.api.operate('POST', '/v1/ves/web/restart')],
    ['a suspend', () => a.veld.api.operate('POST', '/v1/ves/web/suspend')],
    ['a resume', () => a.veld.api.operate('POST', '/v1/ves/web/resume')],
    ['a snapshot', () => a.veld.api.operate('POST', '/v1/ves/web/snapshots', { name: 'one', live: true })],
    ['a roll-back', () => a.veld.api.operate('POST', '/v1/ves/web/snapshots/one/restore')],
    ['a stop', () => a.veld.api.operate('POST', '/v1/ves/web/stop')],
    ['a start', () => a.veld.api.operate('POST', '/v1/ves/web/start')],
  ];
  for (const [what, step] of steps) {
    before = await sums(a);
    await step();
    now = await sums(a);
    least(before, now, what);
  }
  assert.ok(now.inside!.txBytes > 2 * COUNT * BYTES);
});

test('a VE that moves takes them along, running and at rest, there and back; a clone begins with nothing; where it was nothing is left', async () => {
  const before = await sums(a, 'db');
  assert.ok(before.inside!.rxBytes > 2 * COUNT * BYTES);
  const counters = ({ veld }: RelayedNode): string[] => spawnSync('nft', ['list', 'table', 'inet', `veld_${veld.name}_kept`], { encoding: 'utf8' }).stdout.match(/counter [rt]x_\d+_\w+/g) ?? [];
  const files = ({ veld }: RelayedNode): string[] => readdirSync(join(veld.settings.stateDir, 'traffic'));
  await a.veld.api.operate('POST', '/v1/ves/db/clone', { name: 'twin', live: true });
  assert.ok((await sums(a, 'twin')).inside!.rxBytes < 10_000);
  await a.veld.api.operate('POST', '/v1/ves/db/migrate', { node: b.name });
  const now = await sums(b, 'db');
  least(before, now, 'moved');
  assert.ok(!counters(a).some((name) => name.includes(`_${db.number}_`)), counters(a).join());
  assert.ok(!files(a).includes(db.uuid));
  await b.veld.api.operate('POST', '/v1/ves/db/migrate', { node: a.name });
  least(now, await sums(a, 'db'), 'back');
  await a.veld.api.operate('POST', '/v1/ves/db/stop');
  await a.veld.api.operate('POST', '/v1/ves/db/migrate', { node: b.name });
  least(now, await sums(b, 'db'), 'at rest');
  await b.veld.api.operate('DELETE', '/v1/ves/db');
  assert.deepEqual([files(b), counters(b), (await b.veld.json<TrafficReport>('traffic')).ves], [[], [], []]);
});

test('a VE that was rolled back, and has deleted files of its layers, moves, too (on XFS these are marked by another owner)', async () => {
  assert.equal((await a.veld.exec('web', 'rm', '/etc/debian_version')).exitCode, 0);
  const before = await sums(a);
  await a.veld.api.operate('POST', '/v1/ves/web/migrate', { node: b.name });
  least(before, await sums(b), 'moved');
  assert.notEqual((await b.veld.exec('web', 'cat', '/etc/debian_version')).exitCode, 0);
});

/** The same while no daemon runs. */
async function send0(to: string): Promise<void> {
  const script = `for i in $(seq ${COUNT}); do printf '%${BYTES}s' x >/dev/udp/${to}/7000; done`;
  assert.equal(spawnSync('nsenter', ['-t', String(web.pid), '-n', 'bash', '-ec', script]).status, 0);
}
