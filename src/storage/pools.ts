/**
 * Several places for disks of VEs, as one storage: each call goes to the pool on which its volume or layer lies. Layers never move from one pool to another, and a VE
 * stands on layers of any of them.
 */
import { existsSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { DEFAULT_POOL } from '../spec/disk-properties.ts';
import type { PoolRecord } from '../store/types.ts';
import { createImageVolumes } from './image-volumes.ts';
import type { Orphans, Volumes } from './types.ts';
import { createVolumes } from './volumes.ts';

/** Name of a file in a pool's folder that tells that it is one: it is not there while the file system of the pool is not mounted. */
export const POOL_MARK = '.veld-pool';

/** What a file system holds, bytes and inodes. */
export interface Room {
  bytes: number;
  freeBytes: number;
  inodes: number;
  freeInodes: number;
}

export interface Pools extends Volumes {
  /** What can be limited on a pool. Throws `pool.not_found`, `pool.unavailable` */
  supportOf(pool: string): ReturnType<Volumes['support']>;
  /** The storage of one pool. Throws `pool.not_found`, `pool.unavailable` */
  of(pool: string): Volumes;
  /** Of its file system; undefined while it is not there. */
  room(pool: string): Room | undefined;
  /** Folder of the pool on which a VE's disk lies: what is free there is free for all who share it, also where each VE has a disk of its own. */
  folderOf(uuid: string): string;
  /** Names of pools that are not there now. */
  missing(): string[];
}

export interface PoolOptions {
  /** The default pool lies in it. */
  stateDir: string;
  /** All other pools, as they are now. */
  records: () => readonly PoolRecord[];
  /** Name of the pool on which a VE's disk lies, by UUID; undefined for a VE without a record. */
  poolOf: (uuid: string) => string | undefined;
}

/** Open all pools. Those that are not there are looked for again whenever they are asked for. */
export function createPools({ stateDir, records, poolOf }: PoolOptions): Pools {
  const open = new Map<string, { path: string; volumes: Volumes }>();
  const layerAt = new Map<string, string>();

  const record = (name: string): Pick<PoolRecord, 'path' | 'driver'> => {
    if (name === DEFAULT_POOL) return { path: stateDir, driver: 'overlay' };
    const found = records().find((pool) => pool.name === name);
    if (!found) throw new VeldError('pool.not_found', `There is no pool ${JSON.stringify(name.slice(0, 80))}.`);
    return found;
  };
  const names = (): string[] => [DEFAULT_POOL, ...records().map(({ name }) => name)];
  const isThere = (name: string): boolean => name === DEFAULT_POOL || existsSync(join(record(name).path, POOL_MARK));
  const of = (name: string): Volumes => {
    const { path, driver } = record(name);
    if (!isThere(name)) throw new VeldError('pool.unavailable', `The pool ${name} is not there: nothing of it is in ${path}.`);
    let at = open.get(name);
    if (at?.path !== path) open.set(name, at = { path, volumes: driver === 'image' ? createImageVolumes({ stateDir: path }) : createVolumes({ stateDir: path, driver }) });
    return at.volumes;
  };
  const there = (): [name: string, volumes: Volumes][] => names().filter(isThere).map((name) => [name, of(name)]);

  /** Where a VE's disk lies. One without a record is looked for. */
  const byVe = (uuid: string): Volumes => {
    const known = poolOf(uuid);
    if (known !== undefined) return of(known);
    return there().find(([, volumes]) => volumes.hasVolume(uuid))?.[1] ?? of(DEFAULT_POOL);
  };
  /** Where a layer lies; where none is, the default pool's storage has the words for it. */
  const byLayer = (id: string, isHere: (volumes: Volumes) => boolean = (volumes) => existsSync(volumes.layerPath(id))): Volumes => {
    const known = layerAt.get(id);
    if (known !== undefined && isThere(known) && isHere(of(known))) return of(known);
    const found = there().find(([, volumes]) => isHere(volumes));
    if (found) {
      layerAt.set(id, found[0]);
      return found[1];
    }
    const gone = names().filter((name) => !isThere(name));
    if (gone.length > 0 && /^[0-9a-f]{32}$/.test(id)) throw new VeldError('pool.unavailable', `The layer ${id} is on no pool that is there; not there: ${gone.join(', ')}.`);
    return of(DEFAULT_POOL);
  };
  const byStaged = (id: string): Volumes => byLayer(id, (volumes) => volumes.hasStaged(id));
  const trashed = (name: string, here: (volumes: Volumes) => Promise<void>): Promise<void> => there().reduce((before, [, volumes]) => before.then(() => here(volumes)), Promise.resolve());

  return {
    of,
    supportOf: (pool) => of(pool).support(''),
    room(pool) {
      if (!isThere(pool)) return undefined;
      const { bsize, blocks, bavail, files, ffree } = statfsSync(record(pool).path);
      return { bytes: blocks * bsize, freeBytes: bavail * bsize, inodes: files, freeInodes: ffree };
    },
    folderOf: (uuid) => record(poolOf(uuid) ?? DEFAULT_POOL).path,
    missing: () => names().filter((name) => !isThere(name)),

    createVolume: async (uuid, ...rest) => byVe(uuid).createVolume(uuid, ...rest),
    hasVolume: (uuid) => byVe(uuid).hasVolume(uuid),
    seedVolume: async (uuid, ...rest) => byVe(uuid).seedVolume(uuid, ...rest),
    destroyVolume: (uuid) => (uuid.startsWith('.') ? trashed(uuid, (volumes) => volumes.destroyVolume(uuid)) : Promise.resolve().then(() => byVe(uuid).destroyVolume(uuid))),
    mountPlan(uuid, uidBase, layers) {
      // Each layer by its own pool's word.
      const lowers = layers.flatMap((layer) => byLayer(layer.id).lowers(uidBase, [layer]));
      return { ...byVe(uuid).mountPlan(uuid, uidBase, []), lowers };
    },
    lowers: (uidBase, layers) => layers.flatMap((layer) => byLayer(layer.id).lowers(uidBase, [layer])),
    usage: async (uuid) => byVe(uuid).usage(uuid),

    stageLayer: async () => of(DEFAULT_POOL).stageLayer(),
    hasStaged: (id) => there().some(([, volumes]) => volumes.hasStaged(id)),
    commitLayer: async (id, uidBase) => byStaged(id).commitLayer(id, uidBase),
    dropStaged: async (id) => byStaged(id).dropStaged(id),
    freezeUpper: async (uuid, ...rest) => byVe(uuid).freezeUpper(uuid, ...rest),
    upperSize: async (uuid, limit) => byVe(uuid).upperSize(uuid, limit),
    sharesBlocks: async (uuid) => (uuid === undefined ? of(DEFAULT_POOL) : byVe(uuid)).sharesBlocks(uuid),
    stageCopy: (uuid) => byVe(uuid).stageCopy(uuid),
    commitCopy: async (id, uuid, uidBase) => byVe(uuid).commitCopy(id, uuid, uidBase),
    resetUpper: async (uuid) => byVe(uuid).resetUpper(uuid),
    unfreezeUpper: async (uuid, layer) => byVe(uuid).unfreezeUpper(uuid, layer),
    async dropLayer(id) {
      if (id.startsWith('.')) return trashed(id, (volumes) => volumes.dropLayer(id));
      await byLayer(id).dropLayer(id);
      layerAt.delete(id);
    },
    layerUsage: async (id) => byLayer(id).layerUsage(id),
    layerPath: (id) => byLayer(id).layerPath(id),

    support: (uuid) => byVe(uuid).support(uuid),
    limit: async (uuid, ...rest) => byVe(uuid).limit(uuid, ...rest),
    account: (uuid) => byVe(uuid).account(uuid),
    unheld: async (uuid, work) => byVe(uuid).unheld(uuid, work),
    kernelGrace: (uuid, kind) => byVe(uuid).kernelGrace(uuid, kind),
    extend: (uuid, until) => byVe(uuid).extend(uuid, until),
    users: (uuid, uidBase) => byVe(uuid).users(uuid, uidBase),
    limitUser: (uuid, ...rest) => byVe(uuid).limitUser(uuid, ...rest),
    extendUser: (uuid, ...rest) => byVe(uuid).extendUser(uuid, ...rest),

    orphans(known) {
      const found = there().map(([, volumes]) => volumes.orphans(known));
      const all = <K extends keyof Orphans>(kind: K): Orphans[K] => found.flatMap((one) => one[kind] as unknown[]) as Orphans[K];
      return { volumes: all('volumes'), layers: all('layers'), staged: all('staged'), interrupted: all('interrupted') };
    },
  };
}
