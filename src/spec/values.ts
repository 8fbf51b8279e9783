/** Reads and shows values by their type. Strict: what is not understood wholly is refused, with what would be accepted. */
import { VeldError } from '../lib/errors.ts';
import { canonicalAddress, canonicalCidr, canonicalDomain, canonicalGateway, canonicalPrefix, canonicalResolver } from './addresses.ts';
import { formatPair, isOrdered, parsePair, type Pair } from './beancounters/pairs.ts';
import { canonicalMount } from './disk-mounts.ts';
import { canonicalInterface, INTERFACE_HELP, INTERFACE_TEXT_MAX } from './interfaces.ts';
import { canonicalPublish } from './ports.ts';
import { formatRanges, parseRanges } from './ranges.ts';
import { canonicalRule } from './rules.ts';
import type { ListItem, PropertyRow, PropertyType, Quota } from './types.ts';
import { formatWords, splitWords } from './words.ts';

/** No value needs a longer text; longer ones are refused before anything looks at them. */
const MAX_TEXT = 8192;
/** Command lines and environments may. */
const MAX_WORDS = 65_536;
/** 1024 to the power of the index. */
const BYTE_UNITS = ['', 'K', 'M', 'G', 'T', 'P'];
/** 1000 to the power of the index. */
const BIT_UNITS = ['', 'k', 'm', 'g', 't'];
const SECOND_UNITS: Record<string, number> = { s: 1, m: 60, h: 3600, d: 86_400 };
const BOOLEANS: Record<string, boolean> = { on: true, yes: true, true: true, off: false, no: false, false: false };
/** Control characters, line separators, halves of surrogate pairs, and marks that turn the direction of text around. */
const UNPRINTABLE = /[\p{Cc}\p{Cs}\u2028\u2029\u200E\u200F\u061C\u202A-\u202E\u2066-\u2069]/u;

/** A reader's word for 'not this': null and undefined may be values. */
const REFUSED = Symbol('refused');

/**
 * Read a value for a row of the table.
 * @param input text, or a JSON value of the right type
 * @throws VeldError `property.invalid` with the name, what was given and what is accepted
 */
export function parseValue(row: PropertyRow, input: unknown): unknown {
  const value = read(row, input);
  if (value !== REFUSED) return value;
  const accepted = describeType(row);
  throw new VeldError('property.invalid', `${row.name} cannot be ${quote(input)}. Accepted: ${accepted}.`,
    { details: { name: row.name, given: quote(input), accepted } });
}

/** A value as text that {@link parseValue} reads again as the same value. */
export function formatValue(row: PropertyRow, value: unknown): string {
  const { type } = row;
  if (value === null) return 'unlimited' in type && type.unlimited === true ? 'unlimited' : 'auto';
  switch (type.kind) {
    case 'boolean': return value === true ? 'on' : 'off';
    case 'bytes': return formatBytes(value as number);
    case 'percent': return `${value as number}%`;
    case 'rate': return formatBits(value as number);
    case 'pair': return formatPair(value as Pair);
    case 'quota': return formatQuota(value as Quota, type);
    case 'seconds': return formatSeconds(value as number);
    case 'words': return (value as string[]).length === 0 ? 'none' : formatWords(value as string[]);
    case 'list': return (value as string[]).length === 0 ? 'none' : (value as string[]).join(type.item === 'interface' ? ' ' : ',');
    default: return `${value as string | number}`;
  }
}

