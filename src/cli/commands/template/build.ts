/** `veld template build` */
import type { TemplateRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

interface Options {
  name?: string;
  include?: string[][];
  mirror?: string;
  wait: boolean;
}

export const command = defineCommand<{ suite: string }, Options>({
  name: 'template build',
  group: 'Templates',
  summary: 'Build a template from the packages of a distribution',
  description: ['Debian and Ubuntu suites. Signatures are always checked. `host` means the release that this host runs.'],
  args: [{ name: 'suite', help: '`bookworm`, `trixie`, `noble`, ..., or `host`' }],
  options: [
    { flags: '-n, --name <name>', help: 'Name of the template; default from the suite: debian-12' },
    { flags: '-i, --include <packages>', help: 'More packages, separated by commas', parse: (text) => text.split(',').filter(Boolean), repeat: true },
    { flags: '-m, --mirror <url>', help: 'Package source; default: the main one of this host' },
    NO_WAIT,
  ],
  examples: [['template build bookworm', 'Debian 12'], ['template build noble --name shop --include nginx,postgresql', 'Ubuntu 24.04 with two programs']],
  errors: ['template.name_taken', 'template.build_failed', 'name.invalid', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the template',
  async run(context, { suite }, { name, include = [], mirror, wait }) {
    const body = { suite, name, include: include.flat(), mirror };
    const record = await runJob(context, { label: name ?? suite, method: 'POST', path: '/v1/templates/build', body }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `template ${(record.result as Partial<TemplateRecord> | null)?.name ?? name ?? suite} built\n` : `${record.id}\n`);
  },
});
