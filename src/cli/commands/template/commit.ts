/** `veld template commit` */
import { VeldError } from '../../../lib/errors.ts';
import type { Committed } from '../../../ve/template-commit.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { formatBytes, sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

interface Options {
  replace?: boolean;
  description?: string;
  allowSecrets?: boolean;
  keep?: string[];
  wait: boolean;
}

export const command = defineCommand<{ ve: string; name: string }, Options>({
  name: 'template commit',
  group: 'Templates',
  summary: 'Make a template of a stopped VE',
  description: [
    'What the VE has changed becomes a layer above those of its template: these are shared, and nothing of them is copied. The VE stays as it is.',
    'Left out is what belongs to that VE alone, and what only takes up room: the machine-id, host keys of SSH, name and network, logs, lists and archives of packages, leases, seeds, histories of shells, /tmp, what cloud-init knows of the instance. '
      + 'docs/how-to/templates.md has the list; --keep PATTERN keeps something of it.',
    'What looks like a secret (private keys, authorized_keys, passwords that the template has not, tokens) is listed, and the commit is refused, unless --allow-secrets is given.',
  ],
  args: [{ name: 've', completes: 'stopped ve', help: 'Name, number or UUID' }, { name: 'name', completes: 'template', help: 'Of the template' }],
  options: [
    { flags: '--replace', help: 'It is the next version of the template that has the name, which is called NAME-vN then' },
    { flags: '--description <text>', help: 'What it is for, one line' },
    { flags: '--allow-secrets', help: 'Make it also when something in it looks like a secret' },
    { flags: '--keep <pattern>', help: 'Do not clean away what fits: a path; * stands for any characters of a name, /** at the end for all below', repeat: true },
    NO_WAIT,
  ],
  examples: [['template commit web web-server', 'A template of what is in web'], ['template commit edit-web-server web-server --replace --description "nginx 1.26"', 'Its next version']],
  errors: ['ve.not_found', 've.busy', 've.running', 've.suspended', 'name.invalid', 'template.not_found', 'template.name_taken', 'template.secrets', 'template.unchanged', 'template.invalid', 'disk.full', 'storage.failed', 'pool.unavailable', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result is the template, with what was cleaned away and what looks like a secret',
  async run(context, { ve, name }, { wait, ...body }) {
    let record;
    try {
      record = await runJob(context, { label: ve, method: 'POST', path: `/v1/ves/${segment(ve)}/commit`, body: { name, ...body } }, { wait });
    } catch (error) {
      // The first few are in the message: here is the rest.
      const secrets = error instanceof VeldError && error.code === 'template.secrets' ? error.details?.secrets as Committed['secrets'] | undefined : undefined;
      if (secrets && !context.json) context.err(secretLines(secrets));
      throw error;
    }
    if (context.json) return context.printJson(record);
    if (!wait) return context.out(`${record.id}\n`);
    const made = record.result as Committed;
    if (made.secrets.length > 0) context.err(secretLines(made.secrets));
    context.out(`template ${name} made of ${ve}: ${formatBytes(made.layerSize)} above ${made.layers.length - 1} shared ${made.layers.length === 2 ? 'layer' : 'layers'}, ${made.cleanedCount} ${made.cleanedCount === 1 ? 'file' : 'files'} left out\n`);
  },
});

/** Names come from inside the VE: bytes, of which most are UTF-8, and hostile. */
function secretLines(secrets: Committed['secrets']): string {
  return secrets.map(({ path, what }) => `${sanitise(Buffer.from(path, 'latin1').toString('utf8')).replaceAll('\n', '\uFFFD')}: ${what}\n`).join('');
}
