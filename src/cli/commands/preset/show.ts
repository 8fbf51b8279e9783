/** `veld preset show` */
import type { PresetView } from '../../../ve/presets.ts';
import { formatProperty } from '../../../spec/properties.ts';
import { defineCommand } from '../../command.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ preset: string }>({
  name: 'preset show',
  group: 'This node',
  summary: 'Show a preset, as a file of one',
  args: [{ name: 'preset', completes: 'preset', help: 'Name of the preset' }],
  examples: [['preset show small', 'What it sets, and where it stands'], ['preset show small >/etc/veld/presets/tiny.conf', 'The beginning of one of your own']],
  errors: ['preset.not_found', 'preset.invalid'],
  json: 'the preset',
  async run(context, { preset: name }) {
    const preset = await (await context.client()).request<PresetView>('GET', `/v1/presets/${segment(name)}`);
    if (context.json) context.printJson(preset);
    else context.out(`# ${preset.description}\n# ${preset.file}\n${preset.ignored.length > 0 ? `# No property here for: ${preset.ignored.join(' ')}\n` : ''}${Object.entries(preset.properties).map(([property, value]) => `${property}=${formatProperty(property, value)}\n`).join('')}`);
  },
});
