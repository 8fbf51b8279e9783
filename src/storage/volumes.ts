/**
 * Storage in folders, on any file system that overlayfs takes as an upper; what differs between these is in ground.ts and btrfs-ground.ts.
 *
 * stateDir/ves/UUID/{upper,work}     volumes; `work` is overlayfs's own
 * stateDir/layers/ID/fs              layers; `origin` beside it holds the UUID of the VE whose upper it was
 * stateDir/layers/.staged-ID/fs      layers that are being filled
 * .trash-* in both                   on their way out
 */
// oxlint-disable veld/guest-paths -- the uppers themselves are named here (their names are Veld's), never what is in them
import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { layRows } from '../kernel/guest-rows.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { run } from '../lib/run.ts';
import type { LayerRecord, PoolRecord } from '../store/types.ts';
import { btrfsGround } from './btrfs-ground.ts';
import { ensureFolder, isEmptyFolder, lstatIfThere, makeOwned, mapFromZero, mountablePath, needsOwnersFromZero, RANGE, requireFolder, storageError, storing, storingLong } from './folders.ts';
import { isUnused, plainGround } from './ground.ts';
import { createRemover, TRASH, trashName } from './removal.ts';
import { renumberFromZero } from './renumber.ts';
import type { Orphans, Volumes } from './types.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const LAYER = /^[0-9a-f]{32}$/;
const STAGED = '.staged-';

/**
 * Open the storage below a state folder; makes and checks its folders.
 * @param options.ownersFromZero how new uppers have their owners written; default: as the file system needs it
 * @param options.driver plain folders, or subvolumes of btrfs
 * @throws VeldError `storage.failed` when one of them is a link, belongs to somebody else, or has a path that cannot be mounted
 */
