/** THE table of a VE's properties: one row each; validation, help, schema, completion and the vzctl mapping come from it. */
import { VeldError } from '../lib/errors.ts';
import { BEANCOUNTER_PROPERTIES } from './beancounters/properties.ts';
import { BACKUP_PROPERTIES } from './backup-properties.ts';
import { DISK_PROPERTIES } from './disk-properties.ts';
import { NETWORK_PROPERTIES } from './network-properties.ts';
import { RESOURCE_PROPERTIES } from './resource-properties.ts';
import { formatValue, parseValue, quote } from './values.ts';
import type { Properties, PropertyRow } from './types.ts';

/** A name of the table. */
export type PropertyName = keyof Properties;

const HOST_NAME = /^(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** Every property, in the order in which help shows them. */
export const PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'description',
    type: { kind: 'text', maxLength: 1024 },
    default: '',
    change: 'live',
    help: 'What the VE is for, one line.',
    vzctl: { option: 'description', key: 'DESCRIPTION' },
  },
  {
    name: 'hostname',
    // 64 is the kernel's __NEW_UTS_LEN.
    type: { kind: 'text', maxLength: 64, pattern: HOST_NAME, patternHelp: 'a host name of letters, digits, - and .' },
    default: null,
    change: 'restart',
    help: 'Host name inside the VE; `auto` is the name of the VE.',
    vzctl: { option: 'hostname', key: 'HOSTNAME' },
  },
  ...RESOURCE_PROPERTIES,
  ...DISK_PROPERTIES,
  ...BACKUP_PROPERTIES,
  ...BEANCOUNTER_PROPERTIES,
  ...NETWORK_PROPERTIES,
  {
    name: 'features.nesting',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Allow namespaces inside the VE (containers, systemd sandboxes); such a VE cannot be checkpointed.',
  },
  {
    name: 'features.io_uring',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Allow io_uring; such a VE cannot be checkpointed while a program uses it.',
  },
  {
    name: 'features.sockets32',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Let 32-bit programs use the network; AF_VSOCK and AF_ALG, which have no namespaces, are then within reach too.',
  },
  {
    name: 'features.beancounters',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Let the VE read its own user beancounters, in OpenVZ\'s format, in /run/veld/user_beancounters; written once a second.',
  },
  {
    name: 'boot.command',
    type: { kind: 'words', maxItems: 256, maxLength: 4096 },
    default: null,
    change: 'restart',
    help: 'The one command that the VE runs instead of a system of its own, under a small init; `auto` boots the init of the template.',
  },
  {
    name: 'boot.user',
    type: { kind: 'text', maxLength: 64, pattern: /^[A-Za-z0-9_][A-Za-z0-9_.$-]*$/, patternHelp: 'a user name or a uid' },
    default: 'root',
    change: 'restart',
    help: 'User that boot.command runs as.',
  },
  {
    name: 'boot.env',
    type: { kind: 'words', maxItems: 256, maxLength: 4096, form: /^[A-Za-z_][A-Za-z0-9_]*=/, formHelp: 'NAME=VALUE' },
    default: [],
    change: 'restart',
    help: 'Environment of boot.command, NAME=VALUE each, on top of PATH and HOME.',
  },
  {
    name: 'boot.cwd',
    type: { kind: 'text', maxLength: 4095, pattern: /^\//, patternHelp: 'an absolute path' },
    default: '/',
    change: 'restart',
    help: 'Folder that boot.command starts in; it is made when it is not there.',
  },
  {
    name: 'boot.start',
    type: { kind: 'boolean' },
    default: false,
    change: 'live',
    help: 'Start the VE when the host boots.',
    vzctl: { option: 'onboot', key: 'ONBOOT' },
  },
  {
    name: 'boot.order',
    type: { kind: 'integer', min: 0, max: 1_000_000 },
    default: 100,
    change: 'live',
    help: 'Order in which VEs start when the host boots: the higher the number, the earlier, as in OpenVZ.',
    vzctl: { option: 'bootorder', key: 'BOOTORDER' },
  },
  {
    name: 'boot.timeout',
    type: { kind: 'seconds', min: 1, max: 3600 },
    default: 60,
    change: 'live',
    help: 'How long a start waits for init to come up.',
  },
  {
    name: 'restart.policy',
    type: { kind: 'choice', choices: ['never', 'on-failure', 'always'] },
    default: 'never',
    change: 'live',
    help: 'Whether a VE whose init or command ended by itself is started again; a poweroff inside it, or status 0 of its command, ends it for good, except under `always`.',
  },
  {
    name: 'stop.timeout',
    type: { kind: 'seconds', min: 1, max: 86_400 },
    default: 60,
    change: 'live',
    help: 'How long a stop waits for the VE to shut down before it is killed.',
  },
  {
    name: 'shutdown.action',
    type: { kind: 'choice', choices: ['stop', 'suspend'] },
    default: 'stop',
    change: 'live',
    help: 'What becomes of the VE when the host goes down: it is stopped, or suspended and brought back as it was at the next boot, whatever boot.start says. What cannot be suspended is stopped.',
  },
];

