/** Nodes: two real daemons that pair, use each other's API, and part. What strangers can do is in nodes-strangers.test.ts. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { listen } from '../lib/events.ts';
import { makeNode, pair } from '../lib/nodes.ts';
import { until } from '../lib/wait.ts';
import type { NodeView } from '../../src/cluster/types.ts';

const a = await makeNode('alpha');
const b = await makeNode('beta');
after(async () => {
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();

test('a token and one command make a pair; each shows the other', async () => {
  const events = await listen(b.api);
  await pair(a, b, 'beta', { there: 'manage,migrate' });
  const [there] = await a.json<NodeView[]>('node', 'list');
  const [here] = await b.json<NodeView[]>('node', 'list');
  assert.deepEqual([there!.name, there!.state, there!.allow, there!.allowed], ['beta', 'ok', ['migrate'], ['manage', 'migrate']]);
  assert.deepEqual([here!.name, here!.state, here!.allow, here!.allowed], ['alpha', 'ok', ['manage', 'migrate'], ['migrate']]);
  assert.ok(there!.rtt! > 0 && there!.rtt! < 2000 && Math.abs(there!.clock!) < 500, JSON.stringify(there));
  assert.equal(there!.version, '0.1.0');
  assert.match(there!.engine!, /^[0-9a-f]+$/);
  await events.next('node.paired');
  events.close();
  const table = await a.cli('node', 'list');
  assert.match(table.stdout, /^NAME +ADDRESS +STATE +VERSION +RTT +CLOCK\nbeta +127\.0\.0\.1:\d+ +ok +0\.1\.0 +[\d.]+ ms +[+-]\d+ ms\n$/);
  assert.match((await a.cli('node', 'show', 'beta')).stdout, /Allows this node: +manage, migrate/);
});

test('veld --node: create, list, exec with input, events, a login shell', async () => {
  const made = await a.cli('--node', 'beta', 'create', 'web', '-t', 'test', '--start');
  assert.deepEqual([made.code, made.stderr], [0, '']);
  assert.equal((await a.list()).length, 0);
  assert.deepEqual((await a.json<{ name: string }[]>('--node', 'beta', 'list')).map(({ name }) => name), ['web']);
  assert.match((await a.cli('list', '--node=beta')).stdout, /web/);
  await b.booted('web');
  const echoed = await a.cliWith('x'.repeat(300_000), '--node', 'beta', 'exec', 'web', '--', 'sh', '-c', 'wc -c; echo err >&2; exit 7');
  assert.deepEqual([echoed.code, echoed.stdout.trim(), echoed.stderr], [7, '300000', 'err\n']);
  const shell = await a.cliWith('id -un; exit 3\n', '--node', 'beta', 'enter', 'web');
  assert.deepEqual([shell.code, shell.stdout], [3, 'root\n']);
  const socket = a.api.socket('/v1/nodes/beta/api/v1/events');
  const seen: string[] = [];
  socket.on('message', (data: Buffer) => seen.push(data.toString('utf8')));
  await new Promise((resolve) => { socket.once('open', resolve); });
  assert.equal((await a.cli('--node', 'beta', 'set', 'web', 'cpu.weight=150')).code, 0);
  await until('an event of beta at alpha', () => seen.some((text) => text.includes('operation.ended')));
  socket.terminate();
  const missing = await a.cli('--node', 'beta', 'show', 'nothing');
  assert.deepEqual([missing.code, /no VE/.test(missing.stderr)], [4, true]);
});

test('both audit logs name the user, the one of the asked node the asking node, too', async () => {
  await a.cli('--node', 'beta', 'set', 'web', 'cpu.weight=160');
  const lines = (log: string): Record<string, unknown>[] => log.split('\n').filter((line) => line.includes('"audit":true')).map((line) => JSON.parse(line) as Record<string, unknown>);
  const last = (log: string): Record<string, unknown> | undefined => lines(log).findLast((line) => line.method === 'PATCH');
  // Lines are written when the answer has gone out: that of the asking node may come after its client has ended.
  const here = await until('the line of the same request in both logs', () => {
    const line = last(a.daemonLog());
    return line !== undefined && line.requestId === (last(b.daemonLog())?.peer as { requestId?: string } | undefined)?.requestId ? line : undefined;
  });
  assert.equal(here.route, '/v1/nodes/:node/api/*');
  assert.equal((here.peer as { uid: number }).uid, 0);
  assert.deepEqual(last(b.daemonLog())?.peer, { node: 'alpha', uid: 0, requestId: here.requestId });
  assert.ok(lines(b.daemonLog()).some((line) => (line.peer as { node?: string } | null)?.node === 'alpha' && line.msg === 'session begun'), 'commands, too');
});

test('what was not allowed is refused, there and at once', async () => {
  const refused = await b.cli('--node', 'alpha', 'list');
  assert.deepEqual([refused.code, /needs the right manage/.test(refused.stderr)], [49, true], refused.stderr);
  assert.equal((await b.cliWith('', '--node', 'alpha', 'exec', 'x', 'true')).code, 49);
  await a.json('node', 'set', 'beta', 'allow=manage');
  assert.equal((await b.cli('--node', 'alpha', 'list')).code, 0);
  await a.json('node', 'set', 'beta', 'allow=none');
  assert.equal((await b.cli('--node', 'alpha', 'list')).code, 49);
  assert.equal((await b.json<NodeView[]>('node', 'list'))[0]!.state, 'ok', 'hello is part of being paired');
});

test('nobody manages nodes, or reaches a third one, by way of another', async () => {
  for (const path of ['/v1/nodes', '/v1/node', '/v1/nodes/alpha', '/v1/nodes/alpha/api/v1/ves', '/v1/%6eodes', '/v1/nodes/alpha/api/../api/v1/ves', '/v1/%6eodes/alpha/api/v1/ves']) {
    const answer = await a.api.raw('GET', `/v1/nodes/beta/api${path}`);
    assert.equal((answer.body as { error: { code: string } }).error.code, 'node.not_allowed', path);
  }
  assert.equal((await a.api.raw('PATCH', '/v1/nodes/beta/api/v1/nodes/alpha', { allow: ['manage'] })).status, 403);
  await assert.rejects(new Promise((_, reject) => {
    const socket = a.api.socket('/v1/nodes/beta/api/v1/nodes/alpha/api/v1/events');
    socket.on('error', reject);
  }), /403/);
  const usage = await a.cli('--node', 'beta', 'node', 'list');
  assert.deepEqual([usage.code, /does not go with it/.test(usage.stderr)], [2, true]);
});

test('a daemon that was killed, and one that is away', async () => {
  await b.kill9();
  const begun = Date.now();
  const gone = await a.cli('--node', 'beta', 'list');
  assert.deepEqual([gone.code, /beta cannot be reached at 127\.0\.0\.1:\d+: nobody listens there/.test(gone.stderr)], [47, true], gone.stderr);
  assert.ok(Date.now() - begun < 5000);
  assert.equal((await a.json<NodeView[]>('node', 'list'))[0]!.state, 'unreachable');
  assert.match((await a.cli('doctor', '-q')).stdout, /Node beta: beta cannot be reached/);
  await b.start();
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 0);
  await a.kill9();
  await a.start();
  assert.equal((await a.cli('--node', 'beta', 'exec', 'web', 'true')).code, 0);
});

test('a daemon that hangs: a clear error in seconds, also for a request that it has begun', async () => {
  const waiting = a.cli('--node', 'beta', 'exec', 'web', '--', 'sleep', '1000');
  await until('sleep to run', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 1000')).exitCode === 0);
  const slow = a.api.raw('POST', '/v1/nodes/beta/api/v1/ves/web/exec', { command: ['sleep', '999'] });
  await until('the other sleep to run', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 999')).exitCode === 0);
  process.kill(b.pid!, 'SIGSTOP');
  try {
    const begun = Date.now();
    const list = await a.cli('--node', 'beta', 'list');
    assert.deepEqual([list.code, /no answer within 5 s/.test(list.stderr)], [47, true], list.stderr);
    assert.ok(Date.now() - begun < 9000);
    const answer = await slow;
    assert.equal((answer.body as { error: { code: string } }).error.code, 'node.unreachable');
    assert.ok(Date.now() - begun < 25_000, `${Date.now() - begun} ms`);
  } finally {
    process.kill(b.pid!, 'SIGCONT');
  }
  await until('beta to answer again', async () => (await a.cli('--node', 'beta', 'list')).code === 0);
  await b.exec('web', 'pkill', 'sleep');
  await waiting;
});

test('a new certificate, and a new authority, without pairing anew', async () => {
  const own = async () => a.json<{ fingerprint: string; certificateEnds: string }>('node', 'show');
  const before = await own();
  assert.equal((await a.cli('node', 'rotate')).code, 0);
  assert.equal((await own()).fingerprint, before.fingerprint);
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 0);
  assert.equal((await b.json<NodeView[]>('node', 'list'))[0]!.state, 'ok');
  assert.equal((await a.cli('node', 'rotate', '--ca')).code, 0);
  const { fingerprint } = await own();
  assert.notEqual(fingerprint, before.fingerprint);
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 0);
  await until('beta to know the new authority only', async () => {
    const [node] = await b.json<NodeView[]>('node', 'list');
    return node!.state === 'ok' && alike(node!.fingerprints, [fingerprint]);
  });
});

test('a new authority waits for a node that is away, and takes over when it is back', async () => {
  const before = await b.json<{ fingerprint: string }>('node', 'show');
  await a.stop();
  const waits = await b.cli('node', 'rotate', '--ca');
  assert.deepEqual([waits.code, /alpha does not know the new authority: alpha cannot be reached/.test(waits.stderr)], [1, true], waits.stderr);
  assert.equal((await b.json<{ fingerprint: string }>('node', 'show')).fingerprint, before.fingerprint);
  await b.restart();
  await a.start();
  // It hears of it by the next word with beta, whoever begins, and says that it knows.
  await until('the new authority to take over', async () => {
    await a.cli('node', 'list');
    return (await b.json<{ fingerprint: string }>('node', 'show')).fingerprint !== before.fingerprint;
  });
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 0);
  assert.equal((await b.json<NodeView[]>('node', 'list'))[0]!.state, 'ok');
});

test('a pairing that ends on the asked side ends open streams, and the other side is told', async () => {
  const running = a.cli('--node', 'beta', 'exec', 'web', '--', 'sleep', '2000');
  await until('sleep to run', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 2000')).exitCode === 0);
  const removed = await b.cli('node', 'remove', 'alpha');
  assert.deepEqual([removed.code, removed.stdout], [0, 'alpha removed, and told so\n']);
  assert.equal((await running).code, 3, 'the stream broke');
  await until('sleep to be gone', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 2000')).exitCode === 1);
  const [ended] = await a.json<NodeView[]>('node', 'list');
  assert.deepEqual([ended!.state, ended!.allow], ['ended', []]);
  const refused = await a.cli('--node', 'beta', 'list');
  assert.deepEqual([refused.code, /not paired any more: the other side has removed it/.test(refused.stderr)], [48, true]);
});

test('paired again under the same name; an end on the asking side; one that nobody could be told of', async () => {
  await pair(a, b, 'beta', { there: 'manage' });
  const running = a.cli('--node', 'beta', 'exec', 'web', '--', 'sleep', '3000');
  await until('sleep to run', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 3000')).exitCode === 0);
  assert.equal((await a.cli('node', 'remove', 'beta')).code, 0);
  assert.equal((await running).code, 3);
  assert.deepEqual(await a.json('node', 'list'), []);
  assert.equal((await b.json<NodeView[]>('node', 'list'))[0]!.state, 'ended');
  await until('sleep to be gone', async () => (await b.exec('web', 'pgrep', '-fx', 'sleep 3000')).exitCode === 1);

  await pair(a, b, 'beta', { there: 'manage' });
  await a.stop();
  const quiet = await b.cli('node', 'remove', 'alpha');
  assert.deepEqual([quiet.code, /alpha was not told: alpha cannot be reached/.test(quiet.stderr)], [0, true], quiet.stderr);
  await a.start();
  assert.equal((await a.cli('--node', 'beta', 'list')).code, 48);
  assert.equal((await a.json<NodeView[]>('node', 'list'))[0]!.state, 'ended', 'it has found out by asking');
});

function alike(x: readonly unknown[], y: readonly unknown[]): boolean {
  return JSON.stringify(x) === JSON.stringify(y);
}
