/**
 * What it costs to change a limit of a VE that runs: `PATCH /v1/ves/VE/properties?wait=true` over one connection, until the operation has ended.
 *
 *   node bench/set.ts [--count 300] [--program dist/veldd.cjs] [--json]
 *
 * As root. Makes an instance of its own with one VE, and changes each property there and back so many times, in turns, so that whatever else the machine does meanwhile is in all of
 * them alike. The aim is a median of 15 ms. Beside it stand a request that changes nothing (what HTTP and the daemon cost), and what the disk takes for a write of 4 KiB that is to last (fdatasync), of which a
 * change makes two: one before it acts, one with its end. Milliseconds; with --program the daemon is that bundle. On a machine that does other things besides, the fastest one and the CPU time of the daemon say most.
 */
import { closeSync, fdatasyncSync, openSync, readdirSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { loadavg } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { buildCache } from '../test/lib/cache.ts';
import { writeGuard } from '../test/lib/guard.ts';
import { startInstance } from '../test/lib/instance.ts';

const { values } = parseArgs({ options: { count: { type: 'string', default: '300' }, program: { type: 'string' }, json: { type: 'boolean', default: false } } });
process.env.VELD_TEST_OK ??= writeGuard();
const AIM = 15;

/** Two values of each property, which it has by turns. */
const CHANGES: Record<string, readonly [unknown, unknown]> = {
  'cpu.weight': [100, 200], 'cpu.limit': ['150%', '100%'], 'cpu.count': [1, null], 'cpu.mask': ['0', null], 'memory.limit': ['1G', '900M'], 'memory.swap': ['512M', '256M'], 'memory.guarantee': ['64M', null],
  'memory.oom_guarantee': ['64M', null], 'pids.limit': [4000, 3000], 'io.limit': ['100M', '90M'], 'io.iops': [1000, 900], 'ubc.numtcpsock': ['300:300', '200:200'], 'ubc.numothersock': ['300:300', '200:200'], 'ubc.numfile': ['30000:30000', '20000:20000'], 'ubc.numflock': ['300:300', '200:200'], 'ubc.numpty': ['64:64', '32:32'],
  'network.rate.out': ['100mbit', '90mbit'], 'network.allow': [['22/tcp'], null], 'description': ['one', 'another'],
};

await buildCache(() => startInstance({ noTemplate: true }), (line) => process.stderr.write(`${line}\n`));
const veld = await startInstance({
  settings: (settings) => {
    settings.network.uplinks = ['lo'];
    settings.log.level = 'info';
  },
  ...values.program !== undefined && { program: resolve(values.program) },
});
const agent = new Agent({ keepAlive: true, maxSockets: 1 });

/** @returns the last line of the answer */
function ask(method: string, path: string, body?: unknown): Promise<string> {
  const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
  return new Promise((done, failed) => {
    const call = request({ socketPath: veld.settings.socket, agent, method, path, headers: payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {} }, (answer) => {
      let text = '';
      answer.setEncoding('utf8').on('data', (chunk: string) => { text += chunk; }).on('end', () => done(text.trim().split('\n').at(-1)!));
    });
    call.on('error', failed).end(payload);
  });
}

async function set(changes: Record<string, unknown>): Promise<void> {
  const record = JSON.parse(await ask('PATCH', '/v1/ves/bench/properties?wait=true', { changes })) as { state?: string; error: { code: string; message: string } };
  if (record.state !== 'succeeded') throw Object.assign(new Error(record.error.message), { code: record.error.code });
}

/** CPU time of the daemon, all threads, in milliseconds (schedstat of proc(5)). */
function cpu(): number {
  return readdirSync(`/proc/${veld.pid}/task`).reduce((sum, thread) => sum + Number(readFileSync(`/proc/${veld.pid}/task/${thread}/schedstat`, 'utf8').split(' ')[0]) / 1e6, 0);
}

function figures(all: readonly number[]): { least: number; median: number; p95: number } {
  const sorted = all.toSorted((a, b) => a - b);
  const at = (part: number): number => Number(sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]!.toFixed(2));
  return { least: at(0), median: at(0.5), p95: at(0.95) };
}

try {
  await veld.createRunning('bench');
  await veld.booted('bench');
  const rows = new Map<string, number[]>();
  const used = new Map<string, number>();
  const skipped = new Map<string, string>();
  const timed = async (row: string, work: () => unknown): Promise<void> => {
    const [since, before] = [performance.now(), cpu()];
    await work();
    const took = performance.now() - since;
    used.set(row, (used.get(row) ?? 0) + cpu() - before);
    (rows.get(row) ?? rows.set(row, []).get(row)!).push(took);
  };
  for (const [name, [one]] of Object.entries(CHANGES)) {
    try {
      await set({ [name]: one });
    } catch (error) {
      if (!['property.unsupported', 'property.invalid'].includes((error as { code: string }).code)) throw error;
      skipped.set(name, (error as Error).message);
    }
  }
  const file = join(veld.settings.stateDir, 'bench');
  const fd = openSync(file, 'w');
  const page = Buffer.alloc(4096);
  for (let i = 1; i <= Number(values.count); i++) {
    await timed('(a request that changes nothing)', () => ask('GET', '/v1/ves/bench'));
    await timed('(a write of the disk that is to last)', () => {
      writeSync(fd, page);
      fdatasyncSync(fd);
    });
    for (const [name, pair] of Object.entries(CHANGES)) if (!skipped.has(name)) await timed(name, () => set({ [name]: pair[i % 2] }));
  }
  closeSync(fd);
  rmSync(file);
  const report = [...rows].map(([what, all]) => ({ what, ...figures(all), cpu: Number((used.get(what)! / all.length).toFixed(2)) }));
  const missed = report.filter(({ median }) => median > AIM).map(({ what }) => what);
  const load = loadavg().map((value) => Number(value.toFixed(1)));
  if (values.json) process.stdout.write(`${JSON.stringify({ count: Number(values.count), load, rows: report, skipped: Object.fromEntries(skipped), missed }, null, 2)}\n`);
  else {
    const line = (what: string, ...cells: string[]): void => void process.stdout.write(`${what.padEnd(40)}${cells.map((cell) => cell.padStart(9)).join('')}\n`);
    process.stdout.write(`${values.count} changes of each, ms; load ${load.join(' ')}\n`);
    line('', 'least', 'median', 'p95', 'daemon');
    for (const { what, ...all } of report) line(what, ...[all.least, all.median, all.p95, all.cpu].map((value) => value.toFixed(2)));
    for (const [name, why] of skipped) process.stdout.write(`${name}: not here: ${why}\n`);
    process.stdout.write(missed.length === 0 ? `Each is below ${AIM} ms.\n` : `Above ${AIM} ms: ${missed.join(', ')}.\n`);
  }
} finally {
  agent.destroy();
  await veld.destroy();
}
