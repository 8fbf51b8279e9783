/** The table that a VE reads of itself, where it asks for it: in step, its own, out of its root's reach, and no hindrance to anything. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Beancounters } from '../../src/spec/beancounters/table.ts';
import { makeTwoNodes, type RelayedNode } from '../lib/two-nodes.ts';
import { until } from '../lib/wait.ts';

const FILE = '/run/veld/user_beancounters';
const nodes = await makeTwoNodes();
after(() => nodes.destroy());
const { a, b } = nodes;
const web = await a.veld.createRunning('web', { 'features.beancounters': 'on' });
await a.veld.createRunning('plain');
await a.veld.booted('web');

const read = async ({ veld }: RelayedNode, name = 'web'): Promise<string> => {
  const { exitCode, stdout, stderr } = await veld.exec(name, 'cat', FILE);
  assert.equal(exitCode, 0, stderr);
  return stdout;
};
const held = (text: string, row: string): number => Number(new RegExp(`${row} +(\\d+)`).exec(text)?.[1]);
/** Wait until the file says what it should; it is a second old at most, and each look is a process more. */
const current = async (node: RelayedNode, name = 'web'): Promise<string> => {
  const { number } = await node.veld.show(name);
  let text = '';
  await until('the table to be of now', async () => {
    text = await read(node, name);
    return new RegExp(`^ +${number}: kmemsize`, 'm').test(text) && held(text, 'numproc') >= 2 && held(text, 'physpages') > 100;
  }, 10_000);
  return text;
};
const operate = (path: string, body?: object, node: RelayedNode = a): Promise<unknown> => node.veld.api.operate('POST', `/v1/ves/${path}`, body);

test('it is OpenVZ\'s table of this VE, and follows what happens; who has not asked has no file', async () => {
  const text = await current(a);
  const lines = text.split('\n');
  assert.deepEqual([lines[0], lines.length], ['Version: 2.5', 28]);
  assert.ok(lines.slice(1, -1).every((line) => line.length === lines[1]!.length), 'columns');
  const { rows } = await a.veld.json<Beancounters>('ubc', 'web');
  assert.equal(/physpages.*/.exec(text)![0].split(/ +/)[4], String(rows.find(({ name }) => name === 'physpages')!.limit ?? '9223372036854775807'));
  const before = held(text, 'numproc');
  assert.equal((await a.veld.exec('web', 'bash', '-c', 'for i in $(seq 20); do setsid sleep 300 >/dev/null 2>&1 & done')).exitCode, 0);
  await until('20 more', async () => held(await read(a), 'numproc') >= before + 15, 10_000);
  await a.veld.exec('web', 'pkill', 'sleep');
  await until('20 less', async () => held(await read(a), 'numproc') < before + 10, 10_000);
  assert.notEqual((await a.veld.exec('plain', 'cat', FILE)).exitCode, 0);
  assert.ok(!existsSync(join(a.veld.settings.runDir, 'ves', String((await a.veld.show('plain')).number), 'user_beancounters')));
});

test('the VE\'s root cannot write it, and it says nothing of others', async () => {
  for (const attack of [`echo forged >${FILE}`, `chmod 666 ${FILE}`, `chown root ${FILE}`, `truncate -s 0 ${FILE}`, `rm -f ${FILE}`, `mount -o remount,rw ${FILE} && echo forged >${FILE}`, `mv ${FILE} /tmp/`]) {
    assert.notEqual((await a.veld.exec('web', 'sh', '-c', attack)).exitCode, 0, attack);
  }
  const text = await current(a);
  assert.doesNotMatch(text, /forged/);
  assert.equal([...text.matchAll(/^ +(\d+):/gm)].map(([, number]) => number).join(), String(web.number));
  // What somebody puts in its place is the VE's own affair: the daemon does not follow.
  await a.veld.exec('web', 'sh', '-c', `mount --bind /etc/hostname ${FILE}`);
  await current2();
  await a.veld.exec('web', 'umount', FILE);
  await current(a);
});

test('with a program that has it open: suspend, resume, live snapshot, roll-back, a restart of the daemon, a reboot inside', async () => {
  await a.veld.exec('web', 'systemd-run', '--quiet', '--unit=reader', 'bash', '-c', `exec 3<${FILE}; while sleep 1; do cat ${FILE} <&3 >/dev/null; done`);
  await operate('web/suspend');
  await operate('web/resume');
  await current(a);
  await operate('web/snapshots', { name: 'one', live: true });
  await current(a);
  await operate('web/snapshots/one/restore');
  await current(a);
  assert.equal((await a.veld.exec('web', 'systemctl', 'is-active', 'reader')).stdout.trim(), 'active');
  await a.veld.restart();
  await current(a);
  const before = (await a.veld.show('web')).pid;
  await a.veld.exec('web', 'systemctl', '--no-block', 'reboot');
  await until('another init', async () => { const { pid } = await a.veld.show('web'); return pid !== null && pid !== before; }, 60_000);
  await a.veld.booted('web');
  await current(a);
});

test('a live clone reads its own; whoever asks has it with the next boot, and where it moves while it runs', async () => {
  await operate('web/clone', { name: 'twin', live: true });
  const twin = await a.veld.show('twin');
  assert.match(await current(a, 'twin'), new RegExp(`^ +${twin.number}: kmemsize`, 'm'));
  await a.veld.api.operate('PATCH', '/v1/ves/plain/properties', { changes: { 'features.beancounters': 'on' }, nextStart: true });
  assert.notEqual((await a.veld.exec('plain', 'cat', FILE)).exitCode, 0);
  await operate('plain/restart');
  await a.veld.booted('plain');
  await current(a, 'plain');
  await operate('plain/migrate', { node: b.name });
  await current(b, 'plain');
  const { number } = await b.veld.show('plain');
  await b.veld.api.operate('DELETE', '/v1/ves/plain?force=true');
  assert.ok(!existsSync(join(b.veld.settings.runDir, 'ves', String(number))));
});

/** The daemon goes on writing to its own file. */
async function current2(): Promise<void> {
  const file = join(a.veld.settings.runDir, 'ves', String(web.number), 'user_beancounters');
  const stamp = (): string => spawnSync('stat', ['-c', '%y', file], { encoding: 'utf8' }).stdout;
  const before = stamp();
  await until('the next round', () => stamp() !== before, 10_000);
  assert.match((await a.veld.exec('web', 'cat', '/etc/hostname')).stdout, /^web$/m);
}
