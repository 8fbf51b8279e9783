/** The quota tools, on accounts of a made-up VE. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { DiskLimits, DiskUser } from '../../storage/types.ts';
import { runTool } from './tools.ts';
import type { AccountKind, ToolAnswer } from './types.ts';

const KiB = 1024;
const DAY = 86_400;

function bench(uid = 0, groups = [uid]) {
  const users: DiskUser[] = [
    { id: 0, limits: { space: null, inodes: null }, used: { space: 123_456 * KiB, inodes: 4321, spaceUntil: null, inodesUntil: null } },
    { id: 1000, limits: { space: { soft: 1000 * KiB, hard: 2000 * KiB }, inodes: { soft: 50, hard: 50 } }, used: { space: 1024 * KiB, inodes: 7, spaceUntil: 6 * DAY, inodesUntil: null } },
    { id: 1001, limits: { space: { soft: 10 * KiB, hard: null }, inodes: null }, used: { space: 20 * KiB, inodes: 1, spaceUntil: -1, inodesUntil: null } },
    { id: 1003, limits: { space: null, inodes: null }, used: { space: 4 * KiB, inodes: 1, spaceUntil: null, inodesUntil: null } },
  ];
  const all: Record<AccountKind, DiskUser[]> = { user: users, group: [{ id: 100, limits: { space: { soft: 5 * KiB, hard: 5 * KiB }, inodes: null }, used: { space: 5 * KiB, inodes: 3, spaceUntil: null, inodesUntil: null } }] };
  const names: Record<AccountKind, Map<number, string>> = { user: new Map([[0, 'root'], [1000, 'alice'], [1001, 'bob'], [1002, 'carol']]), group: new Map([[0, 'root'], [100, 'users']]) };
  const set: [kind: AccountKind, id: number, limits: DiskLimits][] = [];
  const graces: number[] = [];
  const accounts = {
    of: (kind: AccountKind) => all[kind], names: (kind: AccountKind) => names[kind], grace: 7 * DAY, now: 0,
    limit(kind: AccountKind, id: number, limits: DiskLimits) { set.push([kind, id, limits]); },
    setGrace: async (seconds: number) => void graces.push(seconds),
  };
  const call = (line: string, text?: string): Promise<ToolAnswer> => {
    const [tool = '', ...words] = line.split(' ');
    return runTool(tool, { words, text, caller: { uid, groups }, accounts });
  };
  return { call, set, graces };
}

test('quota: the own account, those of others for root only', async () => {
  const alice = bench(1000, [1000, 100]);
  assert.deepEqual(await alice.call('quota'), { status: 1, out:
    'Disk quotas for user alice (uid 1000): \n'
    + '     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace\n'
    + '        overlay    1024*   1000    2000   6days       7       0      50        \n' });
  assert.match((await alice.call('quota -g')).out!, /group #1000 \(gid 1000\): none\n.*group users \(gid 100\): \n[\s\S]* 5\*/);
  for (const line of ['quota bob', 'quota -u root', 'quota -g 0', 'repquota -a', 'setquota alice 0 0 0 0 /', 'edquota alice', 'warnquota']) {
    const { status, err, out } = await alice.call(line);
    assert.equal(status, 1, line);
    assert.match(err!, /only root may/, line);
    assert.equal(out, undefined);
  }
  assert.deepEqual(alice.set, []);
  const root = bench();
  assert.equal((await root.call('quota')).out, 'Disk quotas for user root (uid 0): none\n');
  assert.match((await root.call('quota -v carol')).out!, /carol \(uid 1002\): \n.*\n +overlay +0 +0 +0 +0 +0 +0 *\n/);
  assert.match((await root.call('quota bob')).out!, / 20\* +10 +0 +none /);
  assert.equal((await root.call('quota -q alice bob')).out, 'Disk quotas for user alice (uid 1000):\n\tIn block grace period on /\nDisk quotas for user bob (uid 1001):\n\tOver block quota on /\n');
  assert.match((await root.call('quota -s alice')).out!, / 1024K\* +1000K +2000K /);
  assert.match((await root.call('quota nobody-such')).err!, /^quota: user nobody-such does not exist\.\n$/);
  assert.match((await root.call('quota --frobnicate')).err!, /Unknown option/);
  assert.match((await root.call('quota -f /mnt alice')).err!, /not found or has no quota enabled/);
});

