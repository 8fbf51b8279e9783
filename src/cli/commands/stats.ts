/** `veld stats` */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '../../client/client.ts';
import { VeldError } from '../../lib/errors.ts';
import type { VeStats } from '../../ve/stats.ts';
import type { VeView } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { historyTable, nowTable } from '../show/stats.ts';
import { parsePositive, parseSeconds, segment } from '../values.ts';

interface Options {
  history?: '10m' | '1d' | '30d';
  watch?: boolean;
  interval?: number;
  iterations?: number;
}

/** The screen from its top left corner, and what is below it away. */
const FROM_TOP = '\x1b[H\x1b[J';

export const command = defineCommand<{ ve: string[] | undefined }, Options>({
  name: 'stats',
  group: 'Looking at VEs',
  summary: 'Show what VEs use now, or have used',
  description: [
    'The daemon reads once a second what all running VEs use. CPU in percent of one CPU; HELD is the part of the time in which the CPU limit held the VE back; memory with page cache, which stands beside it, too; disk and network in bytes a second;',
    'WAIT is the part of the time in which some task of the VE waited for a CPU, for memory, for a disk (pressure, where the kernel tells it); OOM counts processes that were killed because the VE had no memory left.',
    'With --history a line for each second of the last ten minutes, each minute of the last day, or each quarter of an hour of the last 30 days: rates and means over it. A dash: not counted on this host.',
  ],
  args: [{ name: 've', completes: 've', help: 'Names, numbers or UUIDs; without them all that run', required: false, variadic: true }],
  options: [
    { flags: '-H, --history <span>', help: 'What they have used', choices: ['10m', '1d', '30d'] },
    { flags: '-w, --watch', help: 'Again and again, until Ctrl-C' },
    { flags: '-i, --interval <seconds>', help: 'With --watch: between two looks; default 2', parse: parseSeconds },
    { flags: '-n, --iterations <count>', help: 'With --watch: end after this many', parse: parsePositive },
  ],
  examples: [
    ['stats', 'A line for each VE that runs'],
    ['stats web db --watch', 'Two VEs, again every two seconds'],
    ['stats web --history 1d', 'The minutes of the last day'],
    ['stats web --history 30d --json', 'For graphs: least, mean and greatest of memory and tasks, sums of all else'],
  ],
  errors: ['ve.not_found'],
  json: 'an array of a VE each: limits, the last sample with counters and rates, and with --history its points; with --watch one array a line',
  async run(context, { ve: keys = [] }, { history, watch = false, interval, iterations = Infinity }) {
    const hint = 'See `veld help stats`.';
    if (watch && history !== undefined) throw new VeldError('usage', 'stats: --watch shows what is now, --history what was.', { hint });
    if (!watch && (interval !== undefined || iterations !== Infinity)) throw new VeldError('usage', 'stats: --interval and --iterations go with --watch.', { hint });
    const client = await context.client();
    for (let i = 0; i < (watch ? iterations : 1); i += 1) {
      if (i > 0) await sleep((interval ?? 2) * 1000);
      const all = await ask(client, keys, history);
      if (context.json) {
        if (watch) context.out(`${JSON.stringify(all)}\n`);
        else context.printJson(all);
      } else if (history !== undefined) {
        for (const [n, { name, history: past }] of all.entries()) context.out(`${n > 0 ? '\n' : ''}${all.length > 1 ? `${name}\n` : ''}${historyTable(past?.points ?? [], context)}`);
      } else {
        const again = context.outIsTerminal ? FROM_TOP : i > 0 ? '\n' : '';
        context.out(`${watch ? again : ''}${nowTable(all, context)}`);
      }
    }
  },
});

/** @param keys none: all that run */
async function ask(client: Client, keys: readonly string[], history: string | undefined): Promise<VeStats[]> {
  const query = history === undefined ? '' : `?history=${history}`;
  const of = (key: string): Promise<VeStats> => client.request<VeStats>('GET', `/v1/ves/${segment(key)}/stats${query}`);
  if (keys.length > 0) return Promise.all(keys.map(of));
  const ves = await client.request<VeView[]>('GET', '/v1/ves');
  const found = await Promise.all(ves.filter(({ pid }) => pid !== null).map(async ({ uuid }) => of(uuid).catch((error: unknown) => {
    if (error instanceof VeldError && error.code === 've.not_found') return undefined; // destroyed meanwhile
    throw error;
  })));
  return found.filter((ve) => ve !== undefined);
}