export function createVolumes({ stateDir, ownersFromZero, driver = 'overlay' }: { stateDir: string; ownersFromZero?: boolean; driver?: Exclude<PoolRecord['driver'], 'image'> }): Volumes {
  ensureFolder(stateDir);
  const root = mountablePath(stateDir);
  const fromZero = ownersFromZero ?? needsOwnersFromZero(root);
  const ves = join(root, 'ves');
  const layers = join(root, 'layers');
  ensureFolder(ves);
  ensureFolder(layers);
  const ground = driver === 'btrfs' ? btrfsGround(ves, layers) : plainGround(root, fromZero);
  const remover = createRemover((path) => ground.remove?.(path));

  const named = (pattern: RegExp, kind: string, id: string): string => {
    if (!pattern.test(id)) throw new VeldError('storage.failed', `${JSON.stringify(id)} is not the id of a ${kind}.`);
    return id;
  };
  const volume = (uuid: string): string => join(ves, named(UUID, 'volume', uuid));
  const layer = (id: string): string => join(layers, named(LAYER, 'layer', id));
  const staged = (id: string): string => join(layers, STAGED + named(LAYER, 'layer', id));
  const remove = async (path: string): Promise<void> => {
    try {
      if (lstatIfThere(path)) await remover.remove(path);
    } catch (error) {
      throw storageError(path, error);
    }
  };

  /** Range in which the owners of a VE's upper are written: its root folder tells (the VE's root can give it to any user of the VE, not out of the range). */
  const baseOf = (folder: string, uidBase: number): number => ((lstatIfThere(join(folder, 'upper'))?.uid ?? uidBase) < RANGE ? 0 : uidBase);
  let shares: Promise<boolean> | undefined;

  const freeze = async (uuid: string, uidBase: number, id: string): Promise<LayerRecord> => {
    const folder = volume(uuid);
    requireFolder(folder);
    const root = lstatSync(join(folder, 'upper'));
    const [base, account] = [baseOf(folder, uidBase), ground.accountOf(folder)];
    if (existsSync(layer(id))) throw new VeldError('storage.failed', `The layer ${id} exists already.`);
    await ground.quotas.unheld(folder, async () => {
      await ground.take(folder, staged(id), uuid);
      renameSync(staged(id), layer(id));
      await ground.renew(folder, root, account, join(ves, trashName()), layer(id));
    });
    return { id, uidBase: base, createdAt: new Date().toISOString(), size: 0 };
  };

  const lowers: Volumes['lowers'] = (uidBase, stack) => stack.map((ref) => {
    checkBase(ref.uidBase);
    const source = join(layer(ref.id), 'fs');
    if (!lstatIfThere(source)?.isDirectory()) throw new VeldError('storage.failed', `The layer ${ref.id} is missing.`);
    return { source, map: ref.uidBase === uidBase ? null : `b:${ref.uidBase}:${uidBase}:${RANGE}` };
  });

  return {
    async createVolume(uuid, uidBase, number, stack = []) {
      const folder = volume(uuid);
      checkBase(uidBase);
      const base = fromZero ? 0 : uidBase;
      const above = stack.map(({ id }) => layer(id)).findLast((path) => lstatIfThere(path));
      await storingLong(`The volume ${uuid} could not be made`, () => ground.make(folder, { uid: base, gid: base, mode: 0o755 }, number === undefined ? 0 : ground.quotas.projectFor(uidBase, number), above));
    },

    hasVolume: (uuid) => lstatIfThere(volume(uuid)) !== undefined,

    async seedVolume(uuid, uidBase, files) {
      const folder = volume(uuid);
      checkBase(uidBase);
      requireFolder(folder);
      if (!isEmptyFolder(join(folder, 'work'))) throw new VeldError('storage.failed', `The volume ${uuid} was mounted before; its files are its VE's.`);
      const base = baseOf(folder, uidBase);
      const tree = await openGuestRoot(join(folder, 'upper'));
      try {
        await layRows(tree, files, base);
      } finally {
        tree.close();
      }
    },

    async destroyVolume(uuid) {
      if (TRASH.test(uuid)) return remove(join(ves, uuid));
      if (lstatIfThere(volume(uuid))) storing(`The limits of ${uuid} could not be taken away`, () => ground.quotas.forget(volume(uuid)));
      await remove(volume(uuid));
    },

    mountPlan(uuid, uidBase, stack) {
      checkBase(uidBase);
      const folder = volume(uuid);
      requireFolder(folder);
      return {
        lowers: lowers(uidBase, stack),
        volume: folder,
        map: baseOf(folder, uidBase) === uidBase ? null : mapFromZero(uidBase),
        upper: 'upper',
        work: 'work',
        account: ground.accountWords(folder),
      };
    },

    lowers,

    usage: (uuid) => measure(join(volume(uuid), 'upper')),

    async stageLayer() {
      const id = randomBytes(16).toString('hex');
      return storingLong('A layer could not be made', async () => {
        await ground.stage(staged(id));
        makeOwned(join(staged(id), 'fs'), { uid: 0, gid: 0, mode: 0o755 });
        return { id, path: join(staged(id), 'fs') };
      });
    },

    hasStaged: (id) => lstatIfThere(staged(id)) !== undefined,

    async commitLayer(id, uidBase) {
      checkBase(uidBase);
      const tree = join(staged(id), 'fs');
      if (!lstatIfThere(tree)?.isDirectory()) throw new VeldError('storage.failed', `The staged layer ${id} is not a folder.`);
      const base = fromZero ? 0 : uidBase;
      if (base !== uidBase) {
        const old = join(layers, trashName());
        await renumberFromZero(tree, uidBase, old);
        await remove(old);
      }
      const size = await measure(tree);
      // A layer that has a record must be whole after a power cut.
      await run('/bin/sync', ['-f', '--', tree]);
      storing(`The layer ${id} could not be kept`, () => renameSync(staged(id), layer(id)));
      return { id, uidBase: base, createdAt: new Date().toISOString(), size };
    },

    dropStaged: (id) => remove(staged(id)),

    async freezeUpper(uuid, uidBase, id = randomBytes(16).toString('hex')) {
      checkBase(uidBase);
      return storingLong(`The upper of ${uuid} could not be frozen`, () => freeze(uuid, uidBase, id));
    },

    async upperSize(uuid, names) {
      if (!ground.copies) return undefined;
      // One line for each name: of a file with several its blocks count for each, which errs on the safe side.
      const { stdout } = await run('/bin/sh', ['-c', 'find "$1" -xdev -printf "%b\\n" 2>/dev/null | head -n "$2"', 'sh', join(volume(uuid), 'upper'), String(names + 1)]);
      const blocks = stdout.split('\n').slice(0, -1);
      return blocks.length > names ? undefined : { bytes: blocks.reduce((sum, number) => sum + Number(number) * 512, 0) };
    },

    sharesBlocks: async () => ground.copies && await (shares ??= probeSharing(layers)),

    stageCopy(uuid) {
      const id = randomBytes(16).toString('hex');
      return storing('A layer could not be made', () => {
        makeOwned(staged(id), { uid: 0, gid: 0, mode: 0o700 });
        return { id, from: join(volume(uuid), 'upper'), to: join(staged(id), 'fs') };
      });
    },

    async commitCopy(id, uuid, uidBase) {
      checkBase(uidBase);
      const tree = join(staged(id), 'fs');
      if (!lstatIfThere(tree)?.isDirectory()) throw new VeldError('storage.failed', `The copy ${id} is not a folder.`);
      const base = baseOf(volume(uuid), uidBase);
      const size = await measure(tree);
      await run('/bin/sync', ['-f', '--', tree]);
      faultPoint('copy.kept');
      storing(`The layer ${id} could not be kept`, () => renameSync(staged(id), layer(id)));
      return { id, uidBase: base, createdAt: new Date().toISOString(), size };
    },

    async resetUpper(uuid) {
      const trash = join(ves, trashName());
      await storingLong(`The upper of ${uuid} could not be made anew`, () => ground.quotas.unheld(volume(uuid), () => ground.reset(volume(uuid), trash)));
      void remover.remove(trash).catch(() => {}); // an orphan, if it resists
    },

    async unfreezeUpper(uuid, id) {
      const folder = volume(uuid);
      const from = [layer(id), staged(id)].find((path) => lstatIfThere(path));
      if (from === undefined) return;
      const origin = originOf(from);
      if (origin !== uuid) throw new VeldError('storage.failed', `The layer ${id} was not the upper of ${uuid}.`);
      await storingLong(`The upper of ${uuid} could not be brought back`, () => ground.back(from, folder));
      await remove(from);
    },

    dropLayer: (id) => remove(TRASH.test(id) ? join(layers, id) : layer(id)),

    layerUsage: (id) => measure(join(layer(id), 'fs')),
    layerPath: (id) => join(layer(id), 'fs'),

    support: () => ground.quotas.support(),
    limit: (uuid, uidBase, number, limits, atRest) => ground.quotas.limit(volume(uuid), ground.quotas.projectFor(uidBase, number), limits, atRest),
    account: (uuid) => ground.quotas.account(volume(uuid)),
    unheld: (uuid, work) => ground.quotas.unheld(volume(uuid), work),
    kernelGrace: (_uuid, kind) => ground.quotas.kernelGrace(kind),
    extend: (uuid, until) => ground.quotas.extend(volume(uuid), until),
    users: (_uuid, uidBase) => ground.quotas.users(uidBase),
    limitUser: (_uuid, uidBase, kind, id, limits) => ground.quotas.limitUser(uidBase, kind, id, limits),
    extendUser: (_uuid, uidBase, kind, id, until) => ground.quotas.extendUser(uidBase, kind, id, until),

    orphans(known) {
      const found: Orphans = { volumes: [], layers: [], staged: [], interrupted: [] };
      for (const name of readdirSync(ves)) {
        if (TRASH.test(name) ? !remover.isBusy(name) : UUID.test(name) && !known.volumes.has(name)) found.volumes.push(name);
      }
      for (const name of readdirSync(layers)) {
        const id = name.startsWith(STAGED) ? name.slice(STAGED.length) : name;
        if (TRASH.test(name)) {
          if (!remover.isBusy(name)) found.layers.push(name);
        } else if (LAYER.test(id) && !known.layers.has(id)) {
          const uuid = originOf(join(layers, name));
          // A frozen upper that nobody has recorded: its VE's only data, unless that VE has gone on with another upper since.
          const owed = uuid !== undefined && known.volumes.has(uuid) && (!existsSync(join(ves, uuid, 'upper')) || isUnused(join(ves, uuid)) || name !== id);
          if (owed) found.interrupted.push({ uuid, layer: id });
          else (name === id ? found.layers : found.staged).push(id);
        }
      }
      return found;
    },
  };
}

