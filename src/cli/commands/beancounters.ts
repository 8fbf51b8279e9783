/** `veld beancounters` */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Beancounters } from '../../spec/beancounters/table.ts';
import { beancountersText } from '../../spec/beancounters/text.ts';
import { defineCommand } from '../command.ts';
import { beancounterNotes, changedRows, changesText } from '../show/beancounters.ts';
import { formatClock } from '../show/text.ts';
import { parsePositive, parseSeconds, segment } from '../values.ts';

interface Options {
  notes?: boolean;
  watch?: boolean;
  interval?: number;
  iterations?: number;
}

export const command = defineCommand<{ ve: string }, Options>({
  name: 'beancounters',
  group: 'Looking at VEs',
  summary: 'Show the user beancounters of a running VE',
  description: [
    'The table of OpenVZ\'s /proc/user_beancounters, to the column: what is held now, the peak, barrier and limit, and how often more was refused. Items, pages of 4096 bytes, or bytes.',
    'On a terminal what these numbers do not say comes after them: what this kernel only counts, and what it does not know. `veld ubc` is the same.',
    'With --watch the whole at first, then only the rows that have changed, and by how much.',
  ],
  args: [{ name: 've', completes: 'running ve', help: 'Name, number or UUID' }],
  options: [
    { flags: '-n, --notes', help: 'What the numbers do not say, also when standard output is no terminal' },
    { flags: '-w, --watch', help: 'Go on looking, until Ctrl-C' },
    { flags: '-i, --interval <seconds>', help: 'Between two looks; default 2', parse: parseSeconds },
    { flags: '--iterations <count>', help: 'End after this many looks', parse: parsePositive },
  ],
  examples: [['beancounters web', 'The table'], ['beancounters --watch web', 'What changes']],
  errors: ['ve.not_found', 've.not_running'],
  json: 'the number of the VE and its rows, where null is unlimited; with --watch one object a look and line, with the rows that have changed',
  async run(context, { ve }, { notes = false, watch = false, interval = 2, iterations = Infinity }) {
    const client = await context.client();
    const look = (): Promise<Beancounters> => client.request<Beancounters>('GET', `/v1/ves/${segment(ve)}/beancounters`);
    if (!watch) {
      const now = await look();
      if (context.json) context.printJson(now);
      else context.out(`${beancountersText(now)}${notes || context.outIsTerminal ? `\n${beancounterNotes(now, context.width)}` : ''}`);
      return;
    }
    let before: Beancounters | undefined;
    for (let i = 0; i < iterations; i += 1) {
      if (i > 0) await sleep(interval * 1000);
      const now = await look();
      if (context.json) context.out(`${JSON.stringify({ time: new Date().toISOString(), number: now.number, rows: changedRows(before, now) })}\n`);
      else context.out(changesText(before, now, formatClock(new Date())));
      before = now;
    }
  },
});
