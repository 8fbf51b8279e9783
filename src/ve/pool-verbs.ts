/** `pool create|list|show|delete`. */
import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync, rmdirSync, statfsSync, statSync, writeFileSync } from 'node:fs';
import { isAbsolute, join, normalize, resolve, sep } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { run } from '../lib/run.ts';
import type { Task } from '../ops/types.ts';
import { DEFAULT_POOL, POOL_NAME } from '../spec/disk-properties.ts';
import { createImageVolumes, hasImages, mountImages, removeImages, writeImageFacts } from '../storage/image-volumes.ts';
import { IMAGE_MINIMUM, makePoolImage, mountPoolImage, unmountPoolImage } from '../storage/pool-image.ts';
import { POOL_MARK } from '../storage/pools.ts';
import type { PoolRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import type { PoolRequest, PoolView } from './types.ts';

/** statfs(2). */
const BTRFS_SUPER_MAGIC = 0x9123683e;

/** All pools, the default one first. */
export function viewPools(context: VeContext): PoolView[] {
  const own: PoolRecord = { name: DEFAULT_POOL, path: context.settings.stateDir, driver: 'overlay', image: null, createdAt: '' };
  return [own, ...context.store.listPools()].map((pool) => viewPool(context, pool));
}

/** @throws VeldError `pool.not_found` */
export function findPool(context: VeContext, name: string): PoolView {
  const found = viewPools(context).find((pool) => pool.name === name);
  if (!found) throw new VeldError('pool.not_found', `There is no pool ${JSON.stringify(name.slice(0, 80))}.`);
  return found;
}

function viewPool({ store, volumes }: VeContext, { name, path, driver, image, createdAt }: PoolRecord): PoolView {
  const room = volumes.room(name) ?? null;
  return {
    name, path, driver, image, createdAt: createdAt || null, room,
    holds: room === null ? null : volumes.supportOf(name),
    ves: store.listVes().filter((ve) => ve.ready && (ve.properties['disk.pool'] ?? DEFAULT_POOL) === name).map((ve) => ve.name),
    shared: name === DEFAULT_POOL ? sharedTemplates(store) : null, // templates lie there
    reclaimable: image === null || room === null ? null : Math.max(0, statSync(image.file).blocks * 512 - (room.bytes - room.freeBytes)),
  };
}

/** What all VEs of a template have together, instead of each for itself. */
function sharedTemplates(store: VeContext['store']): PoolView['shared'] {
  const templates = store.listTemplates();
  const ves = store.listVes();
  const uses = (fingerprint: string): number => ves.filter((ve) => ve.template === fingerprint).length;
  return templates.length === 0 ? null : {
    bytes: templates.reduce((sum, { size }) => sum + size, 0), saves: templates.reduce((sum, { size, fingerprint }) => sum + size * Math.max(0, uses(fingerprint) - 1), 0),
  };
}

/**
 * Check what a new pool is to be, before an operation begins.
 * @throws VeldError `name.invalid`, `pool.name_taken`, `pool.invalid`
 */
export function checkPool({ store, settings }: VeContext, request: PoolRequest): PoolRecord {
  const { name, imageSize } = request;
  if (!POOL_NAME.test(name)) throw new VeldError('name.invalid', `${JSON.stringify(name.slice(0, 80))} cannot be the name of a pool.`, { hint: 'A name is 1 to 31 characters of a-z, 0-9 and -, and begins with a letter.' });
  if (name === DEFAULT_POOL || store.listPools().some((pool) => pool.name === name)) throw new VeldError('pool.name_taken', `There is a pool named ${name} already.`);
  const base = request.path ?? join(settings.stateDir, 'pools', name);
  if (!isAbsolute(base) || normalize(base) !== base || /[:,\\"'\s\p{Cc}]/u.test(base)) throw new VeldError('pool.invalid', `${JSON.stringify(base.slice(0, 200))} cannot be the folder of a pool.`, { hint: 'Give an absolute path without .., colons, commas, backslashes, quotes and blanks.' });
  if (request.driver === 'image') return checkImagePool(settings, store, request, base);
  const fileSystem = request.fileSystem ?? (request.driver === 'btrfs' ? 'btrfs' : 'ext4');
  if (imageSize === undefined && request.fileSystem !== undefined) throw new VeldError('pool.invalid', 'A file system is made only in an image.', { hint: 'Add --image-size.' });
  if (imageSize !== undefined && imageSize < IMAGE_MINIMUM[fileSystem]) throw new VeldError('pool.invalid', `An image of ${fileSystem} has ${IMAGE_MINIMUM[fileSystem]} bytes at least.`);
  if (imageSize !== undefined && request.driver === 'btrfs' && fileSystem !== 'btrfs') throw new VeldError('pool.invalid', `The driver btrfs needs btrfs, not ${fileSystem}.`);
  const path = imageSize === undefined ? base : join(base, 'root');
  if (imageSize === undefined && !existsSync(base)) throw new VeldError('pool.invalid', `${base} is not there.`, { hint: 'Make the folder on the disk that the pool is to use; or give --image-size, and Veld makes a file system in a file.' });
  checkPlace(settings, store, path, base);
  const onBtrfs = imageSize === undefined ? statfsSync(base).type === BTRFS_SUPER_MAGIC : fileSystem === 'btrfs';
  if (request.driver === 'btrfs' && !onBtrfs) throw new VeldError('pool.invalid', `${base} is not on btrfs.`);
  return {
    name, path, driver: request.driver ?? (onBtrfs ? 'btrfs' : 'overlay'), createdAt: new Date().toISOString(),
    image: imageSize === undefined ? null : { file: join(base, 'image'), bytes: imageSize, fileSystem },
  };
}

/** @param path of the pool @param base folder in which all of it is @throws VeldError `pool.invalid` */
function checkPlace(settings: VeContext['settings'], store: VeContext['store'], path: string, base: string): void {
  const inside = (one: string, other: string): boolean => one === other || one.startsWith(other + sep);
  const near = [{ name: DEFAULT_POOL, path: settings.stateDir }, ...store.listPools()].find((pool) => (inside(path, pool.path) && !(pool.name === DEFAULT_POOL && inside(path, join(settings.stateDir, 'pools')))) || inside(pool.path, path));
  if (near) throw new VeldError('pool.invalid', `${path} lies in, or around, the pool ${near.name}.`, { hint: 'Pools lie beside each other.' });
  if (existsSync(base) && (!statSync(base).isDirectory() || readdirSync(base).some((entry) => entry !== 'lost+found'))) throw new VeldError('pool.invalid', `${base} is not an empty folder.`, { hint: 'A pool needs one for itself.' });
}

/** What a VE may write on a pool with images for which nothing is said, bytes. */
export const IMAGE_DEFAULT = 10 * 2 ** 30;

function checkImagePool(settings: VeContext['settings'], store: VeContext['store'], { name, path, imageSize = IMAGE_DEFAULT, fileSystem = 'ext4' }: PoolRequest, base: string): PoolRecord {
  if (fileSystem !== 'ext4') throw new VeldError('pool.invalid', `Images of VEs are ext4, not ${fileSystem}.`, { hint: 'Leave --fs out.' });
  if (imageSize < IMAGE_MINIMUM.ext4) throw new VeldError('pool.invalid', `An image of a VE has ${IMAGE_MINIMUM.ext4} bytes at least.`);
  if (path !== undefined && !existsSync(path)) throw new VeldError('pool.invalid', `${path} is not there.`, { hint: 'Make the folder on the disk that the pool is to use, or leave --path out.' });
  checkPlace(settings, store, base, base);
  return { name, path: base, driver: 'image', createdAt: new Date().toISOString(), image: null };
}

/** Find out, with an image that is removed again, whether the kernel has quotas for what is in images. @throws VeldError as for making a pool */
async function prepareImages(path: string, space: number, uuid: string): Promise<void> {
  writeImageFacts(path, { space: IMAGE_MINIMUM.ext4, quotas: true });
  let quotas = false;
  try {
    const trial = createImageVolumes({ stateDir: path });
    await trial.createVolume(uuid, 0, 1);
    quotas = trial.support(uuid)['disk.users'] === true;
  } catch {
    // A kernel without formats of quotas does not write to an ext4 that has them. Whatever else it is, it will be said without them, too.
  }
  await removeImages(path);
  writeImageFacts(path, { space: IMAGE_MINIMUM.ext4, quotas });
  if (!quotas) {
    const plain = createImageVolumes({ stateDir: path });
    await plain.createVolume(uuid, 0);
    await plain.destroyVolume(uuid);
  }
  writeImageFacts(path, { space, quotas });
}

/** Make a pool of what was checked. @param imageSize bytes that a VE may write for which nothing is said, where each has an image */
export async function createPool(context: VeContext, pool: PoolRecord, task: Task, imageSize = IMAGE_DEFAULT): Promise<PoolView> {
  const { store } = context;
  const base = pool.image === null ? pool.path : resolve(pool.path, '..');
  const made = !existsSync(base);
  mkdirSync(base, { recursive: true, mode: 0o700 });
  task.undo('folder', () => { if (made) rmSync(base, { recursive: true, force: true }); });
  task.phase('make', { pool });
  if (pool.image) {
    task.progress(10, `making ${pool.image.fileSystem} in a file`);
    const { file } = pool.image;
    await makePoolImage(pool.image); // or nothing of it
    task.undo('image', () => rmSync(file, { force: true }));
    faultPoint('pool.image');
    task.progress(60, 'mounting it');
    task.undo('mount', async () => {
      await unmountPoolImage(pool);
      if (existsSync(pool.path)) rmdirSync(pool.path);
    });
    try {
      await mountPoolImage(pool);
    } catch (error) {
      // A kernel without formats of quotas does not write to an ext4 that has them.
      if (pool.image.fileSystem !== 'ext4') throw error;
      rmSync(file);
      await makePoolImage(pool.image, false);
      await mountPoolImage(pool);
    }
    faultPoint('pool.mounted');
  }
  if (pool.driver === 'image') {
    task.progress(10, 'trying an image');
    task.undo('images', () => removePool(pool));
    await prepareImages(pool.path, imageSize, randomUUID());
    faultPoint('pool.images');
  }
  if (pool.driver === 'btrfs') {
    const { code, stderr } = await run('/usr/bin/btrfs', ['quota', 'enable', pool.path], { allow: true });
    if (code !== 0) context.log.warn({ pool: pool.name, stderr }, 'quotas of btrfs could not be switched on: nothing can be limited there');
  }
  task.undo('mark', () => rmSync(join(pool.path, POOL_MARK), { force: true }));
  writeFileSync(join(pool.path, POOL_MARK), `${context.settings.instance} ${pool.name}\n`, { mode: 0o600, flush: true });
  task.undo('record', () => store.deletePool(pool.name));
  store.insertPool(pool);
  context.volumes.of(pool.name); // makes its folders
  task.commit();
  context.events.emit('pool.created', { data: { name: pool.name } });
  return findPool(context, pool.name);
}

/** @throws VeldError `pool.in_use`, `pool.not_found`, `pool.invalid` */
export function checkPoolUnused({ store, volumes }: VeContext, name: string): PoolRecord {
  if (name === DEFAULT_POOL) throw new VeldError('pool.invalid', 'The default pool is the state folder itself: it goes with Veld.');
  const pool = store.listPools().find((one) => one.name === name);
  if (!pool) throw new VeldError('pool.not_found', `There is no pool ${JSON.stringify(name.slice(0, 80))}.`);
  const ves = store.listVes().filter((ve) => ve.properties['disk.pool'] === name).map((ve) => ve.name);
  if (ves.length > 0) throw new VeldError('pool.in_use', `The pool ${name} holds the disks of ${ves.slice(0, 5).join(', ')}${ves.length > 5 ? ` and ${ves.length - 5} more` : ''}.`);
  if (volumes.missing().includes(name)) return pool;
  const layers = store.listLayers().filter(({ id }) => existsSync(volumes.of(name).layerPath(id)));
  if (layers.length > 0) throw new VeldError('pool.in_use', `${layers.length} layers of other VEs, snapshots or templates lie on the pool ${name}.`);
  return pool;
}

/** Take a pool away, with its image. Of one in a folder the folder stays, empty. */
export async function deletePool(context: VeContext, name: string, task: Task): Promise<void> {
  const pool = checkPoolUnused(context, name);
  if (pool.image) await unmountPoolImage(pool); // or nothing is done
  task.phase('delete', { pool });
  task.commit();
  context.store.deletePool(name);
  await removePool(pool);
  context.events.emit('pool.deleted', { data: { name } });
}

/**
 * What a new daemon does first: a pool that an earlier one was making goes, one that it was taking away, too, and the images of all others are mounted.
 * @returns what could not be mounted, by pool
 */
export async function openPools({ store }: Pick<VeContext, 'store'>): Promise<Map<string, unknown>> {
  for (const entry of store.listJournal()) {
    if (entry.kind !== 'pool-create' && entry.kind !== 'pool-delete') continue;
    const { pool } = entry.data as { pool: PoolRecord };
    await removePool(pool);
    store.deletePool(pool.name);
  }
  const failed = new Map<string, unknown>();
  for (const pool of store.listPools()) {
    await mountPoolImage(pool).catch((error: unknown) => failed.set(pool.name, error));
    if (pool.driver !== 'image') continue;
    for (const [uuid, error] of await mountImages(pool.path)) failed.set(`${pool.name}, VE ${store.veByUuid(uuid)?.name ?? uuid}`, error);
  }
  return failed;
}

/** Remove whatever is there of a pool on which nothing lies, whole or in part. */
async function removePool(pool: PoolRecord): Promise<void> {
  if (pool.image) {
    await unmountPoolImage(pool);
    rmSync(pool.image.file, { force: true });
    const base = resolve(pool.path, '..');
    for (const folder of [pool.path, base]) if (existsSync(folder) && readdirSync(folder).length === 0) rmdirSync(folder);
  } else if (existsSync(join(pool.path, POOL_MARK)) || hasImages(pool.path)) {
    if (pool.driver === 'image') await removeImages(pool.path);
    for (const entry of ['ves', 'layers', 'disks', 'images.json', POOL_MARK]) rmSync(join(pool.path, entry), { recursive: true, force: true });
    // The folder that Veld has made for it; one that was given stays.
    if (pool.path.endsWith(join('/pools', pool.name)) && readdirSync(pool.path).length === 0) rmdirSync(pool.path);
  }
}
