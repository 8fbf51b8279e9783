/** `veld engine build` */
import { buildEngine } from '../../../kernel/engine-build.ts';
import { debianMirror } from '../../../kernel/package-sources.ts';
import { loadSettings } from '../../../lib/settings.ts';
import { defineCommand } from '../../command.ts';
import { sanitise } from '../../show/text.ts';
import { truncate } from '../../show/table.ts';

interface Options {
  suite?: string[];
  expiredRelease?: 'refuse' | 'record';
}

export const command = defineCommand<object, Options>({
  name: 'engine build',
  group: 'This node',
  local: 'it reads the state folder of this host',
  summary: 'Fetch, check and try the programs that run and checkpoint VEs',
  description: ['As root, on this node, without the daemon. The new engine is used for starts from then on; VEs that run go on with theirs.'],
  options: [
    { flags: '--suite <suite>', help: 'Debian suite to take it from, in this order; default: engine.suites of the settings', repeat: true },
    { flags: '--expired-release <what>', help: 'A Release file past its Valid-Until; default: engine.expiredRelease of the settings', choices: ['refuse', 'record'] },
  ],
  examples: [['engine build', 'A new engine, as the settings say']],
  errors: ['engine.failed', 'engine.release_expired', 'settings.invalid', 'disk.full', 'command.failed', 'operation.cancelled'],
  json: 'the engine with its paths and its manifest',
  async run(context, _args, { suite, expiredRelease }) {
    const settings = loadSettings();
    const abort = new AbortController();
    process.once('SIGINT', () => abort.abort());
    try {
      const { engine, manifest } = await buildEngine({
        stateDir: settings.stateDir,
        mirror: debianMirror(settings.engine.mirror),
        suites: suite ?? settings.engine.suites,
        expiredRelease: expiredRelease ?? settings.engine.expiredRelease,
        signal: abort.signal,
        progress: (percent, message) => {
          if (context.errIsTerminal) context.err(`\r${truncate(`${String(Math.round(percent)).padStart(3)} %  ${sanitise(message)}`, (process.stderr.columns || 80) - 1)}\x1b[K`);
        },
      });
      if (context.errIsTerminal) context.err('\r\x1b[K');
      if (context.json) return context.printJson({ ...engine, manifest });
      context.out(`engine ${engine.fingerprint.slice(0, 12)} built: criu ${manifest.criu} of Debian ${manifest.suite}${manifest.expired ? ', its Release file past its Valid-Until' : ''}\n`);
    } catch (error) {
      if (context.errIsTerminal) context.err('\r\x1b[K');
      throw error;
    }
  },
});
