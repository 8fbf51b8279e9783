/** `veld template delete` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string[] }, { wait: boolean }>({
  name: 'template delete',
  group: 'Templates',
  summary: 'Delete templates that no VE uses',
  args: [{ name: 'template', completes: 'template', help: 'Names or fingerprints', variadic: true }],
  options: [NO_WAIT],
  examples: [['template delete debian-11', 'Delete one']],
  errors: ['template.not_found', 'template.in_use', 'layer.in_use', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { template }, options) {
    const jobs = template.map((label) => ({ label, method: 'DELETE' as const, path: `/v1/templates/${segment(label)}` }));
    return runForEach(context, jobs, options, (label) => `template ${label} deleted`);
  },
});
