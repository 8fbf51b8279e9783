/**
 * BPF programs that stand at functions of the kernel and see the whole host: those of owner.bpf.h.
 *
 * What lets a program stand there is gone with its last holder. So that neither the daemon's end nor its death is that, all is pinned, in a file system
 * `programs` of the run folder that nobody but root can look into; each version has a folder of its own there, which stays as long as a VE is counted by it.
 */
import { existsSync, mkdirSync, readdirSync, rmdirSync, rmSync, statfsSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { attachToFunction, callProgram, closeAll, lookup, mapOf, openPinned, pin } from '../../kernel/bpf.ts';
import type { BpfMap } from '../../kernel/bpf.ts';
import { detachMount } from '../../kernel/syscalls.ts';
import { readIfExists, writeFileAtomic } from '../../lib/files.ts';
import { run } from '../../lib/run.ts';
import { compilePrograms, SOURCES, TIMEOUT, unsupported, versionOf } from './compile.ts';

/** What is counted so, with the programs of each. */
export const TRACED = {
  files: ['veld_file_free', 'veld_file_alloc'],
  locks: ['veld_lock_gone', 'veld_lock_new', 'veld_lock_ask'],
} as const;
export type Traced = keyof typeof TRACED;

/** A version of the programs, open. */
export interface Standing {
  ves: BpfMap;
  control: number;
  programs: readonly number[];
}

/** Offsets in `struct ve`, in 64-bit words; a version that has others has another number. */
export const VE = { group: 0, held: 1, maxheld: 2, failcnt: 3, barrier: 4, limit: 5, quiet: 6 } as const;
const LAYOUT = 1;
export const NO_LIMIT = 2n ** 64n - 1n;
const WHAT = { begin: 1n, limit: 2n, end: 3n } as const;

/** BPF_FS_MAGIC of linux/magic.h. */
const BPF_FS = 0xcafe4a11;

export interface Order {
  what: keyof typeof WHAT;
  key: bigint;
  /** Id of the control group of the VE's present life. */
  group: bigint;
  barrier?: bigint;
  limit?: bigint;
  quiet?: boolean;
}

/** Have something changed of a VE. @returns whether it is counted in that group */
export function order({ control }: Standing, { what, key, group, barrier = NO_LIMIT, limit = NO_LIMIT, quiet = false }: Order): boolean {
  return callProgram(control, words([WHAT[what], key, group, barrier, limit, quiet ? 1n : 0n])) === 0;
}

/** What is known of a VE. */
export function valueOf({ ves }: Standing, key: bigint): DataView | undefined {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(Number(key));
  return lookup(ves, bytes);
}

export function wordAt(value: DataView, word: keyof typeof VE): bigint {
  return value.getBigUint64(VE[word] * 8, true);
}

function words(values: readonly bigint[]): Uint8Array {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(value, i * 8);
  return bytes;
}

/**
 * Find this version's programs where they stand, or load them and let them stand there; and those of other versions.
 * @param inUse whether a VE that runs is counted by a version; one that counts nobody is taken away
 * @returns this version's first
 * @throws VeldError `property.unsupported` with the reason; then nothing of this version is left
 */
export async function stand(what: Traced, runDir: string, inUse: (version: Standing) => boolean): Promise<Standing[]> {
  const object = await compilePrograms(what);
  const folder = placeOf(runDir);
  const name = `${what}-${LAYOUT}-${versionOf(what)}`;
  const others: Standing[] = [];
  const forbidden = JSON.parse(readIfExists(forbiddenFile(runDir)) ?? '{}') as Record<string, string>;
  try {
    if (forbidden[name] !== undefined) throw new Error(forbidden[name]);
    if (!isMounted(folder)) {
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      await run('mount', ['-t', 'bpf', '-o', 'mode=0700', 'veld-bpf', folder], { timeout: TIMEOUT });
    }
    const own = openIfWhole(what, join(folder, name)) ?? await load(what, object, join(folder, name));
    for (const other of versionsIn(folder)) {
      if (other === name || !other.startsWith(`${what}-${LAYOUT}-`)) continue;
      const standing = openIfWhole(what, join(folder, other));
      if (standing && inUse(standing)) {
        others.push(standing);
        continue;
      }
      if (standing) closeStanding(standing);
      unpin(join(folder, other));
    }
    return [own, ...others];
  } catch (error) {
    for (const standing of others) closeStanding(standing);
    unpin(join(folder, name));
    if (isMounted(folder) && versionsIn(folder).length === 0) removeMount(folder);
    const { message } = error as Error;
    if (message.includes(FORBIDDEN)) writeFileAtomic(forbiddenFile(runDir), JSON.stringify({ ...forbidden, [name]: message }));
    throw unsupported(`the kernel does not let BPF programs count ${SOURCES[what]}`, error);
  }
}

/** @returns undefined when somebody died while it was made */
function openIfWhole(what: Traced, folder: string): Standing | undefined {
  if (TRACED[what].some((name) => !existsSync(join(folder, linkName(name))))) return undefined;
  return open(what, folder);
}

function open(what: Traced, folder: string): Standing {
  const fds: number[] = [];
  const opened = (name: string): number => {
    const fd = openPinned(join(folder, name));
    fds.push(fd);
    return fd;
  };
  try {
    return { ves: mapOf(opened('veld_ves')), control: opened('veld_control'), programs: TRACED[what].map((name) => opened(name)) };
  } catch (error) {
    closeAll(fds);
    throw error;
  }
}

function linkName(program: string): string {
  return program.replace('veld_', 'link_');
}

async function load(what: Traced, object: string, folder: string): Promise<Standing> {
  unpin(folder);
  const { code, stdout, stderr } = await run('bpftool', ['-d', 'prog', 'loadall', object, folder, 'pinmaps', folder], { allow: true, timeout: TIMEOUT });
  if (code !== 0) throw whyRefused(`${stdout}\n${stderr}`) ?? new Error(`bpftool ended with status ${code}: ${stderr.trim().split('\n').at(-1)}`);
  const standing = open(what, folder);
  const links: number[] = [];
  try {
    for (const program of standing.programs) links.push(attachToFunction(program));
    await prove(standing, object);
    // Only what has been seen to count is there for the next daemon.
    for (const [i, name] of TRACED[what].entries()) pin(links[i]!, join(folder, linkName(name)));
    return standing;
  } catch (error) {
    closeStanding(standing);
    throw error;
  } finally {
    closeAll(links);
  }
}

/** Of all that libbpf says when it is asked to say all, what went wrong first. @returns undefined when it does not say */
export function whyRefused(said: string): Error | undefined {
  const line = said.split('\n').find((one) => /^libbpf: .*(failed|not found|no such|unsupported|missing|can't|couldn't)/i.test(one));
  return line === undefined ? undefined : new Error(line.replace(/^libbpf: /, '').trim());
}

/** A range of ids that no VE has (src/ve/uid-ranges.ts) and nobody else. */
const PROOF = 0x7fffn;

/**
 * See them count, and refuse, what a process does that is nobody's: a compiler may have built the function that they stand at into those that call it, and
 * then they would never be called.
 */
async function prove(standing: Standing, file: string): Promise<void> {
  const tell = (barrier: bigint): boolean => order(standing, { what: 'begin', key: PROOF, group: 1n, barrier, limit: barrier });
  // Opens files, and locks one.
  const attempt = async (): Promise<number> => (await run('sh', ['-c', 'exec 9<"$1"; exec setpriv --reuid="$2" --clear-groups flock -n 9', 'sh', file, String(PROOF << 16n)], { allow: true, timeout: TIMEOUT })).code;
  const counted = (): Record<'held' | 'maxheld' | 'failcnt', bigint> => {
    const value = valueOf(standing, PROOF);
    const at = (word: keyof typeof VE): bigint => (value === undefined ? 0n : wordAt(value, word));
    return { held: at('held'), maxheld: at('maxheld'), failcnt: at('failcnt') };
  };
  try {
    tell(NO_LIMIT);
    const free = await attempt();
    // The kernel takes leave of some of it a moment later.
    for (let i = 0; i < 100 && counted().held > 0n; i++) await sleep(20);
    const first = counted();
    if (free !== 0 || first.maxheld === 0n || first.held !== 0n || first.failcnt !== 0n) throw new Error(`a process that was to be counted ended with ${free}; counted were ${first.maxheld}, of which ${first.held} stay`);
    tell(0n);
    const refused = await attempt();
    if (refused === 0 || counted().failcnt === 0n) throw new Error('a process that was to be refused was not');
  } finally {
    order(standing, { what: 'end', key: PROOF, group: 1n });
  }
}

/** Take what is pinned in a folder away. */
function unpin(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) unlinkSync(join(folder, name));
  rmdirSync(folder);
}

