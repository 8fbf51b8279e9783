/** Reads and writes kernel settings below /proc/sys. A name is given in parts, because link names may hold dots. */
import { readFileSync, writeFileSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';

/** A setting that was changed, for the record. */
export interface SysctlChange {
  /** As sysctl(8) names it, with `/` between the parts. */
  name: string;
  before: string;
  after: string;
}

/**
 * The value of a setting, trimmed, or undefined when this kernel (or namespace) does not have it.
 * @param parts e.g. `'net', 'ipv4', 'ip_forward'`
 */
export function readSysctl(...parts: string[]): string | undefined {
  return readIfExists(path(parts))?.trim();
}

/**
 * Give a setting a value, only when it has another one now.
 * @returns the change made, or undefined when there was nothing to do or the setting does not exist
 * @throws VeldError `kernel.unsupported` when the kernel refuses the value
 */
export function writeSysctl(parts: readonly string[], value: string): SysctlChange | undefined {
  const before = readSysctl(...parts);
  if (before === undefined || before === value) return undefined;
  const name = parts.join('/');
  try {
    writeFileSync(path(parts), value);
  } catch (error) {
    throw new VeldError('kernel.unsupported', `The kernel setting ${name} cannot be set to ${value}: ${(error as Error).message}.`, { cause: error });
  }
  const after = readFileSync(path(parts), 'utf8').trim();
  if (after !== value) throw new VeldError('kernel.unsupported', `The kernel setting ${name} stayed at ${after} when ${value} was written.`);
  return { name, before, after };
}

function path(parts: readonly string[]): string {
  if (parts.some((part) => part === '' || part === '.' || part === '..' || /[/\0]/.test(part))) throw new TypeError(`bad sysctl name ${parts.join('/')}`);
  return `/proc/sys/${parts.join('/')}`;
}
