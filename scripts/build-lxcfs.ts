/** Builds lxcfs from the command line: `build-lxcfs.ts [--state-dir DIR] [--expired-release refuse|record] [--suite SUITE]` */
import { parseArgs } from 'node:util';
import { loadSettings } from '../src/lib/settings.ts';
import { toVeldError } from '../src/lib/errors.ts';
import { buildLxcfs } from '../src/kernel/lxcfs-build.ts';
import { debianMirror } from '../src/kernel/package-sources.ts';

const { values } = parseArgs({ options: { 'state-dir': { type: 'string' }, 'expired-release': { type: 'string' }, suite: { type: 'string' } } });
const settings = loadSettings();
try {
  const root = await buildLxcfs({
    stateDir: values['state-dir'] ?? settings.stateDir, mirror: debianMirror(settings.engine.mirror), engineSuite: values.suite ?? settings.engine.suites.at(-1) ?? 'testing',
    expiredRelease: values['expired-release'] === 'record' ? 'record' : settings.engine.expiredRelease,
  });
  console.log(`${root.dir} (lxcfs ${root.manifest.version} from ${root.manifest.suite})`);
} catch (thrown) {
  const error = toVeldError(thrown);
  console.error(`${error.message}\n${error.hint}`);
  process.exitCode = error.exit;
}
