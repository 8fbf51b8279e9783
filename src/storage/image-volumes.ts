/**
 * Storage with one image for each VE (ve-image.ts), for hosts whose file system has no quotas: what a VE may write is how large its disk is, and all that it has is in one file.
 *
 * stateDir/disks/UUID/...     the image of a VE; its upper, and the layers that its upper has become, lie in it
 * stateDir/ves, layers        as in volumes.ts: layers that were no VE's upper
 * stateDir/images.json        how large an image is for which nothing is said, and whether the kernel's quotas are used in them
 *
 * An image goes when its VE is gone and nobody stands on a layer in it any more.
 */
import { existsSync, lstatSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { writeFileAtomic } from '../lib/files.ts';
import { ensureFolder, storingLong } from './folders.ts';
import type { DiskSupport, Orphans, Volumes } from './types.ts';
import { veImage, type VeImage } from './ve-image.ts';
import { createVolumes } from './volumes.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const FACTS = 'images.json';
/** Smallest space for which an image is made, bytes; less is held by its ballast. */
const LEAST = 32 << 20;

/** What holds for all images of a pool. */
export interface ImageFacts {
  /** Bytes that a VE may write for which nothing is said. */
  space: number;
  /** Whether the kernel has quotas for what is in them. */
  quotas: boolean;
}

/** Note what holds for all images. @param stateDir folder of the pool */
export function writeImageFacts(stateDir: string, facts: ImageFacts): void {
  writeFileAtomic(join(stateDir, FACTS), `${JSON.stringify(facts)}\n`, 0o600);
}

/** @throws VeldError `pool.unavailable` when it is not there */
function readImageFacts(stateDir: string): ImageFacts {
  try {
    return JSON.parse(readFileSync(join(stateDir, FACTS), 'utf8')) as ImageFacts;
  } catch (error) {
    throw new VeldError('pool.unavailable', `${join(stateDir, FACTS)} cannot be read: ${(error as Error).message}`, { cause: error });
  }
}

/**
 * Mount the images of a pool that are not mounted.
 * @returns those that could not be, by UUID of the VE
 */
export async function mountImages(stateDir: string): Promise<Map<string, unknown>> {
  const failed = new Map<string, unknown>();
  for (const uuid of imagesOf(stateDir)) await veImage(join(disksOf(stateDir), uuid)).mount().catch((error: unknown) => failed.set(uuid, error));
  return failed;
}

/** Unmount them all: nothing on the pool is in use. @throws VeldError `storage.failed` */
export async function removeImages(stateDir: string): Promise<void> {
  for (const uuid of imagesOf(stateDir)) await veImage(join(disksOf(stateDir), uuid)).remove();
}

/** @param pool its folder */
function disksOf(pool: string): string {
  return join(pool, 'disks');
}

function imagesOf(stateDir: string): string[] {
  const disks = disksOf(stateDir);
  return existsSync(disks) ? readdirSync(disks).filter((name) => UUID.test(name)) : [];
}

/** Open the storage of a pool whose VEs have an image each; images that are mounted are used. @param stateDir folder of the pool */
export function createImageVolumes({ stateDir }: { stateDir: string }): Volumes {
  const facts = readImageFacts(stateDir);
  ensureFolder(stateDir);
  ensureFolder(disksOf(stateDir));
  const plain = createVolumes({ stateDir });
  const open = new Map<string, { image: VeImage; volumes: Volumes }>();
  /** Those that are not held until somebody says so again. */
  const free = new Set<string>();

  const imageOf = (uuid: string): VeImage => {
    if (!UUID.test(uuid)) throw new VeldError('storage.failed', `${JSON.stringify(uuid)} is not the id of a volume.`);
    return veImage(join(disksOf(stateDir), uuid));
  };
  /** The storage in an image. @throws VeldError `pool.unavailable` */
  const of = (uuid: string): { image: VeImage; volumes: Volumes } => {
    const image = imageOf(uuid);
    if (!image.exists()) throw new VeldError('storage.failed', `The volume ${uuid} is missing.`);
    if (!image.isMounted()) throw new VeldError('pool.unavailable', `The image of ${uuid} is not mounted.`, { hint: 'The log of the daemon tells why; it is tried again when the daemon starts.' });
    let at = open.get(uuid);
    if (at === undefined) open.set(uuid, at = { image, volumes: createVolumes({ stateDir: image.root }) });
    return at;
  };
  const inside = (uuid: string): Volumes => of(uuid).volumes;
  const mounted = (): [uuid: string, volumes: Volumes][] => imagesOf(stateDir).filter((uuid) => imageOf(uuid).isMounted()).map((uuid) => [uuid, inside(uuid)]);
  const byLayer = (id: string, isHere: (volumes: Volumes) => boolean = (volumes) => existsSync(volumes.layerPath(id))): [uuid: string | undefined, volumes: Volumes] => {
    const found = isHere(plain) ? undefined : mounted().find(([, volumes]) => isHere(volumes));
    return found ?? [undefined, plain];
  };
  const byStaged = (id: string): Volumes => byLayer(id, (volumes) => volumes.hasStaged(id))[1];

  /** Whether there is a layer, or something on its way out, in an image. */
  const holdsLayers = (uuid: string): boolean => readdirSync(join(imageOf(uuid).root, 'layers')).some((name) => !name.startsWith('.trash-'));
  const drop = async (uuid: string): Promise<void> => {
    open.delete(uuid);
    free.delete(uuid);
    await imageOf(uuid).remove();
  };

  /** Have something done in an image that may be full: what is held back is free for that time. */
  const lifted = async <T>(uuid: string, work: (volumes: Volumes) => Promise<T>): Promise<T> => {
    const { image, volumes } = of(uuid);
    image.lift();
    try {
      return await work(volumes);
    } finally {
      if (!free.has(uuid)) await image.hold(image.held(), false);
    }
  };

  return {
    async createVolume(uuid, uidBase, number, layers, space, comes = 0) {
      const image = imageOf(uuid);
      await storingLong(`The volume ${uuid} could not be made`, () => image.make(Math.max(space ?? facts.space, comes, LEAST), facts.quotas));
      try {
        const { volumes } = of(uuid);
        image.begin();
        await volumes.createVolume(uuid, uidBase, number, layers);
        await image.hold(space ?? facts.space, false);
      } catch (error) {
        await drop(uuid);
        throw error;
      }
    },
    hasVolume: (uuid) => imageOf(uuid).exists() && (!imageOf(uuid).isMounted() || inside(uuid).hasVolume(uuid)),
    seedVolume: async (uuid, ...rest) => inside(uuid).seedVolume(uuid, ...rest),
    async destroyVolume(uuid) {
      if (uuid.startsWith('.')) {
        for (const [, volumes] of [...mounted(), ['', plain] as const]) await volumes.destroyVolume(uuid);
        return;
      }
      const image = imageOf(uuid);
      if (!image.exists()) return;
      // All that is in it goes with it, however much that is.
      if (!image.isMounted() || !holdsLayers(uuid)) return drop(uuid);
      await inside(uuid).destroyVolume(uuid);
    },
    mountPlan(uuid, uidBase, layers) {
      const { image, volumes } = of(uuid);
      const plan = volumes.mountPlan(uuid, uidBase, []);
      const [, folder = plan.volume, project = '0'] = plan.account;
      return { ...plan, lowers: layers.flatMap((layer) => byLayer(layer.id)[1].lowers(uidBase, [layer])), account: ['image', image.ballast, folder, project] };
    },
    lowers: (uidBase, layers) => layers.flatMap((layer) => byLayer(layer.id)[1].lowers(uidBase, [layer])),
    usage: async (uuid) => inside(uuid).usage(uuid),

    stageLayer: async () => plain.stageLayer(),
    hasStaged: (id) => plain.hasStaged(id) || mounted().some(([, volumes]) => volumes.hasStaged(id)),
    commitLayer: async (id, uidBase) => byStaged(id).commitLayer(id, uidBase),
    dropStaged: async (id) => byStaged(id).dropStaged(id),
    freezeUpper: (uuid, ...rest) => lifted(uuid, (volumes) => volumes.freezeUpper(uuid, ...rest)),
    // A copy of an upper would have to find room in the VE's own disk.
    upperSize: async () => undefined,
    sharesBlocks: async () => false,
    stageCopy: (uuid) => inside(uuid).stageCopy(uuid),
    commitCopy: async (id, uuid, uidBase) => inside(uuid).commitCopy(id, uuid, uidBase),
    resetUpper: (uuid) => lifted(uuid, (volumes) => volumes.resetUpper(uuid)),
    unfreezeUpper: (uuid, layer) => lifted(uuid, (volumes) => volumes.unfreezeUpper(uuid, layer)),
    async dropLayer(id) {
      if (id.startsWith('.')) {
        for (const [, volumes] of [...mounted(), ['', plain] as const]) await volumes.dropLayer(id);
        return;
      }
      const [uuid, volumes] = byLayer(id);
      if (uuid === undefined) return volumes.dropLayer(id);
      const last = !volumes.hasVolume(uuid) && readdirSync(join(imageOf(uuid).root, 'layers')).every((name) => name === id || name.startsWith('.trash-'));
      await (last ? drop(uuid) : volumes.dropLayer(id));
    },
    layerUsage: async (id) => byLayer(id)[1].layerUsage(id),
    layerPath: (id) => byLayer(id)[1].layerPath(id),

    support(uuid): DiskSupport {
      const users = 'this kernel has no quotas for what is in an image';
      const held = uuid !== '' && imageOf(uuid).isMounted() ? inside(uuid).support(uuid) : facts.quotas ? true : users;
      const of = (name: keyof DiskSupport): true | string => (held === true ? true : typeof held === 'string' ? held : held[name]);
      return { 'disk.space': true, 'disk.inodes': of('disk.inodes'), 'disk.users': of('disk.users'), 'soft': of('soft') };
    },
    async limit(uuid, uidBase, number, limits, atRest) {
      const { image, volumes } = of(uuid);
      // At rest it may be unmounted for a moment to be resized: a clone that begins to start just then finds its layers missing, and has to be asked again.
      if (limits.space === null && limits.inodes === null && atRest) {
        free.add(uuid);
        image.lift();
      } else await storingLong(`The disk of ${uuid} could not be held`, async () => {
        free.delete(uuid);
        await image.hold(limits.space?.hard ?? image.held(), atRest);
      });
      // Exactly, with EDQUOT, and soft limits: where the kernel can.
      if (facts.quotas) await volumes.limit(uuid, uidBase, number, limits, atRest);
    },
    unheld: (uuid, work) => lifted(uuid, (volumes) => volumes.unheld(uuid, work)),
    account(uuid) {
      if (!imageOf(uuid).isMounted()) return undefined;
      const { image, volumes } = of(uuid);
      return volumes.account(uuid) ?? { ...image.used(), spaceUntil: null, inodesUntil: null };
    },
    kernelGrace: (uuid, kind) => inside(uuid).kernelGrace(uuid, kind),
    extend: (uuid, until) => inside(uuid).extend(uuid, until),
    users: (uuid, uidBase) => inside(uuid).users(uuid, uidBase),
    limitUser: (uuid, ...rest) => inside(uuid).limitUser(uuid, ...rest),
    extendUser: (uuid, ...rest) => inside(uuid).extendUser(uuid, ...rest),

    orphans(known) {
      const found: Orphans = plain.orphans(known);
      for (const uuid of imagesOf(stateDir)) {
        if (!imageOf(uuid).isMounted()) {
          // One that cannot be mounted just now may hold layers of others.
          if (!known.volumes.has(uuid) && imageOf(uuid).isHalfMade()) found.volumes.push(uuid);
          continue;
        }
        const of = inside(uuid).orphans(known);
        for (const kind of ['layers', 'staged'] as const) found[kind].push(...of[kind]);
        found.interrupted.push(...of.interrupted);
        found.volumes.push(...of.volumes.filter((name) => name !== uuid));
        const needed = readdirSync(join(imageOf(uuid).root, 'layers')).some((name) => known.layers.has(name));
        if (!known.volumes.has(uuid) && (inside(uuid).hasVolume(uuid) || !needed)) found.volumes.push(uuid);
      }
      return found;
    },
  };
}

/** Whether a folder is that of a pool with images, whole or in part. */
export function hasImages(stateDir: string): boolean {
  return lstatSync(join(stateDir, FACTS), { throwIfNoEntry: false }) !== undefined;
}