test('repquota: the format that scripts read', async () => {
  const root = bench();
  assert.equal((await root.call('repquota -a')).out, `*** Report for user quotas on device overlay
Block grace time: 7days; Inode grace time: 7days
                        Block limits                File limits
User            used    soft    hard  grace    used  soft  hard  grace
----------------------------------------------------------------------
root      --  123456       0       0           4321     0     0       
alice     +-    1024    1000    2000  6days       7     0    50       
bob       +-      20      10       0   none       1     0     0       
#1003     --       4       0       0              1     0     0       
`);
  assert.match((await root.call('repquota -ugn /')).out!, /^#1000 [\s\S]*\n\n\*\*\* Report for group quotas on device overlay\n[\s\S]*^#100 +\+-/m);
  assert.equal((await root.call('repquota -a -O csv')).out!.split('\n')[2], 'alice,soft,ok,1024,1000,2000,6days,7,0,50,');
  assert.match((await root.call('repquota')).err!, /give -a/);
  assert.match((await root.call('repquota /home')).err!, /\/home not found/);
});

test('setquota: words, a model, lines, the time of grace', async () => {
  const { call, set, graces } = bench();
  assert.deepEqual(await call('setquota -u alice 900 1M 0 10k -a'), { status: 0 });
  assert.deepEqual(await call('setquota -g 100 0 0 0 0 /'), { status: 0 });
  assert.deepEqual(await call('setquota carol 5 0 3 0 overlay'), { status: 0 });
  assert.deepEqual(await call('setquota -p alice bob -a'), { status: 0 });
  assert.deepEqual(set.splice(0), [
    ['user', 1000, { space: { soft: 900 * KiB, hard: KiB * KiB }, inodes: { soft: 10_000, hard: 10_000 } }],
    ['group', 100, { space: null, inodes: null }],
    ['user', 1002, { space: { soft: 5 * KiB, hard: null }, inodes: { soft: 3, hard: null } }],
    ['user', 1001, { space: { soft: 1000 * KiB, hard: 2000 * KiB }, inodes: { soft: 50, hard: 50 } }],
  ]);
  for (const [line, why] of [['alice 10 5 0 0 -a', /above the hard/], ['alice 10 x 0 0 -a', /no number of blocks/], ['alice 1 1 1 -a', /Usage/], ['alice 1 1 1 1', /Usage/], ['alice 1 1 1 1 / -a', /Usage/], ['-ug alice 1 1 1 1 -a', /not both/], ['alice 1 1 1 1 /srv', /no quota enabled/], ['alice -5 1 1 1 -a', /Unknown option|ambiguous|no number/], ['alice 999999999999999T 0 0 0 -a', /more than can be counted/]] as const) {
    assert.match((await call(`setquota ${line}`)).err!, why, line);
  }
  assert.deepEqual(await call('setquota -b -a'), { status: 0, input: true });
  const lines = await call('setquota -b -a', 'alice 1 2 3 4\n# a remark\n\nnobody-such 1 1 1 1\nbob 5 6 7 8\n');
  assert.equal(lines.status, 1);
  assert.match(lines.err!, /line 4: user nobody-such does not exist\. The lines before it hold\./);
  assert.deepEqual(set.splice(0), [['user', 1000, { space: { soft: KiB, hard: 2 * KiB }, inodes: { soft: 3, hard: 4 } }]]);
  assert.equal((await call('setquota -b -c -a', 'nobody-such 1 1 1 1\nbob 5 6 7 8\n')).status, 1);
  assert.equal(set.length, 1, '-c goes on');
  assert.deepEqual(await call('setquota -t 3600 3600 -a'), { status: 0 });
  assert.match((await call('setquota -t 3600 60 -a')).err!, /the same one twice/);
  assert.match((await call('setquota -t 0 0 -a')).err!, /no time of grace/);
  assert.deepEqual(graces, [3600]);
});

test('edquota: what is edited holds, wholly or not at all', async () => {
  const { call, set, graces } = bench();
  const { edit } = await call('edquota alice bob');
  assert.match(edit!, /^Disk quotas for user alice \(uid 1000\):\n {2}Filesystem +blocks +soft +hard +inodes +soft +hard\n {2}overlay +1024 +1000 +2000 +7 +0 +50\n\nDisk quotas for user bob/);
  assert.deepEqual(await call('edquota alice bob', edit!.replace('1000       2000', '3M       0')), { status: 0 });
  assert.deepEqual(set.splice(0), [
    ['user', 1000, { space: { soft: 3 * KiB * KiB, hard: null }, inodes: { soft: 50, hard: 50 } }], ['user', 1001, { space: { soft: 10 * KiB, hard: null }, inodes: null }],
  ]);
  for (const text of [edit!.replace(' 20 ', ' 20 what '), edit!.replace('uid 1001', 'uid 0'), `${edit}xyz\n`, edit!.replace('Disk quotas for user alice', 'alice')]) {
    assert.match((await call('edquota alice bob', text)).err!, /nothing is changed/, text);
  }
  assert.equal(set.length, 0);
  await call('edquota -p alice carol 1003');
  assert.deepEqual(set.map(([, id]) => id), [1002, 1003]);
  const grace = (await call('edquota -t')).edit!;
  assert.match(grace, /overlay +7days +7days/);
  assert.deepEqual(await call('edquota -t', grace.replaceAll('7days', '12 hours')), { status: 0 });
  assert.deepEqual(graces, [12 * 3600]);
  assert.match((await call('edquota -t', grace.replace('7days', '6days'))).err!, /the same one twice/);
  assert.match((await call('edquota')).err!, /name whose/);
});

test('warnquota: a mail to each who has too much, and to root for a group', async () => {
  const { mails } = await bench().call('warnquota -ug');
  assert.deepEqual(mails!.map((mail) => /^To: (.*)$/m.exec(mail)![1]), ['alice', 'bob', 'root']);
  assert.match(mails![0]!, /^overlay +\+- +1024 +1000 +2000 +6days/m);
  assert.match(mails![2]!, /The disk usage of the group users has exceeded/);
});

test('what is no tool, and what every tool says', async () => {
  const { call } = bench();
  for (const name of ['rm', 'constructor', '__proto__', '']) assert.match((await call(name)).err!, /no such tool/);
  assert.match((await call('setquota --help')).out!, /setquota\(8\)/);
  assert.equal((await call('quota -V')).status, 0);
});
