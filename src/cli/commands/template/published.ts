/** `veld template published` */
import type { PublishedProduct } from '../../../templates/publishing/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatBytes } from '../../show/text.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'template published',
  group: 'Templates',
  summary: 'List what this node publishes',
  options: [{ flags: '-q, --quiet', help: 'Products only, one a line' }],
  examples: [['template published', 'A table with a row for each version']],
  errors: ['published.damaged'],
  json: 'an array of products with their versions; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const products = await (await context.client()).request<PublishedProduct[]>('GET', '/v1/published');
    if (context.json) context.printJson(quiet ? products.map(({ product }) => product) : products);
    else if (quiet) context.out(products.map(({ product }) => `${product}\n`).join(''));
    else if (products.length === 0 && context.outIsTerminal) context.out('Nothing is published. Publish a template: veld template publish NAME\n');
    else {
      context.out(layoutTable([{ title: 'PRODUCT', shrink: true }, { title: 'VERSION' }, { title: 'TEMPLATE', shrink: true }, { title: 'SIZE', right: true }, { title: 'OPENVZ' }, { title: 'FINGERPRINT' }, { title: 'ALIASES', shrink: true }],
        products.flatMap((each) => each.versions.toReversed().map((version) => [
          each.product, version.serial, version.template.name, formatBytes(version.tree.size), version.openvz ? 'yes' : '-', version.fingerprint.slice(0, 12), each.aliases.join(', ') || '-',
        ])), context));
    }
  },
});
