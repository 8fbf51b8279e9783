/** `veld template warm` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string[] }, { wait: boolean; drop?: boolean }>({
  name: 'template warm',
  group: 'Templates',
  summary: 'Keep a booted VE of a template, so that new ones need not boot',
  description: [
    'The daemon does this by itself after the first `create --start` of a template, unless the setting deploy.warm is off.',
    'A new VE that is brought to life from the image has its own name, machine-id, host keys, addresses and uids, and all services running.',
  ],
  args: [{ name: 'template', completes: 'template', help: 'Names or fingerprints', variadic: true }],
  options: [{ flags: '--drop', help: 'Throw the image away instead; the daemon makes no other one by itself before it is started again' }, NO_WAIT],
  examples: [['template warm debian-12', 'Make one now, or anew'], ['template warm --drop debian-12', 'Let new VEs boot']],
  errors: ['template.not_found', 'template.cold', 'engine.missing', 'checkpoint.refused', 'checkpoint.failed', 've.start_failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { template }, options) {
    const jobs = template.map((label) => ({ label, method: options.drop ? 'DELETE' as const : 'POST' as const, path: `/v1/templates/${segment(label)}/warm` }));
    return runForEach(context, jobs, options, (label) => (options.drop ? `${label}: the warm image is gone` : `template ${label} is warm`));
  },
});
