/** `veld template edit` */
import type { VeDetail } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string }, { name?: string; wait: boolean }>({
  name: 'template edit',
  group: 'Templates',
  summary: 'Start a VE of a template, in which it can be changed',
  description: ['An ordinary VE, called edit-TEMPLATE. Change in it what is to be changed; stop it; `veld template commit` makes the next version of the template of it; destroy it.'],
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }],
  options: [{ flags: '--name <name>', help: 'Of the VE; default: edit-TEMPLATE' }, NO_WAIT],
  examples: [['template edit web-server', 'Begin the next version of web-server']],
  errors: ['template.not_found', 'name.invalid', 've.name_taken', 've.start_failed', 'address.none_free', 'uid.none_free', 'capacity.exceeded', 'engine.missing', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the VE',
  async run(context, { template }, { name = veNameFor(template), wait }) {
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/ves', body: { name, template, start: true } }, { wait });
    if (!wait) return context.json ? context.printJson(record) : context.out(`${record.id}\n`);
    const ve = await (await context.client()).request<VeDetail>('GET', `/v1/ves/${segment(name)}`);
    if (context.json) return context.printJson(ve);
    context.out([
      `${name} runs, a VE of ${ve.template.name}. Change it:`, `  veld enter ${name}`, `  veld exec ${name} -- COMMAND`, `  veld cp FILE ${name}:/PATH`, 'Then make the next version of the template, and put the VE away:',
      `  veld stop ${name}`, `  veld template commit ${name} ${ve.template.name} --replace --description "WHAT IS NEW"`, `  veld destroy ${name}`, '',
    ].join('\n'));
  },
});

/** Names of VEs have no dots, and no more than 63 characters. */
function veNameFor(template: string): string {
  return `edit-${template.toLowerCase().replaceAll(/[^a-z0-9-]+/g, '-')}`.slice(0, 63).replace(/-+$/, '');
}
