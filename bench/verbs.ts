/**
 * How long the verbs take on this machine, on real VEs of the running daemon: medians of several rounds, and how the cost of a start
 * grows with the number of VEs that run already.
 *
 *   node bench/verbs.ts [--rounds 7] [--running 10] [--template NAME] [--json]
 *
 * Times are wall-clock milliseconds seen by an API client on the daemon's socket; `command:` rows are whole processes of the CLI.
 */
import { spawnSync } from 'node:child_process';
import { parseArgs } from 'node:util';
import { createClient } from '../src/client/client.ts';
import { loadSettings } from '../src/lib/settings.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '7' }, running: { type: 'string', default: '10' }, template: { type: 'string' }, json: { type: 'boolean', default: false } },
});
const rounds = Number(values.rounds);
const running = Number(values.running);
const client = createClient(loadSettings().socket);
const cli = new URL('../bin/veld', import.meta.url).pathname;
const samples = new Map<string, number[]>();
const prefix = `bench-${process.pid}`;

async function timed<T>(name: string, work: () => Promise<T> | T): Promise<T> {
  const start = performance.now();
  const result = await work();
  samples.set(name, [...(samples.get(name) ?? []), performance.now() - start]);
  return result;
}

const post = (path: string, body: unknown = {}): Promise<unknown> => client.operation('POST', path, body);
const exec = (ve: string, command: string[]): Promise<{ exitCode: number; stdout: string }> => client.request('POST', `/v1/ves/${ve}/exec`, { command });
const destroy = (ve: string): Promise<unknown> => client.operation('DELETE', `/v1/ves/${ve}?force=true`);

async function untilRunning(ve: string): Promise<void> {
  const { stdout } = await exec(ve, ['systemctl', 'is-system-running', '--wait']);
  if (stdout.trim() !== 'running') throw new Error(`${ve} is ${stdout.trim()}`);
}

function command(name: string, args: string[]): void {
  const start = performance.now();
  const { status, stderr } = spawnSync(cli, args, { stdio: ['ignore', 'ignore', 'pipe'], encoding: 'utf8' });
  if (status !== 0) throw new Error(`veld ${args.join(' ')}: ${stderr}`);
  samples.set(name, [...(samples.get(name) ?? []), performance.now() - start]);
}

async function round(template: string, ve: string): Promise<void> {
  const begin = performance.now();
  await timed('create', () => post('/v1/ves', { name: ve, template }));
  await timed('start (init proven alive)', () => post(`/v1/ves/${ve}/start`));
  await untilRunning(ve);
  samples.set('deploy: create + start to systemd running', [...(samples.get('deploy: create + start to systemd running') ?? []), performance.now() - begin]);
  for (let i = 0; i < 3; i++) await timed('exec true', () => exec(ve, ['true']));
  command('command: veld exec VE true', ['exec', '-T', ve, '--', 'true']);
  command('command: veld list', ['list']);
  await timed('list', () => client.request('GET', '/v1/ves'));
  await timed('show', () => client.request('GET', `/v1/ves/${ve}`));
  await timed('set memory.limit', () => client.operation('PATCH', `/v1/ves/${ve}/properties`, { changes: { 'memory.limit': '512M' } }));
  await timed('freeze', () => post(`/v1/ves/${ve}/freeze`));
  await timed('thaw', () => post(`/v1/ves/${ve}/thaw`));
  await timed('stop (graceful)', () => post(`/v1/ves/${ve}/stop`));
  await timed('start again to systemd running', async () => {
    await post(`/v1/ves/${ve}/start`);
    await untilRunning(ve);
  });
  await timed('stop --force', () => post(`/v1/ves/${ve}/stop`, { force: true }));
  await timed('destroy', () => destroy(ve));
}

const names: string[] = [];
try {
  const templates = await client.request<{ name: string }[]>('GET', '/v1/templates');
  const template = values.template ?? templates[0]?.name;
  if (template === undefined) throw new Error('there is no template: run ./quickstart first');
  for (let i = 0; i < rounds; i++) {
    names.push(`${prefix}-${i}`);
    await round(template, `${prefix}-${i}`);
  }
  for (let i = 0; i < running; i++) {
    const ve = `${prefix}-n${i}`;
    names.push(ve);
    await post('/v1/ves', { name: ve, template });
    await timed(i === 0 ? 'start with none of these running' : i === running - 1 ? `start with ${i} of these running` : 'start of those between', () => post(`/v1/ves/${ve}/start`));
    await untilRunning(ve); // or the next start would be measured beside this boot
  }
  for (let i = 0; i < rounds; i++) await timed(`list with ${running} of these running`, () => client.request('GET', '/v1/ves'));
} finally {
  for (const ve of names) await destroy(ve).catch(() => {});
}

const rows = [...samples].map(([name, times]) => {
  const sorted = times.toSorted((a, b) => a - b);
  const at = (part: number): number => Math.round((sorted[Math.round((sorted.length - 1) * part)] ?? Number.NaN) * 10) / 10;
  return { name, n: times.length, median: at(0.5), min: at(0), max: at(1) };
});
if (values.json) console.log(JSON.stringify(rows, null, 2));
else console.table(Object.fromEntries(rows.map(({ name, ...figures }) => [name, figures])));
