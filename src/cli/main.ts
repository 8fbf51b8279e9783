/** Entry of `veld`: finds the command in the table, has its words parsed, runs it, and turns an error into an exit status. */
import { VeldError } from '../lib/errors.ts';
import type { Command } from './command.ts';
import { createContext } from './context.ts';
import type { Parsed } from './parse.ts';
import { ALIASES, COMMANDS, SYNONYMS, loadCommand } from './table.ts';

/** Options before the command's name. */
interface Leading {
  json: boolean;
  socket: string | undefined;
  node: string | undefined;
  help: boolean;
  version: boolean;
  words: string[];
}

async function main(argv: readonly string[]): Promise<number> {
  const leading = readLeading(argv);
  if (leading.words[0] === COMPLETE) {
    const { answerShell } = await import('./completion/answer.ts');
    return answerShell(leading.words.slice(1), leading);
  }
  let json = leading.json;
  try {
    const { name, rest } = findCommand(leading);
    const command = (await loadCommand(name))!;
    // Known before parsing ends, because an error of the parsing itself is to be JSON then, too.
    json ||= beforeDashes(rest).includes('--json');
    const parsed = rest.length === 0 && takesNothing(command) ? NOTHING : (await import('./parse.ts')).parseCommand(command, rest);
    const context = createContext({ json: leading.json || parsed.json, socket: parsed.socket ?? leading.socket, node: nodeOf(command, parsed.node ?? leading.node) });
    if (!parsed.help) return await command.run(context, parsed.args, parsed.options) ?? 0;
    const { commandHelp } = await import('./help.ts');
    if (json) context.printJson(command);
    else context.out(commandHelp(command, context));
    return 0;
  } catch (error) {
    const { reportFailure } = await import('./failure.ts');
    return reportFailure({ json, err: (text) => { process.stderr.write(text); } }, error);
  }
}

/** What the shells' completion calls, with the words so far; see completion/answer.ts. No command: nobody types it. */
const COMPLETE = '__complete';

/** What parsing no words gives. */
const NOTHING: Parsed = { help: false, args: {}, options: {}, json: false, socket: undefined, node: undefined };

/** Whether a command may come without any word; then the parser need not be loaded, which would cost more than all else here. */
function takesNothing({ args = [], options = [] }: Command): boolean {
  return args.every((spec) => spec.required === false) && options.every((spec) => !spec.mandatory && !spec.flags.includes('--no-'));
}

/** The node that is meant: by the option, else by VELD_NODE; undefined for this one. */
function nodeOf({ name, local }: Command, given: string | undefined): string | undefined {
  if (local === undefined) return given ?? (process.env.VELD_NODE || undefined);
  if (given === undefined) return undefined;
  throw new VeldError('usage', `${name}: --node does not go with it: ${local}.`, { hint: 'Run it on that node.' });
}

function readLeading(argv: readonly string[]): Leading {
  const leading: Leading = { json: false, socket: undefined, node: undefined, help: false, version: false, words: [] };
  let i = 0;
  for (; i < argv.length && argv[i]!.startsWith('-'); i++) {
    const word = argv[i]!;
    if (word === '--json') leading.json = true;
    else if (word === '--socket' && i + 1 < argv.length) leading.socket = argv[++i];
    else if (word.startsWith('--socket=')) leading.socket = word.slice('--socket='.length);
    else if (word === '--node' && i + 1 < argv.length) leading.node = argv[++i];
    else if (word.startsWith('--node=')) leading.node = word.slice('--node='.length);
    else if (word === '--help' || word === '-h') leading.help = true;
    else if (word === '--version' || word === '-V') leading.version = true;
    else break;
  }
  leading.words = argv.slice(i);
  return leading;
}

/** The longest name of the table with which the words begin. */
function findCommand({ words, help, version }: Leading): { name: string; rest: readonly string[] } {
  if (version) return { name: 'version', rest: ['--client'] };
  const [first, second] = words;
  if (first === undefined) return { name: 'help', rest: [] };
  if (help) return { name: 'help', rest: words };
  if (second !== undefined && Object.hasOwn(COMMANDS, `${first} ${second}`)) return { name: `${first} ${second}`, rest: words.slice(2) };
  if (Object.hasOwn(COMMANDS, first)) return { name: first, rest: words.slice(1) };
  if (Object.hasOwn(ALIASES, first)) return { name: ALIASES[first]!, rest: words.slice(1) };
  const family = Object.keys(COMMANDS).filter((name) => name.startsWith(`${first} `));
  if (family.length > 0 && (second === undefined || second === '--help' || second === '-h')) return { name: 'help', rest: [first] };
  if (family.length > 0) {
    throw new VeldError('usage', `There is no command '${first} ${second}'.`, { hint: `There are: ${family.map((name) => `veld ${name}`).join(', ')}.` });
  }
  throw new VeldError('usage', first.startsWith('-') ? `Unknown option '${first}' before a command.` : `There is no command '${first}'.`,
    { hint: Object.hasOwn(SYNONYMS, first) ? `Use \`veld ${SYNONYMS[first]}\`.` : suggestion(first) });
}

function suggestion(word: string): string {
  const near = Object.keys(COMMANDS).filter((name) => distance(word, name) <= (word.length > 4 ? 2 : 1));
  return near.length > 0 ? `Did you mean ${near.map((name) => `\`veld ${name}\``).join(' or ')}?` : 'See `veld help`.';
}

/** Levenshtein distance. */
function distance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1));
    row = next;
  }
  return row[b.length]!;
}

function beforeDashes(words: readonly string[]): readonly string[] {
  const at = words.indexOf('--');
  return at === -1 ? words : words.slice(0, at);
}

// `veld list | head -1`: the reader has what it wanted. 141 is what a shell shows for SIGPIPE. A full disk is a failure like any other.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(141);
  process.stderr.write(`veld: standard output cannot be written: ${error.message}.\n`);
  process.exit(1);
});

/** End with a status once everything written has left: connections that are still open are nobody's business any more. */
function leave(status: number): void {
  const pending = [process.stdout, process.stderr].filter((stream) => stream.writableLength > 0);
  if (pending.length === 0) process.exit(status);
  // A stream that never drains because its reader hangs keeps us, as it keeps cat(1).
  for (const stream of pending) stream.once('drain', () => leave(status));
}

// A write to a file fails at once but is told a tick later: ending before that would be a success without its output.
main(process.argv.slice(2)).then((status) => setImmediate(leave, status), (error: unknown) => {
  process.stderr.write(`veld: ${(error as Error).stack ?? String(error)}\n`);
  leave(1);
});
