/** OpenVZ's `ve-NAME.conf-sample`, ctid.conf(5): a shell's assignments, of which those are taken for which there are properties. */
import { VeldError } from '../lib/errors.ts';
import { parseProperties } from './properties.ts';
import type { ParsedPreset } from './presets.ts';

/** A page of the machines that OpenVZ ran on, in bytes: samples count in it, whatever this host's are. */
const PAGE = 4096;
/** What vzctl writes for no limit on machines of 64 and of 32 bits, and larger than any limit in use. */
const UNLIMITED = 2 ** 31 - 1;

/** `barrier:limit`, or one value for both. Null: no limit. @throws Error in words */
function limitOf(text: string, unit = 1): number | null {
  const value = text.split(':').at(-1)!;
  if (value === 'unlimited') return null;
  const match = /^(\d{1,19})([bkmgtp]?)$/i.exec(value);
  if (!match) throw new Error(`${JSON.stringify(text)} is no limit`);
  const suffix = match[2]!.toLowerCase();
  const scale = suffix === '' ? unit : suffix === 'p' ? PAGE : suffix === 'b' ? 1 : 1024 ** ('kmgt'.indexOf(suffix) + 1);
  const count = Number(match[1]);
  return suffix === '' && count >= UNLIMITED ? null : count * scale;
}

/** Key -> property and the value as a text of it; undefined: the property keeps its default. */
const KEYS: Record<string, (value: string, all: ReadonlyMap<string, string>) => readonly [string, string] | undefined> = {
  // 1000 is the ordinary share there, 100 here.
  CPUUNITS: (value) => ['cpu.weight', String(Math.min(10_000, Math.max(1, Math.round((limitOf(value) ?? 0) / 10))))],
  // 0: none.
  CPULIMIT: (value) => (limitOf(value) ? ['cpu.limit', `${limitOf(value)}%`] : undefined),
  PHYSPAGES: (value) => memory(limitOf(value, PAGE)),
  // Where memory in use is not limited itself, what may be allocated is.
  PRIVVMPAGES: (value, all) => (all.has('PHYSPAGES') && limitOf(all.get('PHYSPAGES')!, PAGE) !== null ? undefined : memory(limitOf(value, PAGE))),
  SWAPPAGES: (value) => (limitOf(value, PAGE) === null ? undefined : ['memory.swap', String(limitOf(value, PAGE))]),
  // A guarantee is its barrier.
  OOMGUARPAGES: (value) => ['memory.oom_guarantee', String(limitOf(value.split(':')[0]!, PAGE) ?? 'unlimited')],
  NUMPROC: (value) => ['pids.limit', String(limitOf(value) ?? 'unlimited')],
  ONBOOT: (value) => ['boot.start', value],
};

function memory(bytes: number | null): readonly [string, string] | undefined {
  return bytes === null ? undefined : ['memory.limit', String(bytes)];
}

/**
 * Read a sample.
 * @param where named in errors
 * @returns also the keys for which there is no property
 * @throws VeldError `preset.invalid`
 */
export function parseOpenvzSample(text: string, where: string): ParsedPreset & { ignored: string[] } {
  const values = new Map<string, string>();
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line === '' || line.startsWith('#')) continue;
    const match = /^([A-Z_][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"']*))\s*(?:#.*)?$/.exec(line);
    if (!match) throw new VeldError('preset.invalid', `${where}, line ${index + 1}: it is not of the form KEY="VALUE".`);
    values.set(match[1]!, match[2] ?? match[3] ?? match[4]!);
  }
  const given: Record<string, string> = {};
  const ignored: string[] = [];
  for (const [key, value] of values) {
    if (!Object.hasOwn(KEYS, key)) {
      ignored.push(key);
      continue;
    }
    try {
      const pair = KEYS[key]!(value, values);
      if (pair) given[pair[0]] = pair[1];
    } catch (error) {
      throw new VeldError('preset.invalid', `${where}: ${key}: ${(error as Error).message}.`, { cause: error });
    }
  }
  try {
    return { description: 'Sample of OpenVZ', properties: parseProperties(given), ignored };
  } catch (error) {
    if (!(error instanceof VeldError)) throw error;
    throw new VeldError('preset.invalid', `${where}: ${error.message}`, { cause: error });
  }
}
