/**
 * Interface of the storage capability: root file systems as stacks of layers.
 *
 * A VE's root is an overlay: read-only layers (shared by all VEs, idmapped into the VE's uid range) below one upper that is
 * the VE's own. Owners in it are written in the VE's range, or, where the file system needs it, from 0, as in a template.
 * The life of an upper: `createVolume`, mounted by the runtime script in a mount namespace of its own while the VE runs, then
 * `freezeUpper` (becomes a layer, a new empty upper on top) or `destroyVolume`. Of one that is in use a layer is made by a copy (`stageCopy`).
 */
import type { GuestRow } from '../kernel/guest-rows.ts';
import type { Quota } from '../spec/types.ts';
import type { LayerRecord, LayerRef } from '../store/types.ts';

/** What the runtime script needs to mount a root. */
export interface MountPlan {
  /** Lowest first: source tree and the idmap `mount(8)` shall give it (`b:FROM:TO:COUNT`), or no map when it is already in the VE's range. */
  lowers: { source: string; map: string | null }[];
  /** Folder that holds upper and work. */
  volume: string;
  /** Idmap that the volume needs, as one mount; or none when the upper's owners are written in the VE's range. */
  map: string | null;
  /** Name in the volume. */
  upper: string;
  /** Name in the volume. */
  work: string;
  /** What counts the volume and may hold it to a limit, for the scripts: kind, folder, account, and where btrfs tells of it. Empty: nothing does. */
  account: string[];
}

/** A copy of an upper that is to be made: by whoever has seen to it that nobody writes there. */
export interface UpperCopy {
  /** Of the layer that it will be. */
  id: string;
  from: string;
  /** Is not there yet. */
  to: string;
}

/** Names to hand to `destroyVolume`, `dropLayer` and `dropStaged`, and freezes to hand to `unfreezeUpper`. */
export interface Orphans {
  volumes: string[];
  layers: string[];
  staged: string[];
  /** Layers without a record that hold the data of a known VE: never remove these. */
  interrupted: { uuid: string; layer: string }[];
}

/** What a VE may write. */
export interface DiskLimits {
  /** Bytes. */
  space: Quota | null;
  /** Names that have an inode. */
  inodes: Quota | null;
}

/** What a VE has written, and until when it may have more than a soft limit, seconds since 1970. */
export interface DiskAccount {
  /** Bytes. */
  space: number;
  /** Null where they are not counted. */
  inodes: number | null;
  spaceUntil: number | null;
  inodesUntil: number | null;
}

/** What can be limited where a disk lies; in words why not. `soft`: limits that may be exceeded for a while. */
export type DiskSupport = Record<'disk.space' | 'disk.inodes' | 'disk.users' | 'soft', true | string>;

/** A user or a group of a VE: what it may have, and what it has. */
export interface DiskUser {
  /** As the VE counts: from 0. */
  id: number;
  limits: DiskLimits;
  used: DiskAccount;
}

export interface Volumes {
  /**
   * Make an empty upper owned by the VE's root, as the upper's owners are written. O(1) in the size of the template. Throws `storage.failed` if it exists.
   * @param number of the VE: with its range it makes the name of its account
   * @param layers on which it will stand
   * @param space bytes that the VE may write, where it matters for how the volume is made; null: nothing is said
   * @param comes bytes that are about to be put into it, by `unheld`: they have room there also when they are more than `space`
   */
  createVolume(uuid: string, uidBase: number, number?: number, layers?: readonly LayerRef[], space?: number | null, comes?: number): Promise<void>;
  /** Whether the folder of the volume exists, whole or in part. */
  hasVolume(uuid: string): boolean;
  /** Put first files into a fresh, never mounted upper (nobody else has touched it yet); they are on disk when it resolves. */
  seedVolume(uuid: string, uidBase: number, files: readonly GuestRow[]): Promise<void>;
  /** Remove upper and work, also when half there. Never follows a link. Works on folders that the VE filled with anything. */
  destroyVolume(uuid: string): Promise<void>;
  mountPlan(uuid: string, uidBase: number, layers: readonly LayerRef[]): MountPlan;
  /** The part of the plan that is about layers. */
  lowers(uidBase: number, layers: readonly LayerRef[]): MountPlan['lowers'];
  /** Bytes in the upper, measured now (a scan: for people, not for limits). */
  usage(uuid: string): Promise<number>;

