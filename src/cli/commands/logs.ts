/** `veld logs` */
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { sanitise } from '../show/text.ts';
import { parseCount, segment } from '../values.ts';

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
    const query = new URLSearchParams({ ...tail !== undefined && { tail: String(tail) }, ...follow && { follow: '1' } }).toString();
    const path = `/v1/ves/${segment(ve)}/logs${query === '' ? '' : `?${query}`}`;
    const print = (lines: readonly string[]): void => {
      const text = lines.map((line) => context.json ? `${JSON.stringify({ line })}\n` : `${line}\n`).join('');
      if (text !== '') context.out(context.outIsTerminal && !context.json ? sanitise(text) : text);
    };
    if (!follow) {
      const { log } = await client.request<{ log: string }>('GET', path);
      print(log.replace(/\n$/, '').split('\n').slice(log === '' ? 1 : 0));
      return;
    }
    for await (const { line } of client.lines<{ line: string }>('GET', path)) print([line]);
    // The lines end with the VE, or with the daemon: this tells which.
    await client.request('GET', `/v1/ves/${segment(ve)}`);
    throw new VeldError('daemon.unreachable', 'The daemon went away while it was listened to.', { hint: 'Another one answers by now: give the command again.' });
  },
});
