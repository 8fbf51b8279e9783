/** What the tests run as `veld` and `veldd`: the bundles that users run when `./check` has just built them, the sources otherwise. */
import { join } from 'node:path';

const ROOT = join(import.meta.dirname, '../..');

/** Set by `./check` after a build. */
const BUNDLED = process.env.VELD_TEST_BUNDLES === '1';

/** The command's main file, after what bin/veld tells node beside it. */
export const CLI = ['--no-maglev', '--no-concurrent-recompilation', BUNDLED ? join(ROOT, 'dist/veld.cjs') : join(ROOT, 'src/cli/main.ts')];

/** The daemon's. */
export const DAEMON_MAIN = BUNDLED ? join(ROOT, 'dist/veldd.cjs') : join(ROOT, 'src/daemon.ts');
