/**
 * What a new VE costs from a warm image of its template, or as a spare of it, and from a boot: time until it is there, and memory.
 *
 *   node bench/deploy.ts [--count 20] [--template NAME] [--json]
 *
 * To be run against a daemon from the bundle, on a machine with nothing else to do: with `deploy.spares` 0 in its settings, or with more for what these are
 * worth in a row, when not each deploy finds one. First that many VEs are made in a row of the template's warm image (made
 * anew before), then, the image thrown away, as many that boot. "There" is the end of the operation for the former, which is when all services run, and systemd's
 * word `running` for the latter. Memory: proportional set size (PSS in proc(5)) of all processes of a VE and of its monitor, when all are there.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../src/client/client.ts';
import { loadSettings } from '../src/lib/settings.ts';
import type { TemplateView, VeDetail } from '../src/ve/types.ts';

const { values } = parseArgs({ options: { count: { type: 'string', default: '20' }, template: { type: 'string' }, json: { type: 'boolean', default: false } } });
const client = createClient(loadSettings().socket);
const count = Number(values.count);
const template = values.template ?? (await client.request<TemplateView[]>('GET', '/v1/templates'))[0]?.name;
if (template === undefined) throw new Error('there is no template: run ./quickstart first');

/** Bytes; processes that end meanwhile count as nothing. */
function pss(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => {
    try {
      return sum + Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))?.[1] ?? 0) * 1024;
    } catch {
      return sum;
    }
  }, 0);
}

/** Pids on the host of whoever is in the pid namespace of a VE's init, and its monitor. */
function pidsOf(init: number): number[] {
  const namespaceOf = (pid: number | string): string | undefined => {
    try {
      return readlinkSync(`/proc/${pid}/ns/pid`);
    } catch {
      return undefined;
    }
  };
  const mine = namespaceOf(init);
  const parent = Number(/^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${init}/status`, 'utf8'))?.[1]);
  return [parent, ...readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) >= init && namespaceOf(name) === mine).map(Number)];
}

async function deploy(kind: 'warm' | 'cold'): Promise<Record<string, string | number>> {
  const names = Array.from({ length: count }, (_, i) => `bench-${process.pid}-${i}`);
  const times: number[] = [];
  const began = performance.now();
  try {
    for (const name of names) {
      const since = performance.now();
      await client.operation('POST', '/v1/ves', { name, template, start: true });
      const { pid, deployed } = await client.request<VeDetail>('GET', `/v1/ves/${name}`);
      if (deployed !== kind) throw new Error(`${name} was deployed ${deployed}`);
      // By nsenter(1), as bench/run asks everybody.
      if (kind === 'cold') spawnSync('nsenter', ['-t', String(pid), '-a', 'systemctl', 'is-system-running', '--wait'], { stdio: 'ignore' });
      times.push(performance.now() - since);
    }
    const total = performance.now() - began;
    await sleep(3000);
    const memory = await Promise.all(names.map(async (name) => pss(pidsOf((await client.request<VeDetail>('GET', `/v1/ves/${name}`)).pid!))));
    return {
      deploy: kind, VEs: count, 'all, s': Number((total / 1000).toFixed(1)), 'each, ms': median(times), 'first five, ms': median(times.slice(0, 5)), 'last five, ms': median(times.slice(-5)),
      'PSS each, MB': Number((median(memory) / 1e6).toFixed(1)),
    };
  } finally {
    for (const name of names) await client.operation('DELETE', `/v1/ves/${name}?force=true`).catch(() => {});
  }
}

const rows: Record<string, string | number>[] = [];
await client.operation('POST', `/v1/templates/${template}/warm`);
rows.push(await deploy('warm'));
await client.operation('DELETE', `/v1/templates/${template}/warm`);
rows.push(await deploy('cold'));
if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
else for (const row of rows) process.stdout.write(`${Object.entries(row).map(([what, figure]) => `${what.padEnd(16)} ${figure}`).join('\n')}\n\n`);

function median(all: readonly number[]): number {
  return Math.round(all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN);
}
