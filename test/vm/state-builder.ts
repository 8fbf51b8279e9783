/**
 * `state-builder.ts engine|lxcfs|template:SUITE STATEDIR`: fills a state folder by Veld's own builders. Started by state.ts in a mount namespace in
 * which STATEDIR is where the machine will have it, since an engine knows its own path, and for lxcfs with cgroup2 only, as in the machine.
 */
import { join } from 'node:path';
import { buildEngine } from '../../src/kernel/engine-build.ts';
import { buildLxcfs } from '../../src/kernel/lxcfs-build.ts';
import { debianMirror } from '../../src/kernel/package-sources.ts';
import { defaultSettings } from '../../src/lib/settings.ts';
import type { Task } from '../../src/ops/types.ts';
import { createVolumes } from '../../src/storage/volumes.ts';
import { openStore } from '../../src/store/sqlite.ts';
import { createTemplateBuilder } from '../../src/templates/builder.ts';

const [what = '', stateDir = ''] = process.argv.slice(2);
const settings = { ...defaultSettings(), stateDir };
settings.engine.expiredRelease = 'record';
const source = { stateDir, mirror: debianMirror(''), expiredRelease: 'record' as const };

if (what === 'engine') {
  await buildEngine({ ...source, suites: settings.engine.suites });
} else if (what === 'lxcfs') {
  await buildLxcfs({ ...source, engineSuite: settings.engine.suites.at(-1) as string });
} else {
  // No operation stands around this one: a state folder that is not finished is thrown away.
  const task: Task = { id: 'vm', signal: new AbortController().signal, progress() {}, warn() {}, undo() {}, phase() {}, commit() {} };
  const volumes = createVolumes({ stateDir });
  const staged = await volumes.stageLayer();
  const made = await createTemplateBuilder({ settings }).build({ suite: what.slice('template:'.length), include: [] }, staged, task);
  const layer = await volumes.commitLayer(staged.id, 0);
  const store = openStore(join(stateDir, 'veld.db'));
  store.transaction(() => {
    store.insertLayer(layer);
    store.insertTemplate({ ...made, layers: [{ id: layer.id, uidBase: layer.uidBase }], size: layer.size });
  });
  store.close();
}
