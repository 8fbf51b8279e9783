/** `veld preset list` */
import type { PresetView } from '../../../ve/presets.ts';
import { formatProperty } from '../../../spec/properties.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'preset list',
  group: 'This node',
  summary: 'List all presets',
  description: ['A preset is a file with properties, `NAME=VALUE` lines as `veld show --properties` prints them, its first comment says what it is for. Those of the administrator lie in `presetsDir` of the settings (/etc/veld/presets), NAME.conf each (or ve-NAME.conf-sample of OpenVZ), and stand in the place of shipped ones of the same name.'],
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['preset list', 'A table']],
  json: 'an array of presets; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const presets = await (await context.client()).request<PresetView[]>('GET', '/v1/presets');
    if (context.json) context.printJson(quiet ? presets.map(({ name }) => name) : presets);
    else if (quiet) context.out(presets.map(({ name }) => `${name}\n`).join(''));
    else {
      context.out(layoutTable([{ title: 'NAME' }, { title: 'FROM' }, { title: 'PROPERTIES', shrink: true }, { title: 'DESCRIPTION', shrink: true }], presets.map((preset) => [
        preset.name, preset.shipped ? 'Veld' : 'here', preset.error ?? Object.entries(preset.properties).map(([name, value]) => `${name}=${formatProperty(name, value)}`).join(' '), preset.description,
      ]), context));
    }
  },
});
