/** How much of a wire a migration takes, and what it makes of a narrow one: between nodes in network namespaces of their own. */
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { serveTalk } from '../lib/talk.ts';
import { talkFrom } from '../lib/talk-elsewhere.ts';
import { until } from '../lib/wait.ts';
import { makeWiredNodes, WIRE4, type WiredNode } from '../lib/wired-nodes.ts';
import type { MigrateResult } from '../../src/migration/types.ts';

const { wire, a, b, client, destroy } = await makeWiredNodes();
after(destroy);

const move = async (from: WiredNode, to: WiredNode, options: Record<string, unknown> = {}): Promise<MigrateResult> => (await from.veld.api.operate('POST', '/v1/ves/web/migrate', { node: to.name, ...options })).result as MigrateResult;
const said = async ({ veld }: WiredNode, command: string): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec('web', 'sh', '-c', command);
  assert.equal(exitCode, 0, stderr);
  return stdout.trim();
};
const told = ({ bytes, uncompressed, took, stood }: MigrateResult): string => `${(bytes / 1e6).toFixed(1)} MB of ${(uncompressed / 1e6).toFixed(1)} in ${Math.round(took)} ms, stood for ${Math.round(stood!)} ms`;

/** 60 MB of text in its memory, and 20 MB on its disk; and what must be the same there. */
const FILL = 'my $t = join "", map { $_ * 7919 % 10007, " of a thousand and one things\\n" } 1 .. 600_000; open my $f, ">", "/root/text"; print $f $t; my @all = ($t, $t . "x", $t . "y"); open $f, ">", "/run/filled"; close $f; sleep 1 while 1';
const LOOK = 'sha256sum /root/text; pidof perl';

test('on a wide wire nothing is compressed', async (t) => {
  await a.veld.createRunning('web', { 'network.addresses': WIRE4(50) });
  await serveTalk(a.veld, 'web');
  await said(a, `systemd-run --quiet perl -e '${FILL}'`);
  await until('its memory to be full', async () => (await a.veld.exec('web', 'test', '-e', '/run/filled')).exitCode === 0, 120_000);
  const was = await said(a, LOOK);
  const result = await move(a, b);
  t.diagnostic(`| ${told(result)}`);
  assert.equal(result.trouble, null);
  // Hardly anything: of two nodes on a few processors one may look like a slow wire for a moment.
  assert.ok(result.bytes > 0.8 * result.uncompressed, told(result));
  assert.ok(result.bytes > 60e6);
  assert.equal(await said(b, LOOK), was);
});

test('on a narrow one it is, and the VE is the same', async (t) => {
  const talk = await talkFrom(t, client, WIRE4(50));
  await talk.goesOn();
  const was = await said(b, LOOK);
  wire.switch.sh('tc', 'qdisc', 'replace', 'dev', 'alpha-eth0', 'root', 'tbf', 'rate', '80mbit', 'burst', '256kb', 'latency', '50ms');
  const passed = wire.passed('alpha');
  const result = await move(b, a);
  const gone = wire.passed('alpha') - passed;
  wire.switch.sh('tc', 'qdisc', 'del', 'dev', 'alpha-eth0', 'root');
  t.diagnostic(`| ${told(result)}; ${(gone / 1e6).toFixed(1)} MB on the wire`);
  assert.equal(result.trouble, null);
  assert.ok(result.bytes < 0.7 * result.uncompressed, told(result));
  assert.ok(gone < 0.8 * result.uncompressed, 'and so the wire has seen it');
  await talk.goesOn();
  talk.end();
  assert.equal(await said(a, LOOK), was);
});

test('no more than asked for is sent, also while it stands', async (t) => {
  const [passed, since] = [wire.passed('beta'), performance.now()];
  let most = 0;
  let before: [number, number] = [passed, since];
  const watch = setInterval(() => {
    const now: [number, number] = [wire.passed('beta'), performance.now()];
    if (now[1] - before[1] < 900) return; // a burst of a tenth of a second is allowed
    most = Math.max(most, (now[0] - before[0]) / (now[1] - before[1]) * 1000);
    before = now;
  }, 1000);
  const was = await said(a, LOOK);
  const { stdout } = await a.veld.cli('migrate', '--bandwidth', '8M', 'web', 'beta').finally(() => clearInterval(watch));
  const [gone, took] = [wire.passed('beta') - passed, performance.now() - since];
  t.diagnostic(`| ${stdout.trim()}; ${(gone / took / 1048.576).toFixed(1)} MiB/s, at most ${(most / 2 ** 20).toFixed(1)}`);
  assert.match(stdout, /web is on beta: [\d.]+ MiB \(compressed, of [\d.]+ MiB\) in [\d.]+ s, stood for \d+ ms/);
  // Heads of packets, and what TLS adds, are beside it.
  assert.ok(gone / took * 1000 < 1.1 * (8 << 20), 'all in all');
  assert.ok(most < 2 * (8 << 20), 'in any second: what the other side was late to take may come at once');
  assert.equal(await said(b, LOOK), was);
});
