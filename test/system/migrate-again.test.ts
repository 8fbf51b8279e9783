/** After a migration that broke: those who have waited for the VE are answered, and it can be tried again at once. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { after, test } from 'node:test';
import { ApiError } from '../lib/http.ts';
import { makeTwoNodes, startNode, type RelayedNode } from '../lib/two-nodes.ts';
import { until } from '../lib/wait.ts';
import { stopped } from '../lib/wire.ts';

const nodes = await makeTwoNodes();
after(() => nodes.destroy());
const { a, b } = nodes;
await a.veld.createRunning('web');

const ECHO = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(Proto => "udp", LocalHost => "0.0.0.0", LocalPort => 7300) or die $@; while (1) { $s->recv(my $b, 99); $s->send($b) }';
const move = (from: RelayedNode, to: RelayedNode): Promise<string> => from.veld.api.operate('POST', '/v1/ves/web/migrate', { node: to.name })
  .then(() => 'moved', (error: Error) => (error instanceof ApiError ? `${error.code} ${error.message}` : 'its daemon died'));
const runsOn = async ({ veld }: RelayedNode): Promise<boolean> => (await veld.list()).some(({ name, status }) => name === 'web' && status === 'running');

test('what is sent to a VE while it is not known whose it is waits, and is answered when that is settled', { skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async (t) => {
  assert.equal((await a.veld.exec('web', 'systemd-run', '--quiet', '--unit=echo', 'perl', '-e', ECHO)).exitCode, 0);
  const address = (await a.veld.show('web')).addresses.find((each) => !each.includes(':'))!;
  const socket = createSocket('udp4').bind(0);
  t.after(() => void socket.close());
  await once(socket, 'listening');
  const heard: string[] = [];
  socket.on('message', (data) => heard.push(data.toString()));
  const ask = (word: string): void => socket.send(word, 7300, address);
  await until('an answer', () => {
    ask('hello');
    return heard.includes('hello');
  });
  a.stopAt('migrate.granted');
  const moving = move(a, b);
  await stopped(a.veld.pid!);
  for (const { relay } of [a, b]) relay.cut();
  process.kill(a.veld.pid!, 'SIGCONT');
  ask('early');
  assert.match(await moving, /migration\.undecided/);
  assert.equal((await a.veld.show('web')).status, 'suspended');
  for (let i = 0; i < 5; i++) ask(`late${i}`);
  for (const { relay } of [a, b]) relay.mend();
  await until('it to run where it was', () => runsOn(a), 60_000);
  await until('all answers', () => heard.length >= 7 && ['early', ...Array.from({ length: 5 }, (_, i) => `late${i}`)].every((word) => heard.includes(word)), 30_000);
});

test('a VE is offered anew while the other node still believes in the connection that has died: it takes it', async () => {
  b.stopAt('migrate-in.disk');
  const moving = move(a, b);
  await stopped(b.veld.pid!);
  b.relay.strand();
  process.kill(b.veld.pid!, 'SIGCONT');
  await a.veld.kill9();
  await moving;
  await startNode(a);
  assert.ok((await b.veld.api.call<{ state: string }[]>('GET', '/v1/operations')).some(({ state }) => state === 'running'), 'it waits for the rest');
  assert.equal(await move(a, b), 'moved');
  assert.deepEqual([await runsOn(a), await runsOn(b)], [false, true]);
});
