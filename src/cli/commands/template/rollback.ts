/** `veld template rollback` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string; version?: string }, { wait: boolean }>({
  name: 'template rollback',
  group: 'Templates',
  summary: 'Give the name of a template to an earlier version',
  description: ['New VEs are made of that version then. The one that had the name is called NAME-vN, and nothing is lost: going forward again is the same. VEs that are there stay on what they stand on.'],
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }, { name: 'version', required: false, help: 'Its number, as in `veld template history`, or its name or fingerprint; default: the one before' }],
  options: [NO_WAIT],
  examples: [['template rollback web-server', 'The version before'], ['template rollback web-server 3', 'A certain one']],
  errors: ['template.not_found', 'version.not_found', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has name, version, and what the one before is called now',
  async run(context, { template, version }, { wait }) {
    const record = await runJob(context, { label: template, method: 'POST', path: `/v1/templates/${segment(template)}/rollback`, body: { ...version !== undefined && { version } } }, { wait });
    if (context.json) return context.printJson(record);
    if (!wait) return context.out(`${record.id}\n`);
    const { name, version: number, before } = record.result as { name: string; version: number; before: string | null };
    context.out(`template ${name} is version ${number}${before === null ? '' : `; the one that it was is called ${before}`}\n`);
  },
});
