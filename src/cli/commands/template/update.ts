/** `veld template update` */
import type { TemplateView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template?: string[] }, { keep?: boolean; wait: boolean }>({
  name: 'template update',
  group: 'Templates',
  summary: 'Bring the newest versions of templates that came from a source',
  description: ['VEs that stand on the older version go on standing on it; it is called by its version then. Without any it goes, at the latest with the next update.'],
  args: [{ name: 'template', completes: 'template', help: 'Names or fingerprints; default: all that came from a source', variadic: true, required: false }],
  options: [{ flags: '--keep', help: 'Keep the older version also where no VE stands on it' }, NO_WAIT],
  examples: [['template update', 'All'], ['template update ubuntu-24.04', 'One']],
  errors: ['template.not_found', 'image.not_found', 'image.busy', 'source.not_found', 'source.invalid', 'source.unreachable', 'source.untrusted', 'source.corrupt', 'template.invalid', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations; the result of each is the template, with `updated`: whether there was a newer version',
  async run(context, { template = [] }, { keep, wait }) {
    const names = template.length > 0 ? template : (await (await context.client()).request<TemplateView[]>('GET', '/v1/templates')).filter(({ source }) => source.kind === 'image' && source.replaced === undefined).map(({ name }) => name);
    const jobs = names.map((label) => ({ label, method: 'POST' as const, path: `/v1/templates/${segment(label)}/update`, body: keep ? { keep } : {} }));
    return runForEach(context, jobs, { wait }, (label, record) => ((record?.result as { updated?: boolean } | null | undefined)?.updated ? `template ${label} is of the newest version now` : `template ${label} is of the newest version`));
  },
});
