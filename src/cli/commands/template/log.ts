/** `veld template log` */
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ name: string }>({
  name: 'template log',
  group: 'Templates',
  summary: 'Print what the last build of a template from a recipe has said',
  description: ['Whether it came to something or not. Lines that begin with == are Veld\'s own: each tells what is done next. The logs of the last 50 names are kept. On a terminal, control sequences other than colours are left out.'],
  args: [{ name: 'name', completes: 'template', help: 'Name of the template, or of the one that was to be' }],
  examples: [['template log lamp', 'Why a build failed']],
  errors: ['recipe.not_found'],
  json: 'an object: `log`, the text',
  async run(context, { name }) {
    const answer = await (await context.client()).request<{ log: string }>('GET', `/v1/templates/${segment(name)}/log`);
    if (context.json) context.printJson(answer);
    else context.out(context.outIsTerminal ? sanitise(answer.log) : answer.log);
  },
});
