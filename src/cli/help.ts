/** Help, generated from the descriptions of the commands. */
import { ERRORS } from '../lib/errors.ts';
import type { ErrorCode } from '../lib/errors.ts';
import { GLOBAL_OPTIONS, GROUPS } from './command.ts';
import type { Command, OptionSpec } from './command.ts';
import { argumentForm } from './parse.ts';
import { displayWidth } from './show/table.ts';

interface Style {
  /** Columns; Infinity when not a terminal. */
  width: number;
  colour: boolean;
}

/** `veld template build [options] <suite>`. */
export function usageLine(command: Command): string {
  const args = (command.args ?? []).map((spec) => spec.commandLine ? `[--] ${argumentForm(spec)}` : argumentForm(spec));
  return ['veld', command.name, '[options]', ...args].join(' ');
}

/** Help of one command: usage, arguments, options, examples, exit statuses. */
export function commandHelp(command: Command, style: Style): string {
  const width = Math.min(style.width, 100);
  const title = heading(style.colour);
  const parts = [`${title('Usage:')} ${usageLine(command)}\n`, wrap(`${command.summary}.`, width)];
  for (const paragraph of command.description ?? []) parts.push(wrap(paragraph, width));
  if (command.args?.length) parts.push(title('Arguments:') + '\n' + pairs(command.args.map((spec) => [spec.name, spec.help]), width));
  parts.push(title('Options:') + '\n' + pairs([...command.options ?? [], ...GLOBAL_OPTIONS].map((spec) => [spec.flags, optionHelp(spec)]), width));
  if (command.examples?.length) {
    parts.push(title('Examples:') + '\n' + command.examples.map(([line, does]) => `  ${line === '' ? 'veld' : `veld ${line}`}\n${wrap(does, width, '      ')}`).join(''));
  }
  if (command.json !== undefined) parts.push(wrap(`With --json: ${command.json}.`, width));
  parts.push(title('Exit status:') + '\n' + pairs(exitStatuses(command), width));
  return parts.join('\n');
}

/** `veld help`: all commands by group. */
export function overviewHelp(commands: readonly Command[], style: Style): string {
  const width = Math.min(style.width, 100);
  const title = heading(style.colour);
  const nameWidth = Math.max(...commands.map((c) => c.name.length));
  const parts = [`${title('Usage:')} veld <command> [options]\n\nDivides a Linux server into virtual environments (VEs).\n`];
  for (const group of GROUPS) {
    const members = commands.filter((c) => c.group === group);
    if (members.length > 0) parts.push(`${title(`${group}:`)}\n${pairs(members.map((c) => [c.name, c.summary]), width, nameWidth)}`);
  }
  parts.push(`${title('Options of every command:')}\n${pairs(GLOBAL_OPTIONS.map((spec) => [spec.flags, spec.help]), width)}`);
  parts.push('`veld help COMMAND` tells more; `veld help properties` lists what `veld set` can change.\n');
  return parts.join('\n');
}

/** What an option's help line says, with choices. */
export function optionHelp(spec: OptionSpec): string {
  const notes = [spec.mandatory && 'required', spec.choices && `one of ${spec.choices.join(', ')}`, spec.repeat && 'may be repeated'].filter(Boolean);
  return notes.length > 0 ? `${spec.help} (${notes.join('; ')})` : spec.help;
}

/** Exit statuses that a command can end with, each with its meaning, ascending. */
export function exitStatuses(command: Command): [status: string, meaning: string][] {
  const shared: ErrorCode[] = command.group === 'Help' ? ['usage'] : ['internal', 'usage', 'daemon.unreachable'];
  const byStatus = new Map<number, string[]>([[0, ['done']]]);
  for (const code of [...shared, ...command.errors ?? []]) {
    const status = ERRORS[code].exit;
    byStatus.set(status, [...byStatus.get(status) ?? [], code]);
  }
  const rows = [...byStatus].sort(([a], [b]) => a - b).map(([status, codes]): [string, string] => [String(status), codes.join(', ')]);
  return [...rows, ...(command.exits ?? []).map(([status, meaning]): [string, string] => [status, meaning])];
}

/** Break a paragraph into lines. Ends with a newline. */
export function wrap(text: string, width: number, indent = ''): string {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line !== '' && displayWidth(indent + line) + 1 + displayWidth(word) > width) {
      lines.push(indent + line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(indent + line);
  return `${lines.join('\n')}\n`;
}

/** Two columns: a term and its explanation, wrapped under itself. */
function pairs(rows: readonly (readonly [string, string])[], width: number, termWidth = Math.min(34, Math.max(...rows.map(([term]) => term.length)))): string {
  const indent = ' '.repeat(termWidth + 4);
  return rows.map(([term, help]) => {
    const text = wrap(help, Math.max(width, indent.length + 20), indent);
    return term.length > termWidth ? `  ${term}\n${text}` : `  ${term.padEnd(termWidth)}  ${text.slice(indent.length)}`;
  }).join('');
}

function heading(colour: boolean): (text: string) => string {
  return (text) => colour ? `\x1b[1m${text}\x1b[22m` : text;
}
