/** A preset: properties under a name, as a text that an administrator edits. */
import { VeldError } from '../lib/errors.ts';
import { parseProperties } from './properties.ts';

/** What a preset may be called; its file is NAME.conf. */
export const PRESET_NAME = /^[a-z][a-z0-9-]{0,62}$/;

export interface ParsedPreset {
  /** Its first comment. */
  description: string;
  /** Canonical values, by name. */
  properties: Record<string, unknown>;
}

/**
 * Read a preset: lines `NAME=VALUE`, as `veld show --properties` prints them; empty lines, and comments behind `#` at the beginning of a line.
 * @param where named in errors
 * @throws VeldError `preset.invalid`
 */
export function parsePreset(text: string, where: string): ParsedPreset {
  const given: Record<string, string> = Object.create(null) as Record<string, string>;
  let description = '';
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim();
    if (line.startsWith('#') && description === '' && Object.keys(given).length === 0) description = line.replace(/^#+\s*/, '');
    if (line === '' || line.startsWith('#')) continue;
    const at = line.indexOf('=');
    if (at < 1) throw new VeldError('preset.invalid', `${where}, line ${index + 1}: it is not of the form NAME=VALUE.`);
    const name = line.slice(0, at).trim();
    if (name in given) throw new VeldError('preset.invalid', `${where}, line ${index + 1}: ${name} is given twice.`);
    given[name] = line.slice(at + 1).trim();
  }
  try {
    return { description, properties: parseProperties(given) };
  } catch (error) {
    if (!(error instanceof VeldError)) throw error;
    throw new VeldError('preset.invalid', `${where}: ${error.message}`, { cause: error });
  }
}