export function closeStanding({ ves, control, programs }: Standing): void {
  closeAll([ves.fd, control, ...programs]);
}

/** The kernel may have names of its own there, too. */
function versionsIn(folder: string): string[] {
  return readdirSync(folder).filter((name) => Object.keys(TRACED).some((what) => name.startsWith(`${what}-`)));
}

function placeOf(runDir: string): string {
  return join(runDir, 'programs');
}

/** What this boot's kernel has forbidden, by version: it will not allow it later, and each daemon's start would wait for the answer. */
function forbiddenFile(runDir: string): string {
  return join(runDir, 'programs-forbidden');
}

/** EPERM, as libbpf says it. */
const FORBIDDEN = 'Operation not permitted';

function isMounted(folder: string): boolean {
  return existsSync(folder) && statfsSync(folder).type === BPF_FS;
}

function removeMount(folder: string): void {
  if (isMounted(folder)) detachMount(folder);
  if (existsSync(folder)) rmdirSync(folder);
}

/** Take all of it away, of all versions. Idempotent. */
export function removePlace(runDir: string): void {
  const folder = placeOf(runDir);
  // Names first: others may have a copy of the mount.
  if (isMounted(folder)) for (const name of versionsIn(folder)) unpin(join(folder, name));
  removeMount(folder);
  rmSync(forbiddenFile(runDir), { force: true });
}
