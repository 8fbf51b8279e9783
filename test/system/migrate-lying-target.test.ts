/** A daemon that moves a VE to a node that lies: whatever that says, and wherever it goes away, the VE runs on at the source; nothing that it says reaches a terminal as it is. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { after, before, test } from 'node:test';
import { holdings, isWell, makeLiar } from '../lib/liar.ts';
import { makeNode } from '../lib/nodes.ts';
import { assertSame } from '../lib/same.ts';
import type { FrameStream, Message } from '../../src/migration/frames.ts';
import type { PartMessage, StateMessage, TreeMessage } from '../../src/migration/types.ts';

const a = await makeNode('alpha', { settings: (own) => { own.network.uplinks = ['lo']; } });
const liar = await makeLiar('liar');
after(async () => {
  await liar.close();
  await a.destroy();
});
await a.start();
await liar.pair(a);

let was: { held: string[]; traces: string[]; pid: number | undefined; boot: string };
const boot = async (): Promise<string> => {
  const { stdout } = await a.exec('web', 'sh', '-c', 'cat /proc/sys/kernel/random/boot_id; systemctl show -p MainPID --value ssh.service');
  return stdout;
};
before(async () => {
  await a.createRunning('web');
  await a.booted('web');
  was = { held: holdings(a), traces: a.outline(), pid: a.pid, boot: await boot() };
});

const ESCAPE = '\u001b]0;owned\u0007\u001b[2J\u202e';
const nowhere = (): Writable => new Writable({ write: (_chunk, _encoding, done) => done() });
const say = (link: FrameStream, message: Record<string, unknown>): void => link.send(message as unknown as Message);

/** Take all that comes, up to a step. @param each called before a tree is answered; false when it has answered itself */
async function take(link: FrameStream, each: (message: Pick<TreeMessage, 'last'> & { type: string }, count: number) => boolean | Promise<boolean> = () => true): Promise<void> {
  for (let count = 1; ; count++) {
    const message = await link.receive<TreeMessage | StateMessage | PartMessage>('template', 'layer', 'round', 'state', 'part');
    if (message.type === 'part') {
      await link.receiveBulk(nowhere());
      continue;
    }
    if (!await each(message, count)) return;
    if (message.type !== 'state' && (message.removes ?? 0) > 0) await link.receiveBulk(nowhere());
    await link.receiveBulk(nowhere());
    link.send({ type: 'done' });
    if (message.type === 'state') return;
  }
}

const accept = { type: 'accept', template: false, notes: [] };

/** What the target does when it has the offer, and what the user is told. `asked`: what it answers when it is asked what has become of it. */
const LIES: [what: string, lie: (link: FrameStream) => Promise<void>, says: RegExp][] = [
  ['goes away at once', async () => {}, /migration.link/],
  ['answers with something else', async (link) => say(link, { type: 'owned' }), /migration.stream/],
  ['accepts without words', async (link) => say(link, { type: 'accept' }), /migration.stream/],
  ['accepts with notes that are none', async (link) => say(link, { type: 'accept', template: false, notes: [{ toString: 1 }] }), /migration.stream/],
  ['refuses without a reason', async (link) => say(link, { type: 'refuse', error: null }), /migration.refused.*did not say why/],
  ['refuses with escape sequences', async (link) => say(link, { type: 'refuse', error: { code: 've.name_taken', message: `no${ESCAPE}`, hint: ESCAPE } }), /ve.name_taken.*The other node says: no/],
  ['refuses with a code of its own', async (link) => say(link, { type: 'refuse', error: { code: '__proto__', message: 'no' } }), /migration.refused/],
  ['accepts, and goes away', async (link) => say(link, accept), /migration.link/],
  ['accepts, then refuses', async (link) => {
    say(link, accept);
    say(link, { type: 'refuse', error: { code: 'disk.full', message: 'full', hint: '' } });
  }, /disk.full|migration.link/],
  ['has it before it was sent', async (link) => {
    say(link, accept);
    say(link, { type: 'owned' });
  }, /migration.stream|migration.link/],
  ['is done before it was sent', async (link) => {
    say(link, accept);
    await link.receive('round');
    say(link, { type: 'done' });
    await take(link);
  }, /migration.stream.*was not sent yet|migration.link/],
  ['goes away in the middle of the disk', async (link) => {
    say(link, accept);
    await link.receive('round');
  }, /migration.link/],
  ['goes away before the last round', async (link) => {
    say(link, accept);
    await take(link, ({ last }) => last !== true);
  }, /migration.link/],
  ['goes away before the state', async (link) => {
    say(link, accept);
    await take(link, ({ type }) => type !== 'state');
  }, /migration.link/],
  ['refuses the state', async (link) => {
    say(link, accept);
    await take(link, ({ type }) => {
      if (type === 'state') say(link, { type: 'refuse', error: { code: 'restore.failed', message: 'no', hint: '' } });
      return type !== 'state';
    });
    await link.receive('x').catch(() => {});
  }, /restore.failed|migration.link/],
  ['has it before it is prepared', async (link) => {
    say(link, accept);
    await take(link);
    say(link, { type: 'owned' });
  }, /migration.stream/],
  ['goes away before it is prepared', async (link) => {
    say(link, accept);
    await take(link);
  }, /migration.link/],
  ['is prepared, and then has nothing', async (link) => {
    say(link, accept);
    await take(link);
    say(link, { type: 'prepared' });
    await link.receive('grant');
    say(link, { type: 'refuse', error: { code: 'internal', message: ESCAPE, hint: '' } });
  }, /migration.refused.*did not take/],
];

