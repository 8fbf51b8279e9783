/** Which mounts of a VE come from outside, and where they come from on this host. */
import { lxcfsBinds, type MountLine } from '../kernel/lxcfs-mounts.ts';
import { VeldError } from '../lib/errors.ts';
import type { ExternalMount } from './types.ts';

/** The folder that stands for everything that a VE shall find empty. */
const EMPTY = 'empty';
/** The init of an application VE. */
const INIT = 'init';
/** The VE's own beancounters. */
const BEANCOUNTERS = 'beancounters';
/** The folder by which its quota tools ask the daemon. */
const QUOTA = 'quota';
/** A folder of the host; behind it follows where it is in the VE. */
const BOUND = 'disk.mounts';

export interface MountSources {
  /** Folder of lxcfs' mount; null when there is none. */
  lxcfs: string | null;
  /** The empty folder. */
  empty: string;
  /** Program that is the init of application VEs. */
  init: string;
  /** File with the VE's own beancounters. */
  beancounters: string;
  /** Folder of its quota tools. */
  quota: string;
  /** Folders of the host, by where they are in the VE: those of its record, whatever a state says. */
  bound: ReadonlyMap<string, string>;
}

/**
 * The external ones among the mounts of a VE.
 * @param table of its init
 * @param source name of this installation's lxcfs in mount tables
 * @param covered mount points over which the empty folder was bound at its boot
 * @param init where the init of an application VE was bound @param beancounters where its beancounters were @param quota where its quota tools were @param folders where folders of the host were
 */
export function externalMounts(table: readonly MountLine[], source: string, covered: readonly string[], init: readonly string[], beancounters: readonly string[], quota: readonly string[], folders: readonly string[] = []): ExternalMount[] {
  const lxcfs = lxcfsBinds(table, source).map(({ target, file }) => ({ inside: target, name: `lxcfs${file}` }));
  // Device nodes of the host; a VE cannot have any other ones.
  const devices = table.filter(({ type, root }) => type === 'devtmpfs' && /^\/[a-z]+$/.test(root)).map(({ target, root }) => ({ inside: target, name: `dev${root}` }));
  const targets = new Set(table.map(({ target }) => target));
  const bound = (places: readonly string[], name: string): ExternalMount[] => places.filter((target) => targets.has(target)).map((inside) => ({ inside, name }));
  return [...lxcfs, ...devices, ...bound(covered, EMPTY), ...bound(init, INIT), ...bound(beancounters, BEANCOUNTERS), ...bound(quota, QUOTA), ...folders.flatMap((inside) => bound([inside], BOUND + inside))];
}

/**
 * Where an external mount comes from on this host.
 * @throws VeldError `checkpoint.unusable` for what this host has not
 */
export function sourceOf({ name }: ExternalMount, { lxcfs, empty, init, beancounters, quota, bound }: MountSources): string {
  if (name === EMPTY) return empty;
  if (name === INIT) return init;
  if (name === BEANCOUNTERS) return beancounters;
  if (name === QUOTA) return quota;
  if (name.startsWith(`${BOUND}/`)) {
    const inside = name.slice(BOUND.length);
    const source = bound.get(inside);
    if (source === undefined) throw new VeldError('checkpoint.unusable', `Its processes have a folder of the host at ${inside}, which disk.mounts does not name any more.`, { hint: 'Set disk.mounts as it was, or `veld start --discard-state NAME`.' });
    return source;
  }
  if (/^dev\/[a-z]+$/.test(name)) return `/${name}`;
  const file = /^lxcfs(\/(?!.*\.\.)[a-z/]+)$/.exec(name)?.[1];
  if (file === undefined) throw new VeldError('checkpoint.unusable', `The state wants a mount ${JSON.stringify(name)} that this version does not know.`);
  // Without lxcfs the VE sees the kernel's own file there again: a bind of it over itself.
  return lxcfs === null ? file : lxcfs + file;
}
