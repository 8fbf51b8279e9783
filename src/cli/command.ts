/** The shape of a command: everything about one verb stands in one file, and help, docs and completion are generated from it. */
import type { ErrorCode } from '../lib/errors.ts';
import type { Context } from './context.ts';

/** What the shell's completion proposes for a word; names come from the daemon. */
export type Completes = 've' | 'running ve' | 'stopped ve' | 'frozen ve' | 'suspended ve' | 'template' | 'operation' | 'running operation' | 'property' | 'assignment' | 'topic' | 'file' | 'node' | 'preset' | 'pool' | 'repository' | 'recipe';

export interface ArgumentSpec {
  /** As shown in help, e.g. `ve`; the key under which the action receives it. */
  name: string;
  help: string;
  /** Default true. */
  required?: boolean;
  /** Takes all that follow; the action receives an array. */
  variadic?: boolean;
  /** A command line of somebody else: from its first word (or from `--`) nothing is an option of ours any more. Implies variadic. */
  commandLine?: boolean;
  choices?: readonly string[];
  completes?: Completes;
  /** A command line that begins at `--` and nowhere else, because a word too many is more likely a mistake. */
  afterDashes?: boolean;
}

export interface OptionSpec {
  /** In commander's form: `-f, --force`, `--timeout <duration>`. The action receives it in camel case. */
  flags: string;
  help: string;
  /** Turns the text into a value; throws VeldError `usage`. */
  parse?: (text: string) => unknown;
  /** May be given several times; the action receives an array. */
  repeat?: boolean;
  choices?: readonly string[];
  completes?: Completes;
  /** Must be given. */
  mandatory?: boolean;
}

/** Headings of `veld help`, in this order. */
export const GROUPS = ['Life of a VE', 'Looking at VEs', 'Checkpoints', 'Backups', 'Templates', 'Operations', 'Nodes', 'This node', 'Help'] as const;

export interface Command {
  /** All words: `create`, `template build`. */
  name: string;
  group: (typeof GROUPS)[number];
  /** One line, no full stop. */
  summary: string;
  /** Paragraphs. */
  description?: readonly string[];
  args?: readonly ArgumentSpec[];
  options?: readonly OptionSpec[];
  /** Command line (without `veld`) and what it does. */
  examples?: readonly (readonly [line: string, does: string])[];
  /** Rows of the error table that this command can end with, beyond those that every command shares. */
  errors?: readonly ErrorCode[];
  /** Exit statuses of its own. */
  exits?: readonly (readonly [status: string, meaning: string])[];
  /** Why it is about this node and no other: it refuses `--node`, and does not look at VELD_NODE. */
  local?: string;
  /** What `--json` prints; absent when the command has no output of its own. */
  json?: string;
  /** @returns the exit status; nothing means 0 */
  run(context: Context, args: Record<string, never>, options: Record<string, never>): Promise<number | void>;
}

/** What a command's file writes: the action with the types of its own arguments and options. */
export interface TypedCommand<Args, Options> extends Omit<Command, 'run'> {
  run(context: Context, args: Args, options: Options): Promise<number | void>;
}

/** Make a command of a description whose action names the types of its arguments and options. The parser fills them by their specs. */
export function defineCommand<Args, Options = object>(command: TypedCommand<Args, Options>): Command {
  return command as unknown as Command;
}

/** Options that every command has; they may also stand before the command's name. */
export const GLOBAL_OPTIONS: readonly OptionSpec[] = [
  { flags: '--json', help: 'Print JSON: one document, or one line per item for streams' },
  { flags: '--socket <path>', completes: 'file', help: 'Socket of the daemon (also VELD_SOCKET; default from the settings file)' },
  { flags: '--node <name>', completes: 'node', help: 'Work on another node, with which this one is paired (also VELD_NODE)' },
  { flags: '-h, --help', help: 'Show help' },
];
