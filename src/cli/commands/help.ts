/** `veld help` */
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { commandHelp, overviewHelp } from '../help.ts';

export const command = defineCommand<{ topic: string[] | undefined }>({
  name: 'help',
  group: 'Help',
  summary: 'Explain a command, or the properties of a VE',
  args: [{ name: 'topic', completes: 'topic', help: 'A command, or `properties`', required: false, variadic: true }],
  examples: [['help', 'All commands'], ['help template build', 'One command'], ['help properties', 'What `veld set` can change']],
  json: 'the commands (or the one named) with their arguments and options, or the table of properties',
  async run(context, { topic = [] }) {
    if (topic[0] === 'properties') {
      if (context.json) {
        const { PROPERTIES, findProperty } = await import('../../spec/properties.ts');
        context.printJson(topic[1] === undefined ? PROPERTIES : findProperty(topic[1]));
        return;
      }
      const { propertiesHelp } = await import('../properties-help.ts');
      context.out(propertiesHelp(topic[1], context));
      return;
    }
    const { loadAllCommands } = await import('../table.ts');
    const commands = await loadAllCommands();
    if (topic.length === 0) {
      if (context.json) context.printJson(commands);
      else context.out(overviewHelp(commands, context));
      return;
    }
    const name = topic.join(' ');
    const found = commands.find((command) => command.name === name);
    const family = commands.filter((command) => command.name.startsWith(`${name} `));
    if (context.json && (found || family.length > 0)) context.printJson(found ?? family);
    else if (found) context.out(commandHelp(found, context));
    else if (family.length > 0) context.out(overviewHelp(family, context));
    else throw new VeldError('usage', `There is no command '${name}'.`, { hint: 'See `veld help`.' });
  },
});
