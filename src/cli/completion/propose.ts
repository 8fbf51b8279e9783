/**
 * What may stand where the cursor is, from the table of commands, the table of properties, and the names that the daemon knows.
 * One set of rules for all shells: their scripts (scripts.ts) only carry words here and proposals back.
 */
import type { OperationRecord, TemplateRecord } from '../../store/types.ts';
import type { VeStatus, VeView } from '../../ve/types.ts';
import { PROPERTIES } from '../../spec/properties.ts';
import type { PropertyRow } from '../../spec/types.ts';
import { GLOBAL_OPTIONS } from '../command.ts';
import type { ArgumentSpec, Command, Completes, OptionSpec } from '../command.ts';
import { defaultText } from '../properties-help.ts';

export interface Proposal {
  /** The whole word. */
  value: string;
  /** Shown beside it where the shell can. */
  help: string;
}

export interface Proposals {
  proposals: Proposal[];
  /** The shell proposes files of this host instead. */
  files: boolean;
  /** The word goes on: no blank after it. */
  open: boolean;
}

/** The daemon's names. Whoever cannot tell (the daemon is down, or slow) answers with none. */
export interface Names {
  ves(): Promise<VeView[]>;
  templates(): Promise<TemplateRecord[]>;
  operations(): Promise<OperationRecord[]>;
  nodes(): Promise<{ name: string; address: string | null }[]>;
  presets(): Promise<{ name: string; description: string }[]>;
  recipes(): Promise<{ name: string; description: string }[]>;
  pools(): Promise<{ name: string; path: string }[]>;
  repositories(): Promise<{ name: string; location: string }[]>;
}

const STATUSES: Partial<Record<Completes, readonly VeStatus[]>> = {
  've': ['running', 'stopped', 'failed', 'frozen', 'suspended', 'starting', 'stopping'], 'running ve': ['running', 'frozen', 'starting'], 'stopped ve': ['stopped', 'failed'],
  'frozen ve': ['frozen'], 'suspended ve': ['suspended'],
};

const GROUP_HELP = 'commands of its own';

/**
 * Propose what may stand in the place of the last word.
 * @param words all after `veld`, the last as far as it is typed (empty where a new one begins)
 */
export async function propose(words: readonly string[], commands: readonly Command[], names: Names): Promise<Proposals> {
  const typed = words.at(-1) ?? '';
  const found = await candidates(words.slice(0, -1), typed, commands, names);
  const proposals = found.proposals.filter(({ value }) => value.startsWith(typed) && isPlain(value));
  return { ...found, proposals };
}

/** Names pass checks of their own when they are made; what a shell could take for more than a word is not proposed, whoever made it. */
function isPlain(value: string): boolean {
  return /^[A-Za-z0-9_.:=,%@+/-]+$/.test(value);
}

const closed = (proposals: Proposal[]): Proposals => ({ proposals, files: false, open: false });
const FILES: Proposals = { proposals: [], files: true, open: false };

async function candidates(before: readonly string[], typed: string, commands: readonly Command[], names: Names): Promise<Proposals> {
  // Options before the command.
  let at = 0;
  for (; at < before.length && before[at]!.startsWith('-'); at += 1) if (before[at] === '--socket' || before[at] === '--node') at += 1;
  if (at > before.length) return before.at(-1) === '--node' ? nodeNames(names, []) : FILES;
  const [first, second] = before.slice(at);
  if (first === undefined) return closed(typed.startsWith('-') ? flagsOf(LEADING, []) : firstWords(commands));
  const family = commands.filter(({ name }) => name.startsWith(`${first} `));
  if (family.length > 0 && second === undefined) return closed(family.map(({ name, summary }) => ({ value: name.slice(first.length + 1), help: summary })));
  const command = commands.find(({ name }) => name === `${first} ${second ?? ''}`) ?? commands.find(({ name }) => name === first);
  if (!command) return closed([]);
  return ofCommand(command, before.slice(at + command.name.split(' ').length), typed, commands, names);
}

const LEADING: readonly OptionSpec[] = [...GLOBAL_OPTIONS, { flags: '-V, --version', help: 'Show the version' }];

/** Commands, and for those of two words the first, once. */
function firstWords(commands: readonly Command[]): Proposal[] {
  const words = new Map<string, string>();
  for (const { name, summary } of commands) {
    const [first = ''] = name.split(' ');
    if (first === name) words.set(name, summary);
    else words.set(first, words.has(first) ? `${words.get(first)}, ${name.slice(first.length + 1)}` : `${GROUP_HELP}: ${name.slice(first.length + 1)}`);
  }
  return [...words].map(([value, help]) => ({ value, help }));
}