  /** Path at which a new layer can be filled; it becomes visible by `commitLayer`. */
  stageLayer(): Promise<{ id: string; path: string }>;
  hasStaged(id: string): boolean;
  /** Make a staged tree a layer. @param uidBase range in which its owners are written @returns the record (not yet in the store); its range can be another */
  commitLayer(id: string, uidBase: number): Promise<LayerRecord>;
  /** Drop a staged tree. */
  dropStaged(id: string): Promise<void>;
  /**
   * Turn the upper of a stopped VE into a layer by rename, and give it a new empty upper: O(1), so the record's size is 0 (not measured).
   * The record says in which range its owners are written.
   * @param layer id of the new layer, for callers that note it in the journal first; default: a new one
   */
  freezeUpper(uuid: string, uidBase: number, layer?: string): Promise<LayerRecord>;
  /** What the upper is made of, counted now, up to a number of names (a scan). @returns undefined when it has more names than that, or no copy of it could be a layer */
  upperSize(uuid: string, names: number): Promise<{ bytes: number } | undefined>;
  /** Whether files of this storage can share blocks, so that a copy of one costs next to nothing however large it is (FICLONE of ioctl_ficlonerange(2)). */
  sharesBlocks(uuid?: string): Promise<boolean>;
  /** Prepare a copy of the upper of a VE that runs on. It ends by `commitCopy` or `dropStaged`. */
  stageCopy(uuid: string): UpperCopy;
  /** Make such a copy a layer, on the disk. @returns the record (not yet in the store); it says in which range the owners are written */
  commitCopy(id: string, uuid: string, uidBase: number): Promise<LayerRecord>;
  /** Throw the upper of a stopped VE away, and make a new, empty one. */
  resetUpper(uuid: string): Promise<void>;
  /**
   * Undo `freezeUpper`, also when it was cut short: the layer becomes the upper again. Does nothing when the upper was not taken away.
   * Throws `storage.failed` when the new upper was used already.
   */
  unfreezeUpper(uuid: string, layer: string): Promise<void>;
  /** Remove a layer's tree. The caller has made sure that nothing uses it. */
  dropLayer(id: string): Promise<void>;
  /** Bytes in a layer, measured now: the record of a frozen upper does not know. */
  layerUsage(id: string): Promise<number>;
  layerPath(id: string): string;

  /** What can be limited where this VE's disk lies. */
  support(uuid: string): DiskSupport;
  /**
   * Hold a VE to limits, or to none, from now on. Throws `property.unsupported`.
   * @param atRest it does not run: a volume that was made without an account can be given one
   */
  limit(uuid: string, uidBase: number, number: number, limits: DiskLimits, atRest: boolean): Promise<void>;
  /** Have something written for a VE that does not run, whatever its limit. */
  unheld<T>(uuid: string, work: () => Promise<T>): Promise<T>;
  /** What the kernel has counted for a VE; undefined where it does not count. */
  account(uuid: string): DiskAccount | undefined;
  /** For how long the kernel lets accounts have more than a soft limit where this VE's disk lies, seconds. @param kind those of VEs, or of users or groups */
  kernelGrace(uuid: string, kind?: 'project' | 'user' | 'group'): { space: number; inodes: number };
  /** Change until when a VE may have more than its soft limits, seconds since 1970. */
  extend(uuid: string, until: { space?: number; inodes?: number }): void;
  /** Users and groups of a VE that have anything, or limits. Throws `property.unsupported`. */
  users(uuid: string, uidBase: number): { users: DiskUser[]; groups: DiskUser[] };
  /** Hold a user or group of a VE to limits, or to none. Throws `property.unsupported`. @param id as the VE counts: from 0 */
  limitUser(uuid: string, uidBase: number, kind: 'user' | 'group', id: number, limits: DiskLimits): void;
  /** Change until when a user or group may have more than its soft limits, seconds since 1970. */
  extendUser(uuid: string, uidBase: number, kind: 'user' | 'group', id: number, until: { space?: number; inodes?: number }): void;

  /** What lies in the folders of storage but is named by nobody: leftovers of a crash. Not what this process is removing now. */
  orphans(known: { volumes: ReadonlySet<string>; layers: ReadonlySet<string> }): Orphans;
}
