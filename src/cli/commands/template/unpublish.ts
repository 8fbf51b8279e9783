/** `veld template unpublish` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { sanitise } from '../../show/text.ts';

export const command = defineCommand<{ name: string }, { wait: boolean }>({
  name: 'template unpublish',
  group: 'Templates',
  summary: 'Offer a template to others no longer',
  description: ['The files go, and the lists no longer have it. Whoever has pulled it keeps it, and the template itself stays.'],
  args: [{ name: 'name', completes: 'template', help: 'Product, alias, DISTRIBUTION:RELEASE[/VARIANT], or the template of which its newest version was made; with @VERSION only that version' }],
  options: [NO_WAIT],
  examples: [['template unpublish shop', 'All of its versions'], ['template unpublish debian:12@20260101_120000', 'One']],
  errors: ['published.not_found', 'image.ambiguous', 'published.unsigned', 'published.damaged', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has product and serials',
  async run(context, { name: given }, { wait }) {
    const [name = '', version] = given.split('@');
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/published/unpublish', body: { name, ...version !== undefined && { version } } }, { wait });
    if (context.json) return context.printJson(record);
    const { product, serials } = (record.result ?? {}) as { product: string; serials: string[] };
    context.out(wait ? `${sanitise(product)} is published no longer: ${serials.join(', ')}\n` : `${record.id}\n`);
  },
});