/** @param before the words behind the command's name, the last one left out */
async function ofCommand(command: Command, before: readonly string[], typed: string, commands: readonly Command[], names: Names): Promise<Proposals> {
  const options = [...command.options ?? [], ...GLOBAL_OPTIONS];
  const specs = command.args ?? [];
  const given: string[] = [];
  const positional: string[] = [];
  let pending: OptionSpec | undefined;
  let literal = false;
  for (const word of before) {
    if (pending) pending = undefined;
    else if (literal || word === '-' || !word.startsWith('-')) {
      if (specs[positional.length]?.commandLine) return closed([]); // from here on it is a line of the VE, about which this host knows nothing
      positional.push(word);
    } else if (word === '--') {
      if (specs.some((spec) => spec.commandLine)) return closed([]);
      literal = true;
    } else {
      given.push(word.split('=')[0]!);
      pending = options.find((spec) => takesValue(spec) && flags(spec).includes(word));
    }
  }
  if (pending) return ofKind(pending, typed, [], commands, names);
  if (!literal && typed.startsWith('--') && typed.includes('=')) {
    const [flag = ''] = typed.split('=');
    const spec = options.find((each) => takesValue(each) && flags(each).includes(flag));
    if (!spec) return closed([]);
    const { proposals, ...rest } = await ofKind(spec, typed.slice(flag.length + 1), [], commands, names);
    return { ...rest, proposals: proposals.map(({ value, help }) => ({ value: `${flag}=${value}`, help })) };
  }
  if (!literal && typed.startsWith('-')) return closed(flagsOf(options, given));
  const spec = specs[positional.length] ?? (specs.at(-1)?.variadic ? specs.at(-1) : undefined);
  return spec === undefined ? closed([]) : ofKind(spec, typed, positional, commands, names);
}

const flags = (spec: OptionSpec): string[] => spec.flags.split(/[ ,]+/).filter((word) => word.startsWith('-'));
const takesValue = (spec: OptionSpec): boolean => spec.flags.includes('<');

/** Flags that are not given yet, in their long form where they have one. */
function flagsOf(options: readonly OptionSpec[], given: readonly string[]): Proposal[] {
  return options.filter((spec) => spec.repeat === true || !flags(spec).some((flag) => given.includes(flag))).map((spec) => ({ value: flags(spec).at(-1)!, help: spec.help }));
}

/** @param taken words that stand already where several may */
async function ofKind(spec: ArgumentSpec | OptionSpec, typed: string, taken: readonly string[], commands: readonly Command[], names: Names): Promise<Proposals> {
  const { completes: kind, choices } = spec;
  if (choices) return closed(choices.map((value) => ({ value, help: '' })));
  switch (kind) {
    case undefined: return closed([]);
    case 'file': return FILES;
    case 'property': return closed(PROPERTIES.map(({ name, help }) => ({ value: name, help })));
    case 'assignment': return assignment(typed, taken);
    case 'topic': return topics(taken, commands);
    case 'node': return nodeNames(names, taken);
    case 'preset': return closed((await names.presets()).map(({ name, description }) => ({ value: name, help: description })));
    case 'recipe': return typed.includes('/') || typed.startsWith('.') ? FILES : closed((await names.recipes()).map(({ name, description }) => ({ value: name, help: description })));
    case 'pool': return closed((await names.pools()).filter(({ name }) => !taken.includes(name)).map(({ name, path }) => ({ value: name, help: path })));
    case 'repository': return closed((await names.repositories()).filter(({ name }) => !taken.includes(name)).map(({ name, location }) => ({ value: name, help: location })));
    case 'template': return closed((await names.templates()).filter(({ name }) => !taken.includes(name)).map(({ name, os, release }) => ({ value: name, help: `${os} ${release}` })));
    case 'operation':
    case 'running operation':
      return closed((await names.operations()).filter(({ state }) => kind === 'operation' || state === 'running').map((record) => ({ value: record.id, help: `${record.kind}, ${record.state}` })));
    default: {
      const wanted = STATUSES[kind]!;
      return closed((await names.ves()).filter(({ name, status }) => wanted.includes(status) && !taken.includes(name)).map(({ name, status }) => ({ value: name, help: status })));
    }
  }
}

async function nodeNames(names: Names, taken: readonly string[]): Promise<Proposals> {
  return closed((await names.nodes()).filter(({ name }) => !taken.includes(name)).map(({ name, address }) => ({ value: name, help: address ?? '' })));
}

function topics(taken: readonly string[], commands: readonly Command[]): Proposals {
  if (taken.length === 0) return closed([...firstWords(commands), { value: 'properties', help: 'What `veld set` can change' }]);
  if (taken.length > 1) return closed([]);
  if (taken[0] === 'properties') return closed(PROPERTIES.map(({ name, help }) => ({ value: name, help })));
  return closed(commands.filter(({ name }) => name.startsWith(`${taken[0]} `)).map(({ name, summary }) => ({ value: name.split(' ')[1]!, help: summary })));
}

/** `NAME=`, and behind it what the property's row says. */
function assignment(typed: string, taken: readonly string[]): Proposals {
  const [name = ''] = typed.split('=');
  if (!typed.includes('=')) {
    const set = taken.map((word) => word.split('=')[0]);
    return { proposals: PROPERTIES.filter((row) => !set.includes(row.name)).map((row) => ({ value: `${row.name}=`, help: row.help })), files: false, open: true };
  }
  const row = PROPERTIES.find((each) => each.name === name);
  return closed(row === undefined ? [] : valuesOf(row).map(({ value, help }) => ({ value: `${name}=${value}`, help })));
}

/** Values that can be listed, and the default. */
function valuesOf(row: PropertyRow): Proposal[] {
  const { type } = row;
  const values: string[] = [];
  if (type.kind === 'boolean') values.push('on', 'off');
  if (type.kind === 'choice') values.push(...type.choices);
  const usual = defaultText(row);
  if (usual !== 'empty' && !values.includes(usual)) values.push(usual);
  if ('unlimited' in type && type.unlimited && !values.includes('unlimited')) values.push('unlimited');
  return values.map((value) => ({ value, help: value === usual ? 'default' : '' }));
}