const BY_NAME: ReadonlyMap<string, PropertyRow> = new Map(PROPERTIES.map((row) => [row.name, row]));

/**
 * The row of a property.
 * @throws VeldError `property.unknown`, suggesting the nearest name
 */
export function findProperty(name: string): PropertyRow {
  const row = BY_NAME.get(name);
  if (row !== undefined) return row;
  const near = nearest(name);
  throw new VeldError('property.unknown', `There is no property ${quote(name)}.${near === undefined ? '' : ` Is ${near} meant?`}`,
    { details: { name: name.slice(0, 100), ...(near !== undefined && { nearest: near }) } });
}

/**
 * Read one property.
 * @param name dotted name
 * @param input text as a person writes it (`512M`, `150%`, `5m`, `on`, `10.0.0.1,fd00::1`) or the JSON value; `null` where the
 *   default is null or the property can be unlimited. (To unset a property is the business of the caller: leave it out.)
 * @returns the canonical value, as a VE's record keeps it
 * @throws VeldError `property.unknown`, `property.invalid` (what was given, and what is accepted)
 */
export function parseProperty<N extends PropertyName>(name: N, input: unknown): Properties[N];
export function parseProperty(name: string, input: unknown): unknown;
export function parseProperty(name: string, input: unknown): unknown {
  return parseValue(findProperty(name), input);
}

/**
 * A property's value as text that {@link parseProperty} reads again.
 * @throws VeldError `property.unknown`
 */
export function formatProperty(name: string, value: unknown): string {
  return formatValue(findProperty(name), value);
}

/**
 * Read many properties; all that is wrong is said in one error.
 * @param given by name; a value of `undefined` is skipped
 * @returns canonical values by name
 * @throws VeldError `property.unknown` or `property.invalid`; with several faults `details.problems` lists their messages
 */
export function parseProperties(given: Record<string, unknown>): Record<string, unknown> {
  const parsed: Record<string, unknown> = {};
  const problems: VeldError[] = [];
  for (const [name, input] of Object.entries(given)) {
    if (input === undefined) continue;
    try {
      parsed[name] = parseProperty(name, input);
    } catch (error) {
      if (!(error instanceof VeldError)) throw error;
      problems.push(error);
    }
  }
  const [first] = problems;
  if (first === undefined) return parsed;
  if (problems.length === 1) throw first;
  const messages = problems.map((problem) => problem.message);
  throw new VeldError(first.code, messages.slice(0, 10).join(' '), { details: { problems: messages.slice(0, 100) } });
}

/**
 * All properties of a VE: those set, and defaults for the rest.
 * @param set canonical values by name, from the VE's record; names unknown to this version are left out
 */
export function resolveProperties(set: Readonly<Record<string, unknown>>): Properties {
  const all = PROPERTIES.map((row) => [row.name, structuredClone(Object.hasOwn(set, row.name) ? set[row.name] : row.default)] as const);
  return Object.fromEntries(all) as unknown as Properties;
}

/** The known name that a wrong one most likely means: vzctl's name for it, its beginnings (`mem.lim`), the fewest letters apart, or a part of it. */
function nearest(name: string): string | undefined {
  if (typeof name !== 'string' || name.length > 64) return undefined;
  const wrong = name.toLowerCase();
  // Some beancounters are limits that have a name of their own.
  const bare = wrong.replace(/^ubc\./, '');
  const old = PROPERTIES.find((row) => row.vzctl !== undefined && (row.vzctl.option === bare || row.vzctl.key.toLowerCase() === bare));
  if (old !== undefined) return old.name;
  const parts = wrong.split('.');
  const short = PROPERTIES.find((row) => {
    const whole = row.name.split('.');
    return whole.length === parts.length && parts.every((part, i) => part !== '' && whole[i]?.startsWith(part) === true);
  });
  if (short !== undefined) return short.name;
  let best: { name: string; distance: number } | undefined;
  for (const row of PROPERTIES) {
    const distance = lettersApart(wrong, row.name);
    if (best === undefined || distance < best.distance) best = { name: row.name, distance };
  }
  if (best !== undefined && best.distance <= Math.max(2, Math.floor(best.name.length / 4))) return best.name;
  return PROPERTIES.find((row) => row.name.split('.').includes(wrong))?.name;
}

/** Levenshtein distance. */
function lettersApart(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
