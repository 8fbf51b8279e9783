/** `veld template show` */
import type { TemplateView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatBytes, formatTime } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string }>({
  name: 'template show',
  group: 'Templates',
  summary: 'Show a template and how it was made',
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }],
  examples: [['template show debian-12', 'Where it comes from']],
  errors: ['template.not_found'],
  json: 'the template',
  async run(context, { template: key }) {
    const t = await (await context.client()).request<TemplateView>('GET', `/v1/templates/${segment(key)}`);
    if (context.json) return context.printJson(t);
    context.out(layoutFacts([
      ['Name', t.name],
      ['Fingerprint', t.fingerprint],
      ['System', `${t.os} ${t.release}, ${t.architecture}`],
      ['Size', formatBytes(t.size)],
      ['Layers', t.layers.map((layer) => layer.id).join(', ')],
      ['VEs', String(t.uses)],
      ['Warm image', t.warm === null ? 'none: VEs of it boot' : `since ${formatTime(t.warm)}`],
      ['Spare VEs', t.spares === 0 ? undefined : `${t.spares} ready`],
      ['Created', formatTime(t.createdAt)],
      ...Object.entries(t.source).map(([name, value]): [string, string] => [`Source ${name}`, plain(value)]),
    ], context));
  },
});

function plain(value: unknown): string {
  if (Array.isArray(value)) return value.map(plain).join(', ');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