/** What a row accepts, in words. */
export function describeType(row: PropertyRow): string {
  const { type } = row;
  const rest = 'unlimited' in type && type.unlimited === true ? ', or unlimited' : '';
  const auto = row.default === null && rest === '' ? ', or auto' : '';
  switch (type.kind) {
    case 'boolean': return 'on or off';
    case 'integer': return `a whole number${type.unit === undefined ? '' : ` of ${type.unit}`} from ${type.min} to ${type.max}${rest}${auto}`;
    case 'bytes': return `an amount of bytes such as 512M or 1GiB (K, M, G, T, P are powers of 1024)${type.min > 0 ? `, at least ${formatBytes(type.min)}` : ''}${rest}`;
    case 'percent': return `percent of one CPU such as 150%, from ${type.min}% to ${type.max}%${rest}`;
    case 'rate': return `bits a second such as 500kbit, 10mbit or 1.5gbit (powers of 1000), at least ${formatBits(type.min)}${rest}`;
    case 'pair': return `barrier and limit${type.equal ? ', which are equal' : ''}, such as 80:80, or one number for both, from ${type.min} to ${type.max}${rest}`;
    case 'quota': return `a soft and a hard limit such as ${type.of === 'bytes' ? '9G:10G' : '90000:100000'}, or one for both, at least ${type.of === 'bytes' ? formatBytes(type.min) : type.min}${rest}`;
    case 'seconds': return `a time such as 30s or 5m, from ${formatSeconds(type.min)} to ${formatSeconds(type.max)}`;
    case 'ranges': return `${type.what} such as 0-3,8, from 0 to ${type.max}${auto}`;
    case 'choice': return `one of ${type.choices.join(', ')}`;
    case 'text': return `${type.patternHelp ?? 'one line of text'}, at most ${type.maxLength} characters${auto}`;
    case 'words': return `at most ${type.maxItems} ${type.formHelp ?? 'words of a command line'}, quoted as in a shell, of at most ${type.maxLength} characters each${auto || ', or none'}`;
    default: return `at most ${type.maxItems} different ${LIST_WORDS[type.item]}, with ${type.item === 'interface' ? 'spaces' : 'commas'} between, or none${auto}`;
  }
}

const LIST_WORDS: Record<ListItem, string> = {
  address: 'IPv4 or IPv6 addresses that a host can have',
  resolver: 'IPv4 or IPv6 addresses of name servers',
  domain: 'domain names',
  gateway: 'IPv4 or IPv6 addresses of routers',
  prefix: 'IPv4 or IPv6 prefixes such as 2001:db8:1:2::/64',
  interface: `interfaces ${INTERFACE_HELP}`,
  publish: 'ports of the host and of the VE such as 8080:80, 192.0.2.1:53:53/udp or [2001:db8::1]:8000-8010:80-90/tcp (up to 1024 in a range; tcp unless said)',
  mount: 'folders of the host and where they are in the VE, such as /srv/data:/data or /srv/pub:/pub:ro (ro: read-only; plain: owners as the host has written them)',
  rule: 'rules such as 22/tcp, 192.0.2.0/24:443, out:[2001:db8::/32]:25/tcp or any/icmp (in: unless said)',
};

/** How an item is read. */
const CANONICAL: Record<ListItem, (text: string) => string | undefined> = {
  address: (text) => canonicalAddress(text) ?? canonicalCidr(text),
  resolver: canonicalResolver,
  domain: canonicalDomain,
  gateway: canonicalGateway,
  prefix: canonicalPrefix,
  interface: canonicalInterface,
  publish: canonicalPublish,
  mount: canonicalMount,
  rule: canonicalRule,
};

/** Longest text of an item. */
export function itemLength(item: ListItem): number {
  return item === 'interface' ? INTERFACE_TEXT_MAX : 255;
}

/** A value as it may stand in a message: quoted, cut, nothing that a terminal would act upon. */
export function quote(value: unknown): string {
  let text: string;
  try {
    text = typeof value === 'string' ? `"${value}"` : (JSON.stringify(value) ?? String(value));
  } catch {
    text = typeof value;
  }
  const shown = text.slice(0, 100).replace(new RegExp(UNPRINTABLE, 'gu'), '\u{FFFD}');
  return text.length > 100 ? `${shown}...` : shown;
}

function read(row: PropertyRow, given: unknown): unknown {
  const { type } = row;
  if (typeof given === 'string' && (given.length > (type.kind === 'words' ? MAX_WORDS : MAX_TEXT) || UNPRINTABLE.test(given))) return REFUSED;
  const input = typeof given === 'string' ? given.trim() : given;
  const unlimited = 'unlimited' in type && type.unlimited === true;
  const auto = row.default === null && !unlimited;
  if (input === null) return unlimited || auto ? null : REFUSED;
  if (unlimited && input === 'unlimited') return null;
  if (auto && input === 'auto') return null;
  switch (type.kind) {
    case 'boolean': return readBoolean(input);
    case 'integer': return within(readNumber(input, /^(\d{1,16})$/, () => 1), type.min, type.max);
    case 'bytes': return within(readBytes(input), type.min, Number.MAX_SAFE_INTEGER);
    case 'percent': return within(readNumber(input, /^(\d{1,16})%?$/, () => 1), type.min, type.max);
    case 'rate': return within(readBits(input), type.min, Number.MAX_SAFE_INTEGER);
    case 'seconds': return within(readNumber(input, /^(\d{1,16})([smhd]?)$/, (unit) => SECOND_UNITS[unit] ?? 1), type.min, type.max);
    case 'quota': return readQuota(input, type);
    case 'ranges': return readRanges(input, type.max);
    case 'pair': return readPair(input, type);
    case 'choice': return typeof input === 'string' && type.choices.includes(input) ? input : REFUSED;
    case 'text': return readText(input, type);
    case 'words': return readWords(input, type, auto);
    default: return readList(input, type);
  }
}

