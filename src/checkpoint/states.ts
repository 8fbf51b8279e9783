/** States on disk: `stateDir/states/UUID/`, and those of snapshots: `stateDir/snapshots/ID/`. Only root may walk there: they hold all that was in the VE's memory. */
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { bootId } from '../kernel/process.ts';
import { deriveImages } from './derive.ts';
import { linkImages } from './parent.ts';
import type { Manifest, StateFolder, States } from './types.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;
const SNAPSHOT = /^[0-9a-f]{32}$/;

/** Written by libexec/veld-criu-hook when all of a dump is on the disk. */
const WHOLE = 'whole';
/**
 * When all of it is there, but perhaps in the page cache only: the id of the host's boot (boot_id in proc(5)), up to whose end the state is whole. A file of
 * another name, for after a power cut it may be empty.
 */
const BRIEFLY_WHOLE = 'whole.boot';
const MANIFEST = 'manifest.json';

/** Open the states below a state folder. */
export function createStates({ stateDir }: { stateDir: string }): States {
  const root = join(stateDir, 'states');
  const snapshots = join(stateDir, 'snapshots');
  const at = (dir: string): StateFolder => ({ dir, images: join(dir, 'images'), runtime: join(dir, 'runtime'), config: join(dir, 'config.json') });
  const folder = (uuid: string): StateFolder => {
    if (!UUID.test(uuid)) throw new VeldError('internal', `${JSON.stringify(uuid)} is not the UUID of a VE.`);
    return at(join(root, uuid));
  };
  const snapshot = (id: string): StateFolder => {
    if (!SNAPSHOT.test(id)) throw new VeldError('internal', `${JSON.stringify(id)} is not the id of a snapshot.`);
    return at(join(snapshots, id));
  };
  const isWholeAt = ({ dir }: StateFolder): boolean => existsSync(join(dir, WHOLE)) || readIfExists(join(dir, BRIEFLY_WHOLE))?.trim() === bootId();
  const isWhole = (uuid: string): boolean => isWholeAt(folder(uuid));
  const drop = ({ dir }: StateFolder): Promise<void> => {
    for (const mark of [WHOLE, BRIEFLY_WHOLE]) rmSync(join(dir, mark), { force: true }); // first: what is half gone must not count as whole
    return rm(dir, { recursive: true, force: true }); // gigabytes, perhaps
  };
  const make = (made: StateFolder): StateFolder => {
    rmSync(made.dir, { recursive: true, force: true });
    mkdirSync(dirname(made.dir), { recursive: true, mode: 0o700 });
    // The VE's root reads the images, by descriptors that criu opened; on the way here everybody but the host's root is stopped above.
    for (const path of [made.dir, made.images, made.runtime]) mkdirSync(path, { mode: 0o755 });
    return made;
  };
  const read = ({ dir }: StateFolder): Manifest => {
    const manifest = JSON.parse(readFileSync(join(dir, MANIFEST), 'utf8')) as Manifest;
    if (manifest.format !== 1) throw new VeldError('checkpoint.unusable', `The state in ${dir} was written by a version of Veld that this one cannot read.`);
    return manifest;
  };
  const finish = ({ dir }: StateFolder, manifest: Manifest, flush = true): void => {
    writeFileSync(join(dir, MANIFEST), JSON.stringify(manifest), { mode: 0o600, flush });
    writeFileSync(join(dir, flush ? WHOLE : BRIEFLY_WHOLE), flush ? '' : bootId(), { flush });
  };
  return {
    folder,
    snapshot,
    isWhole,
    isSecure: (uuid) => existsSync(join(folder(uuid).dir, WHOLE)),
    isWholeSnapshot: (id) => isWholeAt(snapshot(id)),
    remove: (uuid) => drop(folder(uuid)),
    removeSnapshot: (id) => drop(snapshot(id)),
    begin(to, manifest) {
      const made = make(to);
      writeFileSync(join(made.dir, MANIFEST), JSON.stringify(manifest), { mode: 0o600, flush: true });
      return made;
    },
    copy(from, to, { flush } = { flush: true }) {
      make(to);
      for (const part of ['images', 'runtime'] as const) linkImages(from[part], to[part]);
      // One that came from elsewhere, and was never brought back, has none yet: it gets one of its own.
      if (existsSync(from.config)) copyFileSync(from.config, to.config);
      finish(to, read(from), flush);
    },
    async secure({ dir, images, runtime }) {
      const files = [images, runtime, dir].flatMap((at) => readdirSync(at, { withFileTypes: true }).filter((entry) => entry.isFile()).map(({ name }) => join(at, name)));
      await run('sync', files);
      writeFileSync(join(dir, WHOLE), '', { flush: true });
      await run('sync', [images, dir, dirname(dir)]);
    },
    read,
    derive(from, { uuid, uidBase }, { closeTcp, moved = false, flush = true, to: place }) {
      const manifest = read(from);
      const to = make(place ?? folder(uuid));
      deriveImages(from, to, { from: manifest.uidBase, to: uidBase }, moved);
      finish(to, { ...manifest, ve: uuid, uidBase, derived: { closeTcp, ...moved && { moved } } }, flush);
    },
    manifest(uuid) {
      const { dir } = folder(uuid);
      if (!isWhole(uuid)) throw new VeldError('checkpoint.unusable', `There is no whole state of ${uuid}.`);
      const manifest = read(folder(uuid));
      if (manifest.ve !== uuid) throw new VeldError('checkpoint.unusable', `The state in ${dir} is not one of this VE.`);
      return manifest;
    },
    size(uuid) {
      const { images } = folder(uuid);
      return existsSync(images) ? readdirSync(images).reduce((sum, name) => sum + statSync(join(images, name)).blocks * 512, 0) : 0;
    },
    listSnapshots: () => (existsSync(snapshots) ? readdirSync(snapshots).filter((name) => SNAPSHOT.test(name)) : []),
    list: () => (existsSync(root) ? readdirSync(root).filter((name) => UUID.test(name)) : []),
  };
}