function checkBase(uidBase: number): void {
  if (!Number.isInteger(uidBase) || uidBase < 0 || uidBase > 2 ** 32 - 1 - RANGE) throw new VeldError('storage.failed', `${uidBase} is not the base of a uid range.`);
}

/** Try it, with a file of a block. */
async function probeSharing(folder: string): Promise<boolean> {
  const probe = join(folder, trashName());
  makeOwned(probe, { uid: 0, gid: 0, mode: 0o700 });
  writeFileSync(join(probe, 'one'), Buffer.alloc(4096, 1));
  try {
    return (await run('/bin/cp', ['--reflink=always', '--', join(probe, 'one'), join(probe, 'two')], { allow: true })).code === 0;
  } finally {
    rmSync(probe, { recursive: true, force: true });
  }
}

/** UUID of the VE whose upper the layer was. */
function originOf(folder: string): string | undefined {
  const file = join(folder, 'origin');
  if (!lstatIfThere(file)?.isFile()) return undefined;
  const text = readFileSync(file, 'utf8');
  return UUID.test(text) ? text : undefined;
}

/** Bytes on disk of a tree; du(1) follows no link and stays on the file system. Names that vanish meanwhile are no error. */
async function measure(path: string): Promise<number> {
  const { stdout } = await run('/usr/bin/du', ['-s', '-x', '--block-size=1', '--', path], { allow: [1] });
  const bytes = Number.parseInt(stdout, 10);
  if (Number.isNaN(bytes)) throw new VeldError('storage.failed', `${path} could not be measured.`);
  return bytes;
}
