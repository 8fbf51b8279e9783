/** `veld template build` */
import type { TemplateRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

interface Options {
  init?: 'systemd' | 'sysvinit' | 'busybox' | 'none';
  name?: string;
  include?: string[][];
  mirror?: string;
  wait: boolean;
}

export const command = defineCommand<{ suite: string }, Options>({
  name: 'template build',
  group: 'Templates',
  summary: 'Build a template from the packages of a distribution',
  description: [
    'Debian and Ubuntu suites. Signatures are always checked. `host` means the release that this host runs.',
    'With --init busybox packages are unpacked, not installed: a system of a few megabytes. With --init none the template has no init at all; it is for VEs that run one command (`veld create NAME -t TEMPLATE -- COMMAND`).',
  ],
  args: [{ name: 'suite', help: '`debian-12` or `bookworm`, `debian-testing`, `ubuntu-24.04` or `noble`, ..., or `host`' }],
  options: [
    { flags: '--init <init>', help: 'What its VEs boot: systemd (default), sysvinit, busybox or none', choices: ['systemd', 'sysvinit', 'busybox', 'none'] },
    { flags: '-n, --name <name>', help: 'Name of the template; default from the suite and the init: debian-12, debian-12-sysvinit, debian-12-busybox, debian-12-app' },
    { flags: '-i, --include <packages>', help: 'More packages, separated by commas', parse: (text) => text.split(',').filter(Boolean), repeat: true },
    { flags: '-m, --mirror <url>', help: 'Package source; default: the main one of this host' },
    NO_WAIT,
  ],
  examples: [['template build debian-12', 'Debian 12'], ['template build debian-13 --init sysvinit', 'Debian 13 without systemd'], ['template build noble --name shop --include nginx,postgresql', 'Ubuntu 24.04 with two programs']],
  errors: ['template.name_taken', 'template.build_failed', 'name.invalid', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the template',
  async run(context, { suite }, { init, name, include = [], mirror, wait }) {
    const body = { suite, init, name, include: include.flat(), mirror };
    const record = await runJob(context, { label: name ?? suite, method: 'POST', path: '/v1/templates/build', body }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `template ${(record.result as Partial<TemplateRecord> | null)?.name ?? name ?? suite} built\n` : `${record.id}\n`);
  },
});
