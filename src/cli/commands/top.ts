/** `veld top` */
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { showScreen } from '../top/screen.ts';
import { nodeView, processView, SORT_NAMES } from '../top/views.ts';
import { parsePositive, parseSeconds } from '../values.ts';

interface Options {
  sort?: string;
  interval?: number;
  iterations?: number;
  once?: boolean;
  reverse?: boolean;
  all?: boolean;
}

export const command = defineCommand<{ ve: string | undefined }, Options>({
  name: 'top',
  group: 'Looking at VEs',
  summary: 'Watch what VEs use, or the processes of one',
  description: [
    'CPU in percent of one CPU, memory with page cache and against the limit, processes and threads, bytes a second of the network as the VE sees them.',
    'Rates are over the interval before each sample. With the name of a VE: its processes with their pids on the host and inside, and their users inside.',
    'On a terminal a picture that renews itself: q quits, letters sort as its last line says, R turns the order round, arrows scroll. Elsewhere one table a sample.',
  ],
  args: [{ name: 've', completes: 'running ve', help: 'Name, number or UUID; without it all that run', required: false }],
  options: [
    { flags: '-s, --sort <key>', help: 'Sort by this; time, user and pid are of processes, tasks, rx and tx of VEs', choices: SORT_NAMES },
    { flags: '-r, --reverse', help: 'The other way round' },
    { flags: '-i, --interval <seconds>', help: 'Between two samples; default 2', parse: parseSeconds },
    { flags: '-n, --iterations <count>', help: 'End after this many samples', parse: parsePositive },
    { flags: '-1, --once', help: 'One sample, as a table: the same as --iterations 1 into a pipe' },
    { flags: '-a, --all', help: 'VEs that do not run, too' },
  ],
  examples: [
    ['top', 'All VEs, the busiest first'],
    ['top --once --sort memory', 'A table of now, for a script or a report'],
    ['top --json --interval 10', 'One JSON object every ten seconds'],
    ['top web', 'The processes of web'],
  ],
  errors: ['ve.not_found', 've.not_running'],
  json: 'one object a sample and line: time, host and ves, or time, more and processes',
  async run(context, { ve }, { sort = 'cpu', reverse = false, interval = 2, iterations = Infinity, once = false, all = false }) {
    const view = ve === undefined ? nodeView(all) : processView(ve);
    if (!view.sorts.some(({ name }) => name === sort)) {
      throw new VeldError('usage', `top: ${ve === undefined ? 'VEs' : 'processes'} cannot be sorted by ${sort}.`, { hint: `There are: ${view.sorts.map(({ name }) => name).join(', ')}.` });
    }
    if (all && ve !== undefined) throw new VeldError('usage', 'top: --all is for VEs, and goes without a name.', { hint: 'See `veld help top`.' });
    const order = { sort, reverse };
    const client = await context.client();
    if (context.outIsTerminal && process.stdin.isTTY && !context.json && !once) {
      await showScreen(context, client, view, { order, interval: interval * 1000, iterations });
      return;
    }
    await view.sample(client); // what the first rates are against
    const count = once ? 1 : iterations;
    for (let i = 0; i < count; i += 1) {
      await sleep(interval * 1000);
      await view.sample(client);
      // Lines for programs, also on a terminal: a stream of samples is no document.
      if (context.json) context.out(`${JSON.stringify(view.json(order))}\n`);
      else context.out(`${i > 0 ? '\n' : ''}${view.summary()}\n${view.table(order, context)}`);
    }
  },
});
