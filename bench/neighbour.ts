/**
 * What a VE notices of a neighbour that wants everything, with Veld and its peers in one run.
 *
 *   node bench/neighbour.ts [--only veld,incus,lxc] [--rounds 3] [--seconds 8] [--rate 100] [--attacks burn,fork,memory,files,disk,packets] [--json FILE]
 *
 * A small HTTP server in one VE answers so many requests a second over one connection, each with a page that it computes; beside it another VE does its worst, for so long. Both have the
 * same weight; the first has a limit of half of the host's CPUs, so that alone it has what is its share beside the other. Said is how long an answer takes (99th percentile, milliseconds),
 * alone and beside each attack, and the ratio of both. Alone is measured before each attack: other loads come and go. In each round all contestants take their turn; VEs of the others are idle.
 */
import { writeFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { until } from '../test/lib/wait.ts';
import type { Contestant } from './contestants/types.ts';
import { boundsTable, judgeBounds, type Bound } from './lib/bounds.ts';
import { runCommands } from './lib/commands.ts';
import { groupCpu, initOf } from './lib/processes.ts';
import { insideOf, untilRunning } from './lib/ready.ts';
import { figures, setting } from './lib/report.ts';
import { makeSamples } from './lib/samples.ts';
import { machineNow, namesIn, startRun, together } from './lib/together.ts';

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

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: 'veld,incus,lxc' }, rounds: { type: 'string', default: '3' }, seconds: { type: 'string', default: '8' }, rate: { type: 'string', default: '100' },
    attacks: { type: 'string', default: Object.keys(ATTACKS).join(',') }, json: { type: 'string' },
  },
});
const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
const names = namesIn(values.only);
const HOG = { memory: 256, processes: 1000 };
const BOUNDS: readonly Bound[] = [{ what: 'p99 beside an attack: at most 1.2 x alone', rows: 'p99 ratio', most: 1.2 }];

const run = startRun(40 * 60_000);
const samples = makeSamples();
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

function ask(address: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const since = performance.now();
    request({ host: address, port: 8080, agent, timeout: 30_000 }, (answer) => answer.resume().on('end', () => resolve(performance.now() - since))).on('error', reject).end();
  });
}

/** Asks at a fixed rate; a question that has to wait for the one before counts from when it was due. @returns the 99th percentile in milliseconds */
async function p99(address: string, time: number): Promise<number> {
  const [began, all, step] = [performance.now(), [] as number[], 1000 / Number(values.rate)];
  for (let due = began; due < began + time * 1000; due += step) {
    const wait = due - performance.now();
    if (wait > 0) await sleep(wait);
    await ask(address);
    all.push(performance.now() - due);
  }
  return all.sort((a, b) => a - b)[Math.min(all.length - 1, Math.floor(all.length * 0.99))]!;
}

interface Pair {
  contestant: Contestant;
  /** Address of the server, and of the host as the hog sees it. */
  address: string;
  host: string;
  hog: string;
}

const inside = async (contestant: Contestant, ve: string, ...command: string[]): Promise<string> => insideOf(initOf(await contestant.group(ve))!, command);

async function makePair(contestant: Contestant): Promise<Pair> {
  const [web, hog] = [`${contestant.name}-web`, `${contestant.name}-hog`];
  for (const ve of [web, hog]) {
    await runCommands(contestant.commands.deploy(ve), contestant.env);
    await untilRunning(contestant, ve);
  }
  await contestant.limit(web, { cpu: Math.max(50, cpus().length * 50) });
  await contestant.limit(hog, HOG);
  const { address } = await contestant.plug(web);
  const { host } = await contestant.plug(hog);
  await inside(contestant, web, 'systemd-run', '--quiet', 'perl', '-e', SERVER);
  await until(`the server of ${contestant.name}`, () => ask(address).then(() => true));
  return { contestant, address, host, hog };
}

async function attack({ contestant, address, host, hog }: Pair, what: string): Promise<void> {
  const { name, commands, env } = contestant;
  const alone = await p99(address, seconds / 2);
  const script = ATTACKS[what]!.replace('GATEWAY', host);
  // No lower limits of systemd's: those of its VE bound it.
  await inside(contestant, hog, 'systemd-run', '--quiet', '--collect', '--unit=attack', '-p', 'TasksMax=infinity', '-p', 'LimitNOFILE=65536', 'timeout', '-s', 'KILL', String(seconds + 3), 'sh', '-c', script);
  // Seen from outside: a VE that is full of processes may have none left for the question.
  const group = await contestant.group(hog);
  const before = groupCpu(group);
  await sleep(1000);
  if (groupCpu(group) - before < 0.05) throw new Error(`${name}: the attack ${what} does not run`);
  const beside = await p99(address, seconds);
  await runCommands([...commands.kill(hog), ...commands.start(hog)], env);
  await untilRunning(contestant, hog);
  await contestant.limit(hog, HOG);
  await contestant.plug(hog);
  samples.add(`p99 alone, before ${what}, ms`, name, alone);
  samples.add(`p99 beside ${what}, ms`, name, beside);
  samples.add(`p99 ratio, ${what}`, name, beside / alone);
}

const titles = await together(names, 'boot', run, async (contestants) => {
  const pairs: Pair[] = [];
  for (const contestant of contestants) pairs.push(await makePair(contestant));
  for (let round = 0; round < rounds; round++) {
    for (const what of values.attacks.split(',')) {
      for (let turn = 0; turn < pairs.length; turn++) {
        run.signal.throwIfAborted();
        await attack(pairs[(round + turn) % pairs.length]!, what);
      }
      run.say(`round ${round + 1} of ${rounds}: ${what}`);
    }
  }
});
agent.destroy();

const [machine, bounds] = [machineNow(), judgeBounds(samples, BOUNDS)];
console.log([...setting(machine, titles), `${values.rate} requests a second, ${seconds} s beside each attack, ${seconds / 2} s alone`, '', figures(samples, names, 'median (min-max)'), '', boundsTable(bounds, names)].join('\n'));
if (values.json !== undefined) writeFileSync(values.json, `${JSON.stringify({ machine, titles, rows: Object.fromEntries(samples.rows()), bounds }, null, 2)}\n`);