for (const [what, lie, says] of LIES) {
  test(`a target that ${what}: the VE runs on`, async () => {
    liar.serve(async (link) => {
      const first = await link.receive<Message>('offer', 'ask');
      if (first.type === 'offer') await lie(link);
      else say(link, { type: 'answer', outcome: 'nothing' });
      // Whoever goes away has sent what it said.
      await link.finish(10_000);
    });
    const { code, stdout, stderr } = await a.cli('migrate', 'web', 'liar');
    assert.notEqual(code, 0);
    // eslint-disable-next-line no-control-regex
    assert.ok(!/[\u001b\u0007\u202e]/.test(stdout + stderr), JSON.stringify(stdout + stderr));
    // The newest is the first.
    const [last] = (await a.api.call<{ kind: string; error: { code: string; message: string } | null }[]>('GET', '/v1/operations')).filter(({ kind }) => kind === 'migrate');
    assert.match(`${last?.error?.code} ${last?.error?.message}`, says);
    assert.equal(await boot(), was.boot);
    assert.equal((await a.exec('web', 'systemd-run', '--quiet', '--wait', 'true')).exitCode, 0);
    assertSame(holdings(a), was.held, 'state folder');
    assertSame(a.outline(), was.traces, 'traces');
    await isWell(a, was.pid);
  });
}

test('a VE that was granted is asked after, and answers that are none are no answers', { timeout: 120_000 }, async () => {
  let asked = 0;
  liar.serve(async (link) => {
    const first = await link.receive<Message>('offer', 'ask');
    if (first.type === 'offer') {
      say(link, accept);
      await take(link);
      say(link, { type: 'prepared' });
      await link.receive('grant');
    } else {
      asked += 1;
      say(link, { type: 'answer', outcome: [['owned'], 'OWNED', { outcome: 'owned' }, 1, 'nothing'][asked - 1] });
    }
    await link.finish(10_000);
  });
  assert.notEqual((await a.cli('migrate', 'web', 'liar')).code, 0);
  assert.equal(asked, 5);
  assert.equal(await boot(), was.boot);
  assertSame(holdings(a), was.held, 'state folder');
});

test('one that keeps a VE standing by signs of life is not waited for longer than a minute or so', { timeout: 200_000, skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async () => {
  liar.serve(async (link) => {
    await link.receive('offer');
    say(link, accept);
    await take(link);
    await link.receive('x'); // nothing but that it lives
  });
  const began = performance.now();
  const { stderr } = await a.cli('migrate', 'web', 'liar');
  assert.match(stderr, /signs of life/);
  assert.ok(performance.now() - began < 90_000);
  assert.equal(await boot(), was.boot);
  await isWell(a, was.pid);
});

test('what it says of a VE that it has taken reaches no terminal as it is', async () => {
  liar.serve(async (link) => {
    await link.receive('offer');
    say(link, { ...accept, notes: [`note${ESCAPE}`, ...Array.from({ length: 1000 }, () => 'more')] });
    await take(link);
    say(link, { type: 'prepared' });
    await link.receive('grant');
    say(link, { type: 'owned' });
    say(link, { type: 'arrived', number: ESCAPE, addresses: ESCAPE, trouble: { message: ESCAPE } });
    await link.finish();
  });
  const { code, stdout, stderr } = await a.cli('migrate', 'web', 'liar');
  assert.equal(code, 0, stderr);
  // eslint-disable-next-line no-control-regex
  assert.ok(!/[\u001b\u0007\u202e]/.test(stdout + stderr), JSON.stringify(stdout));
  assert.ok(stdout.split('\n').length < 30);
  assert.match(stdout, /did not say in words/);
  assert.deepEqual(await a.list(), []);
  await isWell(a, was.pid);
});
