/** Builds an engine from the command line: `build-engine.ts [--state-dir DIR] [--expired-release refuse|record] [--suite SUITE]...` */
import { parseArgs } from 'node:util';
import { loadSettings } from '../src/lib/settings.ts';
import { toVeldError } from '../src/lib/errors.ts';
import { buildEngine } from '../src/kernel/engine-build.ts';
import { debianMirror } from '../src/kernel/package-sources.ts';

const { values } = parseArgs({
  options: { 'state-dir': { type: 'string' }, 'expired-release': { type: 'string' }, suite: { type: 'string', multiple: true } },
});
const settings = loadSettings();
try {
  const { engine, manifest } = await buildEngine({
    stateDir: values['state-dir'] ?? settings.stateDir,
    mirror: debianMirror(settings.engine.mirror),
    suites: values.suite ?? settings.engine.suites,
    expiredRelease: values['expired-release'] === 'record' ? 'record' : settings.engine.expiredRelease,
    progress: (percent, message) => console.error(`${String(percent).padStart(3)} % ${message}`),
  });
  console.log(`${engine.dir} (criu ${manifest.criu} from ${manifest.suite}${manifest.expired ? ', its Release file past its Valid-Until' : ''})`);
} catch (thrown) {
  const error = toVeldError(thrown);
  console.error(`${error.message}\n${error.hint}`);
  process.exitCode = error.exit;
}
