/** `veld logs` */
import { setTimeout as sleep } from 'node:timers/promises';
import { defineCommand } from '../command.ts';
import { sanitise } from '../show/text.ts';
import { parseCount, segment } from '../values.ts';

/** Milliseconds between two looks of --follow. */
const PAUSE = 500;
/** Lines of each of those looks; more lines than that within one pause are told as missing. */
const WINDOW = 2000;

export const command = defineCommand<{ ve: string }, { tail?: number; follow?: boolean }>({
  name: 'logs',
  group: 'Looking at VEs',
  summary: 'Print what a VE wrote to its console',
  description: ['Of this boot and earlier ones, oldest first. On a terminal, control sequences other than colours are left out.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }],
  options: [
    { flags: '-n, --tail <lines>', help: 'Only the last lines', parse: parseCount },
    { flags: '-f, --follow', help: 'Go on printing what comes, until Ctrl-C' },
  ],
  examples: [['logs --tail 20 web', 'The last words of a VE'], ['logs -f web', 'Watch a boot']],
  errors: ['ve.not_found'],
  json: 'one object {"line": TEXT} a line',
  async run(context, { ve }, { tail, follow }) {
    const client = await context.client();
    const fetch = async (lines?: number): Promise<string[]> => {
      const { log } = await client.request<{ log: string }>('GET', `/v1/ves/${segment(ve)}/logs${lines === undefined ? '' : `?tail=${lines}`}`);
      const split = log.split('\n');
      if (split.at(-1) === '') split.pop();
      return split;
    };
    const print = (lines: readonly string[]): void => {
      const text = lines.map((line) => context.json ? `${JSON.stringify({ line })}\n` : `${line}\n`).join('');
      if (text !== '') context.out(context.outIsTerminal && !context.json ? sanitise(text) : text);
    };
    print(await fetch(tail));
    if (!follow) return;
    let seen = await fetch(WINDOW);
    for (;;) {
      await sleep(PAUSE);
      const now = await fetch(WINDOW);
      print(newLines(seen, now));
      seen = now;
    }
  },
});

/**
 * Lines of the newer look that the older one did not have: what follows the longest end of `before` with which `now` goes on.
 * @param before an earlier look at the end of a log that only grows @param now a later look
 */
export function newLines(before: readonly string[], now: readonly string[]): readonly string[] {
  for (let shift = 0; shift < before.length; shift++) {
    const common = before.length - shift;
    if (common > now.length) continue;
    let same = true;
    for (let i = 0; i < common && same; i++) same = before[shift + i] === now[i];
    if (same) return now.slice(common);
  }
  return now;
}
