/** What quickstart made outside of Veld's own folders, so that --remove takes away that and no more: `STATE/quickstart.json`. */
import { join } from 'node:path';
import { readIfExists, writeFileAtomic } from '../../src/lib/files.ts';

export interface MadeByQuickstart {
  /** Symbolic links. */
  links: string[];
  /** Completion and manual pages. */
  files: string[];
  /** Folders that were not there before, the outer ones first. */
  folders: string[];
  /** systemd units. */
  units: string[];
  /** Whether the group of the socket was made. */
  group: string | null;
}

/** @returns what was recorded, or nothing made */
export function readRecord(stateDir: string): MadeByQuickstart {
  const text = readIfExists(join(stateDir, 'quickstart.json'));
  return { links: [], files: [], folders: [], units: [], group: null, ...(text === undefined ? {} : (JSON.parse(text) as Partial<MadeByQuickstart>)) };
}

/** Keep the record; nothing is written when it says the same. */
export function writeRecord(stateDir: string, made: MadeByQuickstart): void {
  const text = `${JSON.stringify(made, null, 2)}\n`;
  if (readIfExists(join(stateDir, 'quickstart.json')) !== text) writeFileAtomic(join(stateDir, 'quickstart.json'), text);
}

/** Packages that quickstart installed on this machine, one a line, for all installations. */
export const PACKAGES_FILE = '/var/lib/veld-packages';
