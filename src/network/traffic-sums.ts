/**
 * What is kept of the counters of traffic outside of the kernel: a small file for each VE, written every now and then, from which counters begin that the kernel has lost with a
 * boot, or by a program that removes all tables. Nothing waits for the disk: what is lost with the power are the last minutes.
 */
import { mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import type { Sums } from './traffic.ts';

export interface SumFiles {
  /** What is known of a VE: as it was last told here, or as its file says. */
  of(uuid: string): Sums;
  /** This is what is known now. It is written by `write`. */
  tell(uuid: string, sums: Sums): void;
  /** Write what has changed. @throws the system error as it is */
  write(): void;
  /** A VE is gone. */
  forget(uuid: string): void;
  /** Forget all others. @throws the system error as it is */
  prune(uuids: ReadonlySet<string>): void;
}

/** @param folder with a file for each VE; made when the first is written */
export function sumFiles(folder: string): SumFiles {
  const known = new Map<string, Sums>();
  /** By UUID: as its file is. */
  const written = new Map<string, string>();
  const of = (uuid: string): Sums => {
    let sums = known.get(uuid);
    if (!sums) {
      const text = readIfExists(join(folder, uuid)) ?? '{}';
      sums = parseSums(text);
      known.set(uuid, sums);
      written.set(uuid, text);
    }
    return sums;
  };
  return {
    of,
    tell(uuid, sums) {
      const before = of(uuid);
      const merged = { ...before };
      // A counter that somebody has just taken away, or begun anew, says less than is known.
      for (const [key, sum] of Object.entries(sums)) if (!(sum.bytes < (before[key]?.bytes ?? 0))) merged[key] = sum;
      known.set(uuid, merged);
    },
    write() {
      for (const [uuid, sums] of known) {
        const text = JSON.stringify(sums);
        if (text === written.get(uuid)) continue;
        mkdirSync(folder, { recursive: true, mode: 0o700 });
        writeFileSync(join(folder, `.${uuid}`), text, { mode: 0o600 });
        renameSync(join(folder, `.${uuid}`), join(folder, uuid));
        written.set(uuid, text);
      }
    },
    forget(uuid) {
      known.delete(uuid);
      written.delete(uuid);
      for (const name of [uuid, `.${uuid}`]) rmSync(join(folder, name), { force: true });
    },
    prune(uuids) {
      for (const uuid of known.keys()) {
        if (uuids.has(uuid)) continue;
        known.delete(uuid);
        written.delete(uuid);
      }
      let names: string[] = [];
      try {
        names = readdirSync(folder);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      }
      for (const name of names) if (!uuids.has(name)) rmSync(join(folder, name), { force: true });
    },
  };
}

/** Sums of a text that may have been torn, or come from elsewhere: what is none is left out. */
export function parseSums(text: string): Sums {
  try {
    return readSums(JSON.parse(text));
  } catch {
    return {};
  }
}

/** Most sums of a VE: both families and directions, and classes of more than one set of settings. */
const MOST = 256;

/** The same of a value. */
export function readSums(value: unknown): Sums {
  const sums: Sums = {};
  if (typeof value !== 'object' || value === null) return sums;
  for (const [key, sum] of Object.entries(value as Record<string, { bytes?: unknown; packets?: unknown } | null>).slice(0, MOST)) {
    if (!/^(?:inet|bridge) [rt]x [a-z][a-z0-9]{0,14}$/.test(key)) continue;
    const [bytes, packets] = [sum?.bytes, sum?.packets];
    if (Number.isSafeInteger(bytes) && Number.isSafeInteger(packets) && (bytes as number) >= 0 && (packets as number) >= 0) sums[key] = { bytes: bytes as number, packets: packets as number };
  }
  return sums;
}
