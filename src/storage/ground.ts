/**
 * What differs between the file systems on which volumes lie: how the folder of a volume is made, how an upper becomes a layer and comes back, how it is
 * emptied, what counts it. All else is in volumes.ts.
 */
// oxlint-disable veld/guest-paths -- the uppers themselves are named here (their names are Veld's), never what is in them
import { lstatSync, mkdirSync, renameSync, rmdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { giveTo, projectOf } from '../kernel/project.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { isEmptyFolder, lstatIfThere, makeOwned, requireFolder } from './folders.ts';
import { createQuotas } from './quotas.ts';
import type { Quotas } from './quotas.ts';

/** Owner and mode of the root of a VE's upper. */
export interface Root {
  uid: number;
  gid: number;
  mode: number;
}

export interface Ground {
  quotas: Quotas;
  /**
   * Make a volume: its folder, with an empty upper and work. Throws EEXIST
   * @param account that counts it; 0: none
   * @param above folder of the layer, of this storage, right below it; undefined: none
   */
  make(folder: string, root: Root, account: number, above?: string): Promise<void>;
  /** Whether a copy of an upper can be a layer of this storage. */
  copies: boolean;
  /** Make the folder in which a layer is to be filled. */
  stage(folder: string): Promise<void> | void;
  /** Make the upper of a volume the tree `fs` in a folder that is not there yet, with a file `origin`; the volume has none then. */
  take(folder: string, staged: string, origin: string): Promise<void>;
  /** Give a volume whose upper was taken a new one. @param trash a name that work may be moved to @param layer folder of what was taken */
  renew(folder: string, root: Root, account: number, trash: string, layer: string): Promise<void>;
  /** Take `take` back, also when it or `renew` was cut short. What is left at `from` afterwards is to be removed. Throws `storage.failed` when the new upper was used */
  back(from: string, folder: string): Promise<void>;
  /** Throw the upper away, and make a new one. Can be done again when it was cut short. @param trash name to which what is thrown away is moved */
  reset(folder: string, trash: string): Promise<void>;
  /** {@link MountPlan.account} */
  accountWords(folder: string): string[];
  /** Account of a volume; 0: none. */
  accountOf(folder: string): number;
  /** Remove a tree that has its trash name already, faster than by its names; undefined where there is no such way. */
  remove?(path: string): Promise<void>;
}

/** Overlayfs makes work/work at the first mount, and seeding makes files: without both nobody has used the volume. */
export function isUnused(folder: string): boolean {
  return isEmptyFolder(join(folder, 'upper')) && isEmptyFolder(join(folder, 'work'));
}

/** Write whose upper a layer was. */
export function writeOrigin(folder: string, uuid: string): void {
  writeFileSync(join(folder, 'origin'), uuid, { mode: 0o600, flush: true });
}

/** Plain folders. @param folder of the volumes @param ownersFromZero as for createVolumes */
export function plainGround(root: string, ownersFromZero: boolean): Ground {
  /** Files are made in the work folder and moved to the upper: both must be the same project's. A work folder must be a new one: overlayfs remembers in it which upper it belonged to. */
  const makeWork = (folder: string, project: number): void => {
    makeOwned(join(folder, 'work'), { uid: 0, gid: 0, mode: 0o700 });
    giveTo(join(folder, 'work'), project);
  };
  const makeUpper = (path: string, owner: Root, project: number): void => {
    makeOwned(path, owner);
    giveTo(path, project);
  };
  const accountOf = (folder: string): number => (lstatIfThere(join(folder, 'upper')) ? projectOf(join(folder, 'upper')) : 0);
  return {
    quotas: createQuotas(root, ownersFromZero, accountOf),
    accountOf,
    accountWords: (folder) => (accountOf(folder) === 0 ? [] : ['project', folder, String(accountOf(folder))]),
    copies: true,
    stage: (folder) => makeOwned(folder, { uid: 0, gid: 0, mode: 0o700 }),
    async make(folder, owner, account) {
      mkdirSync(folder, { mode: 0o700 });
      faultPoint('volume.begun');
      makeWork(folder, account);
      makeUpper(join(folder, 'upper'), owner, account);
    },
    async take(folder, staged, origin) {
      makeOwned(staged, { uid: 0, gid: 0, mode: 0o700 });
      writeOrigin(staged, origin);
      faultPoint('freeze.begun');
      renameSync(join(folder, 'upper'), join(staged, 'fs'));
      faultPoint('freeze.taken');
    },
    async renew(folder, owner, account, trash) {
      renameSync(join(folder, 'work'), trash);
      faultPoint('freeze.named');
      makeWork(folder, account);
      makeUpper(join(folder, 'upper'), owner, account);
    },
    async back(from, folder) {
      requireFolder(folder);
      const upper = join(folder, 'upper');
      if (lstatIfThere(join(from, 'fs'))) {
        if (lstatIfThere(upper)) {
          if (!isUnused(folder)) throw new VeldError('storage.failed', `${folder} has used its new upper already.`);
          rmdirSync(upper); // fails when it is not empty
        }
        renameSync(join(from, 'fs'), upper);
        faultPoint('unfreeze.back');
      }
      // What is there is either this upper's own or was never used.
      if (!lstatIfThere(join(folder, 'work'))) makeWork(folder, projectOf(upper));
    },
    async reset(folder, trash) {
      requireFolder(folder);
      const [upper, next] = [join(folder, 'upper'), join(folder, 'next')];
      makeOwned(trash, { uid: 0, gid: 0, mode: 0o700 });
      if (!lstatIfThere(next)) makeUpper(next, lstatSync(upper), projectOf(upper));
      faultPoint('reset.begun');
      if (lstatIfThere(upper)) renameSync(upper, join(trash, 'upper'));
      faultPoint('reset.taken');
      renameSync(next, upper);
      if (lstatIfThere(join(folder, 'work'))) renameSync(join(folder, 'work'), join(trash, 'work'));
      makeWork(folder, projectOf(upper));
    },
  };
}
