/**
 * Volumes as subvolumes of btrfs: they are removed at once, and the quota group that each has (0/ID) counts them. A rename cannot lead from one subvolume to
 * another, so it is the volume that becomes a layer, as a whole. What has been frozen of a VE counts for it, too: of its limit the new volume has what is left.
 * (Groups of groups would count by themselves; but a snapshot into another such group leaves all numbers wrong until btrfs has looked at everything.)
 *
 * Each subvolume counts its inodes for itself, and overlayfs takes files of two layers on one file system for one when they have the same number (mv(1) refuses,
 * criu finds the wrong file). So a volume that lies on a subvolume is made of a snapshot of that: its numbers go on where those end. What was in it goes, beside everything else.
 * Sources: btrfs-quota(8), btrfs-qgroup(8), Documentation/ABI/testing (qgroups in sysfs since Linux 5.9).
 */
// oxlint-disable veld/guest-paths -- the uppers themselves are named here (their names are Veld's), never what is in them
import { randomBytes } from 'node:crypto';
import { chmodSync, existsSync, lstatSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { fileSystemId, isSubvolume, subvolumeId } from '../kernel/btrfs.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { run } from '../lib/run.ts';
import { lstatIfThere, makeOwned, RANGE, requireFolder } from './folders.ts';
import { isUnused, writeOrigin, type Ground, type Root } from './ground.ts';
import type { Quotas } from './quotas.ts';
import type { DiskSupport } from './types.ts';

const BTRFS = '/usr/bin/btrfs';
/** Name in a volume, and in what is frozen of it, of the file that tells its account. */
const ACCOUNT = 'account';
/** Name beside a volume of the file that tells its limit, bytes: in one that is full it could not be written. */
const limitOf = (folder: string): string => join(dirname(folder), `.limit-${basename(folder)}`);
/** What was in a subvolume before it became a volume, on its way out. */
const GONE = '.gone-';
const CLOSED = { uid: 0, gid: 0, mode: 0o700 };
/** BTRFS_QGROUP_LIMIT_MAX_RFER. */
const LIMITED = 1;
/** The least that a volume may write beside what is frozen, bytes: to btrfs no limit at all would be 0. */
const LEAST = 1 << 20;

/** @param ves folder of the volumes, on btrfs @param layers folder of the layers, beside it */
export function btrfsGround(ves: string, layers: string): Ground {
  const id = fileSystemId(ves);
  const counted = (): true | string => (existsSync(`/sys/fs/btrfs/${id}/qgroups`) ? true : `quotas of the btrfs at ${dirname(ves)} are off (\`btrfs quota enable ${dirname(ves)}\`)`);
  const group = (folder: string): string => `/sys/fs/btrfs/${id}/qgroups/0_${subvolumeId(folder)}`;
  const figure = (folder: string, file: string): number => Number(readFileSync(join(group(folder), file), 'utf8'));
  const accountOf = (folder: string): number => (lstatIfThere(join(folder, ACCOUNT))?.isFile() ? Number(readFileSync(join(folder, ACCOUNT), 'utf8')) || 0 : 0);
  const limitBytes = (folder: string): number | null => (existsSync(limitOf(folder)) ? Number(readFileSync(limitOf(folder), 'utf8')) || null : null);
  /** What is frozen of an account, bytes. */
  const frozen = (account: number): number => (existsSync(layers) ? readdirSync(layers) : []).map((name) => join(layers, name))
    .filter((folder) => accountOf(folder) === account).reduce((sum, folder) => sum + figure(folder, 'referenced'), 0);

  /** What is on its way out of a volume that was made of a snapshot: all that it refers to, as yet. */
  const figureOfGone = (folder: string): number => (counted() === true && readdirSync(folder).some((name) => name.startsWith(GONE)) ? figure(folder, 'referenced') : 0);
  // By a path beside the volume: the kernel would count the change for the subvolume of the path, and refuse it when that is full.
  const tell = async (folder: string, limit: number | null): Promise<void> => void await run(BTRFS, ['qgroup', 'limit', limit === null ? 'none' : String(limit), `0/${subvolumeId(folder)}`, ves]);
  /** Tell the kernel what is left of a volume's limit. */
  const hold = async (folder: string): Promise<void> => {
    if (counted() !== true || !existsSync(group(folder))) return;
    const limit = limitBytes(folder);
    const wanted = limit === null ? null : Math.max(LEAST, limit - frozen(accountOf(folder))) + figureOfGone(folder);
    const now = (figure(folder, 'limit_flags') & LIMITED) === 0 ? null : figure(folder, 'max_referenced');
    if (now !== wanted) await tell(folder, wanted);
  };
  const lift = async (folder: string): Promise<void> => {
    if (counted() === true && existsSync(group(folder)) && (figure(folder, 'limit_flags') & LIMITED) !== 0) await tell(folder, null);
  };

  const subvolume = async (folder: string, above?: string): Promise<void> => {
    if (lstatIfThere(folder)) throw Object.assign(new Error(`EEXIST: ${folder}`), { code: 'EEXIST' });
    await run(BTRFS, ['subvolume', ...above === undefined ? ['create', '--'] : ['snapshot', '--', above], folder]);
    chmodSync(folder, 0o700);
  };
  /** Empty a folder of a volume, beside everything else. By its own working folder: the volume may become a layer meanwhile. */
  const clear = (volume: string, folder: string): void => {
    void (async () => {
      await run('/usr/bin/find', ['.', '-mindepth', '1', '-xdev', '-delete'], { cwd: folder, allow: true });
      await run(BTRFS, ['filesystem', 'sync', ves], { allow: true }); // the numbers are those of the last commit
      rmSync(folder, { recursive: true, force: true });
      if (existsSync(join(volume, ACCOUNT))) await hold(volume);
    })().catch(() => {}); // the volume is gone; else the next boot of its VE holds it
  };
  const make = async (folder: string, owner: Root, account: number, above?: string): Promise<void> => {
    const model = above !== undefined && isSubvolume(above) ? above : undefined;
    await subvolume(folder, model);
    faultPoint('volume.begun');
    const old = readdirSync(folder);
    const gone = join(folder, `${GONE}${randomBytes(4).toString('hex')}`);
    if (old.length > 0) makeOwned(gone, CLOSED);
    for (const name of old) renameSync(join(folder, name), join(gone, name));
    writeFileSync(join(folder, ACCOUNT), `${account}\n`, { mode: 0o600 });
    makeOwned(join(folder, 'work'), CLOSED);
    makeOwned(join(folder, 'upper'), owner);
    await hold(folder);
    if (old.length > 0) clear(folder, gone);
  };
  // What a daemon has left that ended meanwhile.
  for (const folder of readdirSync(ves).map((name) => join(ves, name))) {
    if (lstatIfThere(folder)?.isDirectory()) for (const name of readdirSync(folder)) if (name.startsWith(GONE)) clear(folder, join(folder, name));
  }
  const nextOf = (folder: string): string => join(dirname(folder), `.next-${basename(folder)}`);
  const remove = async (path: string): Promise<void> => void await run(BTRFS, ['subvolume', 'delete', '--', path]);

  return {
    quotas: btrfsQuotas({ counted, limitBytes, hold, lift, group, used: (folder) => figure(folder, 'referenced') + frozen(accountOf(folder)) }),
    accountOf,
    accountWords: (folder) => (counted() === true && existsSync(group(folder)) ? ['btrfs', ves, basename(group(folder)).replace('_', '/'), group(folder)] : []),
    copies: false,
    stage: (folder) => subvolume(folder),
    make,
    async take(folder, staged, origin) {
      writeOrigin(folder, origin);
      faultPoint('freeze.begun');
      renameSync(folder, staged);
      renameSync(join(staged, 'upper'), join(staged, 'fs'));
      faultPoint('freeze.taken');
    },
    async renew(folder, owner, account, _trash, layer) {
      faultPoint('freeze.named');
      await make(folder, owner, account, layer);
    },
    async back(from, folder) {
      if (!lstatIfThere(join(from, 'fs')) && !lstatIfThere(join(from, 'upper'))) return;
      if (lstatIfThere(folder)) {
        if (!isUnused(folder)) throw new VeldError('storage.failed', `${folder} has used its new upper already.`);
        await remove(folder);
      }
      if (lstatIfThere(join(from, 'fs'))) renameSync(join(from, 'fs'), join(from, 'upper'));
      rmSync(join(from, 'origin'), { force: true });
      renameSync(from, folder);
      faultPoint('unfreeze.back');
      await hold(folder);
    },
    async reset(folder, trash) {
      const next = nextOf(folder);
      if (lstatIfThere(folder)) {
        requireFolder(folder);
        if (lstatIfThere(next)) await remove(next);
        await make(next, lstatSync(join(folder, 'upper')), accountOf(folder), folder);
        faultPoint('reset.begun');
        renameSync(folder, trash);
      }
      faultPoint('reset.taken');
      renameSync(next, folder);
      await hold(folder);
    },
    async remove(path) {
      if (!isSubvolume(path)) return;
      const account = accountOf(path);
      await remove(path);
      // What was frozen of a VE and is gone is its own again.
      const owner = account === 0 ? undefined : readdirSync(ves).map((name) => join(ves, name)).find((folder) => lstatIfThere(folder)?.isDirectory() === true && accountOf(folder) === account);
      if (owner !== undefined) await hold(owner);
    },
  };
}

interface Means {
  counted: () => true | string;
  limitBytes: (folder: string) => number | null;
  hold: (folder: string) => Promise<void>;
  lift: (folder: string) => Promise<void>;
  group: (folder: string) => string;
  used: (folder: string) => number;
}

function btrfsQuotas({ counted, limitBytes, hold, lift, group, used }: Means): Quotas {
  const noUsers = 'btrfs counts subvolumes, not users';
  const refuse = (): never => { throw new VeldError('property.unsupported', `disk.users cannot be held: ${noUsers}.`, { hint: 'Put the VE on a pool of ext4.' }); };
  return {
    support: (): DiskSupport => ({ 'disk.space': counted(), 'disk.inodes': 'btrfs makes inodes as they are needed, and counts none', 'disk.users': noUsers, 'soft': 'btrfs knows one limit only' }),
    projectFor: (uidBase, ve) => uidBase + ve % RANGE,
    async limit(volume, _project, { space, inodes }) {
      if (inodes !== null) throw new VeldError('property.unsupported', 'disk.inodes cannot be held: btrfs counts no inodes.', { hint: 'Put the VE on a pool of ext4 or XFS.' });
      const held = counted();
      if (space !== null && held !== true) throw new VeldError('property.unsupported', `disk.space cannot be held: ${held}.`);
      if (space !== null && space.soft !== space.hard) throw new VeldError('property.unsupported', 'disk.space cannot have a soft limit of its own on btrfs.', { hint: 'Give one limit, or put the VE on a pool of ext4 or XFS.' });
      const wanted = space?.hard ?? null;
      if (wanted === null) rmSync(limitOf(volume), { force: true });
      else if (limitBytes(volume) !== wanted) writeFileSync(limitOf(volume), `${wanted}\n`, { mode: 0o600 });
      await hold(volume);
    },
    account(volume) {
      if (counted() !== true || !existsSync(group(volume))) return undefined;
      return { space: used(volume), inodes: null, spaceUntil: null, inodesUntil: null };
    },
    kernelGrace: () => ({ space: 0, inodes: 0 }), // there is none
    extend() {},
    extendUser() {},
    async unheld(volume, work) {
      await lift(volume);
      try {
        return await work();
      } finally {
        await hold(volume);
      }
    },
    users: refuse,
    limitUser: refuse,
    forget: (volume) => rmSync(limitOf(volume), { force: true }),
  };
}
