/**
 * What a VE notices of a neighbour that wants everything.
 *
 *   node bench/neighbour.ts [--seconds 8] [--rate 100] [--attacks burn,fork,memory,files,disk,packets] [--json]
 *
 * A small HTTP server in one VE answers so many requests a second over one connection, each with a page that it computes; beside it another VE does its worst, for so long. Both have the
 * same weight; the first has a limit of half of the host's CPUs, so that alone it has what is its share beside the other. Said is how long an answer takes (median and 99th percentile, milliseconds),
 * alone and beside each attack, and the ratio of the 99th percentiles. Alone is measured before each attack: other loads come and go.
 */
import { Agent, request } from 'node:http';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildCache } from '../test/lib/cache.ts';
import { startInstance } from '../test/lib/instance.ts';
import { writeGuard } from '../test/lib/guard.ts';
import { until } from '../test/lib/wait.ts';

/** Each bounded in time by timeout(1), and in number and memory by the limits of its VE. */
const ATTACKS: Record<string, string> = {
  burn: 'for i in $(seq 8); do (while :; do :; done) & done; wait',
  fork: 'f() { f | f & }; while :; do f; sleep 0.01; done',
  memory: `while :; do perl -e '$m .= "x" x (8 << 20) while 1'; done`,
  files: `for i in $(seq 20); do perl -e 'my @f; while (1) { if (open my $f, "<", "/etc/hosts") { push @f, $f } else { @f = () } }' & done; wait`,
  disk: 'for i in 1 2 3 4; do (while :; do dd if=/dev/zero of=/srv/f$i bs=1M count=300 conv=fsync 2>/dev/null; done) & done; wait',
  packets: `for i in 1 2 3 4; do perl -e 'use IO::Socket; $s = IO::Socket::INET->new(Proto => "udp", PeerAddr => "GATEWAY", PeerPort => 9); while (1) { send $s, "x" x 64, 0 }' & done; wait`,
};

const SERVER = `use IO::Socket; $| = 1; $s = IO::Socket::INET->new(Listen => 5, LocalPort => 8080, ReuseAddr => 1) or die;
while ($c = $s->accept) { while (1) { $ok = 0; while (defined($l = <$c>)) { if ($l eq "\\r\\n") { $ok = 1; last } } last unless $ok;
$x = 0; $x += $_ * $_ % 7 for 1 .. 3000; print $c "HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\n" . sprintf("%05d", $x % 100000); $c->flush } }`;

const { values } = parseArgs({ options: { seconds: { type: 'string', default: '8' }, rate: { type: 'string', default: '100' }, attacks: { type: 'string', default: Object.keys(ATTACKS).join(',') }, json: { type: 'boolean', default: false } } });
process.env.VELD_TEST_OK ??= writeGuard();
const seconds = Number(values.seconds);

await buildCache(() => startInstance({ noTemplate: true }), (line) => process.stderr.write(`${line}\n`));
const veld = await startInstance({});
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function ask(address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const since = performance.now();
    request({ host: address, port: 8080, agent, timeout: 30_000 }, (answer) => answer.resume().on('end', () => resolve(performance.now() - since))).on('error', reject).end();
  });
}

/** Asks at a fixed rate; a question that has to wait for the one before counts from when it was due. */
async function latencies(address: string, time: number): Promise<number[]> {
  const [began, all, step] = [performance.now(), [] as number[], 1000 / Number(values.rate)];
  for (let due = began; due < began + time * 1000; due += step) {
    const wait = due - performance.now();
    if (wait > 0) await sleep(wait);
    await ask(address);
    all.push(performance.now() - due);
  }
  return all.sort((a, b) => a - b);
}

const at = (sorted: readonly number[], part: number): number => Math.round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))]! * 100) / 100;

try {
  const share = Math.max(50, cpus().length * 50);
  await veld.createRunning('web', { 'cpu.limit': share });
  await veld.createRunning('hog', { 'memory.limit': '256M', 'memory.swap': '0', 'pids.limit': 1000 });
  await Promise.all(['web', 'hog'].map((ve) => veld.booted(ve)));
  await veld.exec('web', 'systemd-run', '--quiet', 'perl', '-e', SERVER);
  const [address] = (await veld.show('web')).addresses;
  const gateway = (await veld.exec('hog', 'sh', '-c', "ip -4 route show default | awk '{print $3}'")).stdout.trim();
  await until('the server', () => ask(address!).then(() => true, () => false));
  const rows: Record<string, string | number>[] = [];
  for (const attack of values.attacks.split(',')) {
    const alone = await latencies(address!, seconds / 2);
    await veld.exec('hog', 'systemd-run', '--quiet', '--collect', '--unit=attack', '-p', 'TasksMax=infinity', '-p', 'LimitNOFILE=524288', 'timeout', '-s', 'KILL', String(seconds + 3), 'sh', '-c', ATTACKS[attack]!.replace('GATEWAY', gateway));
    await sleep(1000);
    const beside = await latencies(address!, seconds);
    await veld.cli('stop', 'hog', '--force');
    await veld.cli('start', 'hog');
    await veld.booted('hog');
    rows.push({ attack, 'alone p50': at(alone, 0.5), 'alone p99': at(alone, 0.99), 'beside p50': at(beside, 0.5), 'beside p99': at(beside, 0.99), 'p99 ratio': Math.round(at(beside, 0.99) / at(alone, 0.99) * 100) / 100 });
    process.stderr.write(`${attack} done\n`);
  }
  if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else for (const row of rows) process.stdout.write(`${Object.entries(row).map(([what, figure]) => `${what} ${figure}`).join('   ')}\n`);
} finally {
  agent.destroy();
  await veld.destroy();
}
