/** Turns the words after a command's name into its arguments and options: commander parses, the command's description says what there is. */
import { Argument, Command as Parser, CommanderError, Option } from 'commander';
import { VeldError } from '../lib/errors.ts';
import { GLOBAL_OPTIONS } from './command.ts';
import type { ArgumentSpec, Command, OptionSpec } from './command.ts';

export interface Parsed {
  /** `--help` was given; the rest may be incomplete. */
  help: boolean;
  args: Record<string, never>;
  options: Record<string, never>;
  json: boolean;
  socket: string | undefined;
  node: string | undefined;
}

/**
 * Parse the words of one command.
 * @throws VeldError `usage`, with a hint that names the command's help
 */
export function parseCommand(command: Command, words: readonly string[]): Parsed {
  const specs = command.args ?? [];
  const options = [...command.options ?? [], ...GLOBAL_OPTIONS];
  const trailing = specs.find((spec) => spec.commandLine);
  const { own, rest } = trailing ? splitCommandLine(words, options, trailing.afterDashes ? Infinity : specs.indexOf(trailing)) : { own: words, rest: [] };
  // Help wins over everything else that may be wrong with the line.
  if (asksHelp(own, options)) return { help: true, args: {}, options: {}, json: false, socket: undefined, node: undefined };
  const parser = new Parser(command.name).helpOption(false).exitOverride().allowExcessArguments(false)
    .configureOutput({ writeOut: () => {}, writeErr: () => {} }).action(() => {});
  for (const spec of specs) if (!spec.commandLine) parser.addArgument(argument(spec));
  for (const spec of options) parser.addOption(option(spec));
  try {
    parser.parse([...own], { from: 'user' });
  } catch (error) {
    throw usage(command, error);
  }
  const args: Record<string, unknown> = {};
  specs.filter((spec) => !spec.commandLine).forEach((spec, i) => { args[spec.name] = parser.processedArgs[i] as unknown; });
  if (trailing) {
    if (trailing.required !== false && rest.length === 0) throw new VeldError('usage', `${command.name}: missing ${trailing.name}.`, { hint: hint(command) });
    args[trailing.name] = rest;
  }
  const { json, socket, node, ...own_ } = parser.opts<Record<string, never>>();
  return { help: false, args: args as Record<string, never>, options: own_, json: Boolean(json), socket, node };
}

/** `<ve>`, `[ve]`, `<ve...>`. */
export function argumentForm(spec: ArgumentSpec): string {
  const name = spec.variadic || spec.commandLine ? `${spec.name}...` : spec.name;
  const form = spec.required === false ? `[${name}]` : `<${name}>`;
  return spec.afterDashes ? `[-- ${name}]` : form;
}

/**
 * Cut a line where a foreign command line begins: after `--`, or at the first word behind our own arguments.
 * @param before how many arguments of ours come first; Infinity: only `--` counts
 */
function splitCommandLine(words: readonly string[], options: readonly OptionSpec[], before: number): { own: string[]; rest: string[] } {
  let positional = 0;
  for (let i = 0; i < words.length; i++) {
    const word = words[i]!;
    if (word === '--') return { own: words.slice(0, i), rest: words.slice(i + 1) };
    if (word.startsWith('-') && word.length > 1) {
      if (takesNext(word, options)) i += 1;
    } else if (positional++ === before) {
      return { own: words.slice(0, i), rest: words.slice(i) };
    }
  }
  return { own: [...words], rest: [] };
}

/** Whether the word is an option whose value is the next word. */
function takesNext(word: string, options: readonly OptionSpec[]): boolean {
  return options.some(({ flags }) => flags.includes('<') && flags.split(/[ ,]+/).includes(word));
}

function asksHelp(words: readonly string[], options: readonly OptionSpec[]): boolean {
  for (let i = 0; i < words.length; i++) {
    if (words[i] === '--') return false;
    if (words[i] === '--help' || words[i] === '-h') return true;
    if (takesNext(words[i]!, options)) i += 1;
  }
  return false;
}

function argument(spec: ArgumentSpec): Argument {
  const made = new Argument(argumentForm(spec), spec.help);
  return spec.choices ? made.choices([...spec.choices]) : made;
}

function option(spec: OptionSpec): Option {
  const made = new Option(spec.flags, spec.help);
  const { parse } = spec;
  if (spec.repeat) made.argParser((text: string, previous: unknown[] | undefined) => [...previous ?? [], parse ? parse(text) : text]);
  else if (parse) made.argParser((text: string) => parse(text));
  if (spec.choices) made.choices([...spec.choices]);
  if (spec.mandatory) made.makeOptionMandatory();
  return made;
}

function usage(command: Command, error: unknown): VeldError {
  if (error instanceof VeldError) return new VeldError(error.code, `${command.name}: ${error.message}`, { hint: hint(command) });
  if (!(error instanceof CommanderError)) throw error;
  // commander: "error: unknown option '--forse'\n(Did you mean --force?)"
  const text = error.message.replace(/^error: /, '').replace(/\s*\n\s*/g, ' ');
  return new VeldError('usage', `${command.name}: ${text}${/[.?)]$/.test(text) ? '' : '.'}`, { hint: hint(command) });
}

const hint = (command: Command): string => `See \`veld help ${command.name}\`.`;
