/** Names, folders and address pools of test instances: chosen so that instances that run side by side never meet. */
import { createHash, randomInt } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';

/** Folders of test instances are `FOLDER_PREFIX + name`. */
export const FOLDER_PREFIX = '/var/tmp/veld-test-';

// No vowels and few common letters: such a name occurs in nothing else, so searching the host for it finds only what is the instance's.
const LETTERS = 'bcdfghjkqvwxz';

/** A free instance name; its folder has been made (mode 0711). */
export function claimName(): string {
  for (;;) {
    const name = Array.from({ length: 5 }, () => LETTERS[randomInt(LETTERS.length)]).join('');
    if (existsSync(`/sys/class/net/${name}`) || !poolsFree(name)) continue;
    try {
      // A VE's root walks through it to its root file system; state in it is closed by modes of its own.
      mkdirSync(FOLDER_PREFIX + name, { mode: 0o711 });
      return name;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** IPv4 and IPv6 pool of an instance, out of 4096 by the hash of its name. */
export function poolsOf(name: string): [string, string] {
  const hash = createHash('sha256').update(name).digest().readUInt16BE(0) & 0xfff;
  return [`10.${224 + (hash >> 8)}.${hash & 255}.0/24`, `fd5e:1d00:7e57:${hash.toString(16)}::/64`];
}

function poolsFree(name: string): boolean {
  const mine = poolsOf(name)[0];
  return instanceNames().every((other) => poolsOf(other)[0] !== mine);
}

/** Test instances whose folders exist. */
export function instanceNames(): string[] {
  const [parent, prefix] = [FOLDER_PREFIX.slice(0, FOLDER_PREFIX.lastIndexOf('/')), FOLDER_PREFIX.slice(FOLDER_PREFIX.lastIndexOf('/') + 1)];
  return readdirSync(parent).filter((entry) => entry.startsWith(prefix)).map((entry) => entry.slice(prefix.length)).filter((name) => /^[a-z]{5}$/.test(name));
}
