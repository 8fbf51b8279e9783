/**
 * The table of its own beancounters that a VE reads where it asks for it (`features.beancounters`): a file of its run folder, bound into the VE read-only.
 *
 * It is written in place and never replaced: a program of the VE may have it open, which criu finds again by name and size. All lines have a fixed width, so the size is always the same.
 */
import { closeSync, constants, existsSync, fchmodSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { BEANCOUNTERS } from '../spec/beancounters/table.ts';
import type { Beancounters } from '../spec/beancounters/table.ts';
import { beancountersText } from '../spec/beancounters/text.ts';

/** Where it is inside. No file can be mounted where OpenVZ has it: procfs has no such name. */
export const INSIDE = '/run/veld/user_beancounters';

/** Its name among the external mounts of a checkpoint. */
export const BEANCOUNTERS_MOUNT = 'beancounters';

/** The file on the host. @param folder the VE's run folder */
export function insideFile(folder: string): string {
  return join(folder, 'user_beancounters');
}

/** Make the file, where it is not there yet: before anything was counted. */
export function makeInsideFile(folder: string, number: number): void {
  if (existsSync(insideFile(folder))) return;
  const fd = openSync(insideFile(folder), constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL, 0o444);
  try {
    fchmodSync(fd, 0o444); // whatever the umask
    writeSync(fd, beancountersText({ number, rows: BEANCOUNTERS.map(({ name, unit }) => ({ name, unit, held: 0, maxheld: 0, barrier: null, limit: null, failcnt: 0, kept: [], counted: null, enforced: null, note: null })) }));
  } finally {
    closeSync(fd);
  }
}

/** Whether the VE may have it: it has asked for it at its boot, or since. */
export function hasInsideFile(folder: string): boolean {
  return existsSync(insideFile(folder));
}

/** Write what is counted now, in one piece. @throws the system error as it is, where there is no such file any more */
export function writeInsideFile(folder: string, beancounters: Beancounters): void {
  const fd = openSync(insideFile(folder), constants.O_WRONLY | constants.O_NOFOLLOW);
  try {
    writeSync(fd, beancountersText(beancounters), 0, 'latin1');
  } finally {
    closeSync(fd);
  }
}
