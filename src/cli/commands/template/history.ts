/** `veld template history` */
import type { VersionView } from '../../../ve/template-versions.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatBytes, formatClock, sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string }>({
  name: 'template history',
  group: 'Templates',
  summary: 'List the versions of a template',
  description: ['Newest first. The one that has the name is marked. Versions are templates as any others: `veld template delete` removes one on which no VE stands.'],
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }],
  examples: [['template history web-server', 'What there is to go back to']],
  errors: ['template.not_found'],
  json: 'an array of versions',
  async run(context, { template }) {
    const versions = await (await context.client()).request<VersionView[]>('GET', `/v1/templates/${segment(template)}/history`);
    if (context.json) return context.printJson(versions);
    context.out(layoutTable([
      { title: 'VERSION', right: true }, { title: '' }, { title: 'NAME', shrink: true }, { title: 'CREATED' }, { title: 'OF VE', shrink: true }, { title: 'OWN SIZE', right: true }, { title: 'LAYERS', right: true }, { title: 'VES', right: true }, { title: 'DESCRIPTION', shrink: true },
    ], versions.map((one) => [String(one.number), one.current ? '*' : '', one.name, formatClock(new Date(one.createdAt)), one.ve ?? '-', formatBytes(one.size), String(one.layers), String(one.uses), sanitise(one.description)]), context));
  },
});
