/** `veld engine show` */
import { currentEngine, engineManifest, listEngines } from '../../../kernel/engine.ts';
import { loadSettings } from '../../../lib/settings.ts';
import { defineCommand } from '../../command.ts';
import { layoutFacts } from '../../show/table.ts';
import { formatTime } from '../../show/text.ts';

export const command = defineCommand<object>({
  name: 'engine show',
  group: 'This node',
  local: 'it reads the state folder of this host',
  summary: 'Show the programs that run and checkpoint VEs here',
  description: ['Reads the state folder that the settings name, as root, and needs no daemon.'],
  examples: [['engine show', 'Versions, where they come from, and where they lie']],
  errors: ['engine.missing', 'settings.invalid'],
  json: 'the engine with its paths and its manifest, and the fingerprints of all engines here',
  async run(context) {
    const { stateDir } = loadSettings();
    const engine = currentEngine(stateDir);
    const manifest = engineManifest(stateDir, engine.fingerprint);
    const all = listEngines(stateDir);
    if (context.json) return context.printJson({ ...engine, manifest, engines: all });
    const version = (name: string): string | undefined => manifest.packages[name];
    context.out(layoutFacts([
      ['Fingerprint', engine.fingerprint],
      ['Folder', engine.dir],
      ['Built', formatTime(manifest.builtAt)],
      ['Suite', `${manifest.suite}, ${manifest.architecture}${manifest.expired ? ' (its Release file was past its Valid-Until)' : ''}`],
      ['criu', version('criu') ?? manifest.criu],
      ['crun', version('crun')],
      ['conmon', version('conmon')],
      ['Others here', all.length > 1 ? String(all.length - 1) : undefined],
    ], context));
  },
});
