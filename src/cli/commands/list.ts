/** `veld list` */
import type { VeView } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { layoutTable, paintStatus } from '../show/table.ts';
import { formatAge, formatTime, sanitise } from '../show/text.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'list',
  group: 'Looking at VEs',
  summary: 'List all VEs',
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['list', 'A table'], ['list -q', 'For scripts']],
  json: 'an array of VEs; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const ves = await (await context.client()).request<VeView[]>('GET', '/v1/ves');
    if (context.json) context.printJson(quiet ? ves.map((ve) => ve.name) : ves);
    else if (quiet) context.out(ves.map((ve) => `${ve.name}\n`).join(''));
    else if (ves.length === 0 && context.outIsTerminal) context.out('There is no VE yet. Make one: veld create NAME --template TEMPLATE --start\n');
    else {
      context.out(layoutTable([
        { title: 'NAME', shrink: true }, { title: 'NUMBER', right: true }, { title: 'STATUS', paint: paintStatus }, { title: 'UP', right: true },
        { title: 'ADDRESSES', shrink: true }, { title: 'TEMPLATE', shrink: true },
      ], ves.map((ve) => [ve.name, String(ve.number), ve.status, formatAge(ve.startedAt), ve.addresses.join(' ') || '-',
        ve.template.name ?? ve.template.fingerprint.slice(0, 12)]), context));
      for (const { name, notStarted } of ves) if (notStarted) context.err(`veld: ${name} was not started (${formatTime(notStarted.at)}): ${sanitise(notStarted.reason)}\n`);
    }
  },
});
