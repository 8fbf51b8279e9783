/** `veld template list` */
import type { TemplateView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatBytes, formatClock } from '../../show/text.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'template list',
  group: 'Templates',
  summary: 'List all templates',
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['template list', 'A table']],
  json: 'an array of templates; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const templates = await (await context.client()).request<TemplateView[]>('GET', '/v1/templates');
    if (context.json) context.printJson(quiet ? templates.map((t) => t.name) : templates);
    else if (quiet) context.out(templates.map((t) => `${t.name}\n`).join(''));
    else if (templates.length === 0 && context.outIsTerminal) context.out('There is no template yet. Build one: veld template build host\n');
    else {
      context.out(layoutTable([
        { title: 'NAME', shrink: true }, { title: 'SYSTEM', shrink: true }, { title: 'ARCHITECTURE' }, { title: 'SIZE', right: true },
        { title: 'VES', right: true }, { title: 'WARM' }, { title: 'CREATED' }, { title: 'FINGERPRINT' },
      ], templates.map((t) => [t.name, `${t.os} ${t.release}`, t.architecture, formatBytes(t.size), String(t.uses), t.warm === null ? '-' : 'yes', formatClock(new Date(t.createdAt)),
        t.fingerprint.slice(0, 12)]), context));
    }
  },
});