function readBoolean(input: unknown): unknown {
  if (typeof input === 'boolean') return input;
  if (typeof input !== 'string') return REFUSED;
  const word = input.toLowerCase();
  return Object.hasOwn(BOOLEANS, word) ? BOOLEANS[word] : REFUSED;
}

/** A number, or text of digits and a unit. */
function readNumber(input: unknown, pattern: RegExp, unit: (name: string) => number): unknown {
  if (typeof input === 'number') return input;
  if (typeof input !== 'string') return REFUSED;
  const found = pattern.exec(input);
  return found === null ? REFUSED : Number(found[1]) * unit(found[2] ?? '');
}

/** `GB` is refused: some mean 1000^3 by it, others 1024^3. */
function readBytes(input: unknown): unknown {
  if (typeof input === 'number') return input;
  if (typeof input !== 'string') return REFUSED;
  const found = /^(\d{1,16})(?:\.(\d{1,6}))?(?:([kmgtp])(?:ib)?|b)?$/i.exec(input);
  if (found === null) return REFUSED;
  const unit = 1024 ** BYTE_UNITS.indexOf((found[3] ?? '').toUpperCase());
  // Both halves stay whole numbers: 1.1G, which is no whole number of bytes, is refused instead of rounded.
  const scale = 10 ** (found[2] ?? '').length;
  const part = Number(found[2] ?? '0') * unit;
  return part % scale === 0 ? Number(found[1]) * unit + part / scale : REFUSED;
}

/** As tc(8) and ip(8) say rates: `10mbit`. `10M` is refused: some mean bytes by it. */
function readBits(input: unknown): unknown {
  if (typeof input === 'number') return input;
  if (typeof input !== 'string') return REFUSED;
  const found = /^(\d{1,16})(?:\.(\d{1,6}))?([kmgt]?)bit(?:\/s|ps)?$/i.exec(input);
  if (found === null) return REFUSED;
  const [unit, scale] = [1000 ** BIT_UNITS.indexOf(found[3]!.toLowerCase()), 10 ** (found[2] ?? '').length];
  const part = Number(found[2] ?? '0') * unit;
  return part % scale === 0 ? Number(found[1]) * unit + part / scale : REFUSED;
}

function formatBits(bits: number): string {
  let unit = BIT_UNITS.length - 1;
  while (bits % 1000 ** unit !== 0) unit--;
  return `${bits / 1000 ** unit}${BIT_UNITS[unit]}bit`;
}

/** Two amounts; null where neither is limited. */
function readPair(input: unknown, type: PropertyType & { kind: 'pair' }): unknown {
  const pair = typeof input === 'string' || typeof input === 'number' ? parsePair(String(input), type.of) : asPair(input);
  if (pair === undefined || !isOrdered(pair) || (type.equal && pair.barrier !== pair.limit)) return REFUSED;
  const good = (amount: number | null): boolean => amount === null || within(amount, type.min, type.max) !== REFUSED;
  if (!good(pair.barrier) || !good(pair.limit)) return REFUSED;
  return pair.barrier === null && pair.limit === null ? null : { barrier: pair.barrier, limit: pair.limit };
}

function asPair(input: unknown): Pair | undefined {
  if (typeof input !== 'object' || input === null || Object.keys(input).length !== 2) return undefined;
  const { barrier, limit } = input as Record<string, unknown>;
  const amount = (value: unknown): value is number | null => value === null || typeof value === 'number';
  return amount(barrier) && amount(limit) ? { barrier, limit } : undefined;
}

