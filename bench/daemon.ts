/**
 * What the daemon itself costs: its memory with no VE and with many running, and how many questions it answers a second.
 *
 *   node bench/daemon.ts [--running 30] [--seconds 5] [--template NAME] [--json]
 *
 * To be run against a daemon that was started for it, from the bundle (`npm run build`, `bin/veldd`). Memory is that of smaps_rollup in MiB: what is
 * resident (RSS), and its fair share of what it shares with others (PSS). Requests come one after the other on one connection; beside their number a second
 * stand the daemon's own CPU time for one and the time of the fastest, which a machine busy with other work changes less.
 */
import { readFileSync } from 'node:fs';
import { Agent, request } from 'node:http';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createClient } from '../src/client/client.ts';
import { loadSettings } from '../src/lib/settings.ts';

const { values } = parseArgs({
  options: { running: { type: 'string', default: '30' }, seconds: { type: 'string', default: '5' }, template: { type: 'string' }, json: { type: 'boolean', default: false } },
});
const running = Number(values.running);
const settings = loadSettings();
const client = createClient(settings.socket);
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
const prefix = `bench-${process.pid}`;
const daemon = Number(readFileSync(join(settings.runDir, 'veldd.pid'), 'utf8').split(' ')[0]);
const figures: Record<string, string | number> = {};

function memory(): string {
  const rollup = readFileSync(`/proc/${daemon}/smaps_rollup`, 'utf8');
  const of = (name: string): number => Math.round(Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(rollup)?.[1]) / 1024);
  return `RSS ${of('Rss')}, PSS ${of('Pss')}`;
}

/** CPU seconds that the daemon has used. */
function cpu(): number {
  const stat = readFileSync(`/proc/${daemon}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / 100;
}

function ask(path: string): Promise<number> {
  return new Promise((resolve, reject) => {
    request({ socketPath: settings.socket, path, agent }, (answer) => {
      let size = 0;
      answer.on('data', (chunk: Buffer) => { size += chunk.length; });
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(size);
        else reject(new Error(`${path}: ${answer.statusCode}`));
      });
    }).on('error', reject).end();
  });
}

async function rate(path: string): Promise<string> {
  for (let i = 0; i < 20; i++) await ask(path);
  const [since, before] = [performance.now(), cpu()];
  let count = 0;
  let size = 0;
  let fastest = Number.POSITIVE_INFINITY;
  while (performance.now() - since < Number(values.seconds) * 1000) {
    const begin = performance.now();
    size = await ask(path);
    fastest = Math.min(fastest, performance.now() - begin);
    count += 1;
  }
  const seconds = (performance.now() - since) / 1000;
  return `${Math.round(count / seconds)} a second, ${((cpu() - before) / count * 1000).toFixed(1)} ms of CPU each, the fastest in ${fastest.toFixed(1)} ms, ${Math.round(size / 1024)} KiB`;
}

const names: string[] = [];
try {
  const templates = await client.request<{ name: string }[]>('GET', '/v1/templates');
  const template = values.template ?? templates[0]?.name;
  if (template === undefined) throw new Error('there is no template: run ./quickstart first');
  figures['memory, MiB: begin'] = memory();
  for (let i = 0; i < running; i++) {
    names.push(`${prefix}-${i}`);
    await client.operation('POST', '/v1/ves', { name: `${prefix}-${i}`, template, start: true });
  }
  figures[`memory, MiB: ${running} more running`] = memory();
  figures['GET /v1/ves'] = await rate('/v1/ves');
  figures['GET /v1/ves?details=true'] = await rate('/v1/ves?details=true');
  figures['GET /v1/ves/NAME'] = await rate(`/v1/ves/${prefix}-0`);
  figures['GET /metrics'] = await rate('/metrics');
  figures[`memory, MiB: after these`] = memory();
} finally {
  for (const ve of names) await client.operation('DELETE', `/v1/ves/${ve}?force=true`).catch(() => {});
  agent.destroy();
}
if (values.json) process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
else for (const [name, figure] of Object.entries(figures)) process.stdout.write(`${name.padEnd(36)} ${figure}\n`);
