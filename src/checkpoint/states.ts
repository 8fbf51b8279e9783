/** States on disk: `stateDir/states/UUID/`. Only root may walk there: they hold all that was in the VE's memory. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import type { Manifest, StateFolder, States } from './types.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** Written by libexec/veld-criu-hook when all of a dump is on the disk. */
const WHOLE = 'whole';
const MANIFEST = 'manifest.json';

/** Open the states below a state folder. */
export function createStates({ stateDir }: { stateDir: string }): States {
  const root = join(stateDir, 'states');
  const folder = (uuid: string): StateFolder => {
    if (!UUID.test(uuid)) throw new VeldError('internal', `${JSON.stringify(uuid)} is not the UUID of a VE.`);
    const dir = join(root, uuid);
    return { dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') };
  };
  const isWhole = (uuid: string): boolean => existsSync(join(folder(uuid).dir, WHOLE));
  const remove = (uuid: string): Promise<void> => {
    const { dir } = folder(uuid);
    rmSync(join(dir, WHOLE), { force: true }); // first: what is half gone must not count as whole
    return rm(dir, { recursive: true, force: true }); // gigabytes, perhaps
  };
  return {
    folder,
    isWhole,
    remove,
    begin(uuid, manifest) {
      rmSync(folder(uuid).dir, { recursive: true, force: true });
      const made = folder(uuid);
      mkdirSync(root, { recursive: true, mode: 0o700 });
      // The VE's root reads the images, by descriptors that criu opened; on the way here everybody but the host's root is stopped above.
      for (const path of [made.dir, made.images, made.runtime]) mkdirSync(path, { mode: 0o755 });
      writeFileSync(join(made.dir, MANIFEST), JSON.stringify(manifest), { mode: 0o600, flush: true });
      return made;
    },
    manifest(uuid) {
      const { dir } = folder(uuid);
      if (!isWhole(uuid)) throw new VeldError('checkpoint.unusable', `There is no whole state of ${uuid}.`);
      const manifest = JSON.parse(readFileSync(join(dir, MANIFEST), 'utf8')) as Manifest;
      if (manifest.format !== 1 || manifest.ve !== uuid) throw new VeldError('checkpoint.unusable', `The state in ${dir} is not one of this VE that this version can read.`);
      return manifest;
    },
    size(uuid) {
      const { images } = folder(uuid);
      return existsSync(images) ? readdirSync(images).reduce((sum, name) => sum + statSync(join(images, name)).blocks * 512, 0) : 0;
    },
    list: () => (existsSync(root) ? readdirSync(root).filter((name) => UUID.test(name)) : []),
  };
}