/** Two limits; null where there is none at all. What may be in use for a while is no more than what may be at most. */
function readQuota(input: unknown, type: PropertyType & { kind: 'quota' }): unknown {
  const amount = (part: unknown): unknown => (part === null || part === 'unlimited' ? null
    : within(type.of === 'bytes' ? readBytes(part) : readNumber(part, /^(\d{1,16})$/, () => 1), type.min, Number.MAX_SAFE_INTEGER));
  let parts: unknown[] = [input, input];
  if (typeof input === 'string' && input.includes(':')) parts = input.split(':').map((part) => part.trim());
  else if (typeof input === 'object' && input !== null) {
    if (Object.keys(input).toSorted().join() !== 'hard,soft') return REFUSED;
    parts = [(input as Quota).soft, (input as Quota).hard];
  }
  if (parts.length !== 2) return REFUSED;
  const [soft, hard] = parts.map(amount);
  if (soft === REFUSED || hard === REFUSED) return REFUSED;
  if (soft === null && hard === null) return null;
  if (hard !== null && (soft === null || (soft as number) > (hard as number))) return REFUSED;
  return { soft, hard };
}

function formatQuota({ soft, hard }: Quota, { of }: PropertyType & { kind: 'quota' }): string {
  const amount = (value: number | null): string => (value === null ? 'unlimited' : of === 'bytes' ? formatBytes(value) : String(value));
  return soft === hard ? amount(hard) : `${amount(soft)}:${amount(hard)}`;
}

/** An amount of bytes as properties take it: `512M`, `1.5GiB`, `4096`. @returns undefined for what is none */
export function parseBytes(text: string): number | undefined {
  const bytes = within(readBytes(text.trim()), 0, Number.MAX_SAFE_INTEGER);
  return typeof bytes === 'number' ? bytes : undefined;
}

function within(value: unknown, min: number, max: number): unknown {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= min && value <= max ? value + 0 : REFUSED;
}

function readRanges(input: unknown, max: number): unknown {
  const numbers = typeof input === 'number' ? parseRanges(String(input), max) : typeof input === 'string' ? parseRanges(input, max) : undefined;
  return numbers === undefined || numbers.length === 0 ? REFUSED : formatRanges(numbers);
}

function readText(input: unknown, type: PropertyType & { kind: 'text' }): unknown {
  if (typeof input !== 'string' || input.length > type.maxLength) return REFUSED;
  return type.pattern === undefined || type.pattern.test(input) ? input : REFUSED;
}

function readList(input: unknown, type: PropertyType & { kind: 'list' }): unknown {
  let items: readonly unknown[];
  if (Array.isArray(input)) items = input as readonly unknown[];
  else if (typeof input !== 'string') return REFUSED;
  else items = input === '' || input === 'none' ? [] : input.split(type.item === 'interface' ? / +/ : /\s*,\s*| +/);
  if (items.length > type.maxItems) return REFUSED;
  const values: string[] = [];
  for (const item of items) {
    const value = typeof item === 'string' && item.length <= itemLength(type.item) ? CANONICAL[type.item](item) : undefined;
    // `none` and `auto` are words of the list itself: as an item they could not be shown and read again.
    if (value === undefined || value === 'none' || value === 'auto' || values.includes(value)) return REFUSED;
    values.push(value);
  }
  return values;
}

function readWords(input: unknown, type: PropertyType & { kind: 'words' }, auto: boolean): unknown {
  if (!Array.isArray(input) && typeof input !== 'string') return REFUSED;
  const words: readonly unknown[] | undefined = typeof input === 'string' ? (input === 'none' ? [] : splitWords(input)) : (input as readonly unknown[]);
  // An empty command is none; that has a name of its own.
  if (words === undefined || words.length > type.maxItems || (auto && words.length === 0)) return REFUSED;
  // Lines and tabs may be part of a script that is given to a shell; JSON can hold them, and so can $'...' in text.
  const good = (word: unknown): word is string => typeof word === 'string' && word.length <= type.maxLength && !UNPRINTABLE.test(word.replace(/[\n\t]/g, ''))
    && type.form?.test(word) !== false;
  return words.every(good) && words.join('').length <= MAX_WORDS / 2 && !(auto && words[0] === '') ? words : REFUSED;
}

function formatBytes(bytes: number): string {
  let power = 0;
  let amount = bytes;
  while (amount > 0 && amount % 1024 === 0 && power < BYTE_UNITS.length - 1) {
    amount /= 1024;
    power += 1;
  }
  return `${amount}${BYTE_UNITS[power] ?? ''}`;
}

function formatSeconds(seconds: number): string {
  if (seconds > 0 && seconds % 3600 === 0) return `${seconds / 3600}h`;
  if (seconds > 0 && seconds % 60 === 0) return `${seconds / 60}m`;
  return `${seconds}s`;
}
