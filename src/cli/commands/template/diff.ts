/** `veld template diff` */
import type { TemplateDiff } from '../../../ve/template-diff.ts';
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

const LETTERS = { added: 'A', removed: 'D', changed: 'M' } as const;

export const command = defineCommand<{ from: string; to: string }, { files?: boolean }>({
  name: 'template diff',
  group: 'Templates',
  summary: 'List what differs between two templates',
  description: ['Packages, by what dpkg or apk have written: those that have come (+), gone (-), and those of another version. With --files also each file that has come (A), gone (D) or changed (M), and each folder that has come or gone.'],
  args: [{ name: 'from', completes: 'template', help: 'Name or fingerprint' }, { name: 'to', completes: 'template', help: 'The other one' }],
  options: [{ flags: '--files', help: 'Also files' }],
  examples: [['template diff web-server-v1 web-server', 'What is new in it'], ['template diff debian-12 web-server --files', 'All that was done']],
  errors: ['template.not_found', 'storage.failed', 'pool.unavailable'],
  json: 'packages and files that differ',
  async run(context, { from, to }, { files = false }) {
    const diff = await (await context.client()).request<TemplateDiff>('GET', `/v1/templates/${segment(from)}/diff?to=${encodeURIComponent(to)}${files ? '&files=true' : ''}`);
    if (context.json) return context.printJson(diff);
    const { packages } = diff;
    if (packages === null) context.err('veld: which packages they have cannot be read of both\n');
    else {
      const lines = [...packages.added.map(({ name, version }) => [name, `+ ${name} ${version}`]), ...packages.removed.map(({ name, version }) => [name, `- ${name} ${version}`]), ...packages.changed.map((one) => [one.name, `  ${one.name} ${one.from} -> ${one.to}`])];
      context.out(lines.toSorted(([a], [b]) => (a! < b! ? -1 : 1)).map(([, line]) => `${sanitise(line!)}\n`).join(''));
    }
    // Names come from inside of templates: bytes, of which most are UTF-8, and hostile.
    context.out((diff.files ?? []).map(({ change, path, type }) => `${LETTERS[change]} ${sanitise(Buffer.from(path, 'latin1').toString('utf8')).replaceAll('\n', '\uFFFD')}${type === 'folder' ? '/' : ''}\n`).join(''));
  },
});
