/** `veld template search` */
import type { ImageView } from '../../../ve/images.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatBytes } from '../../show/text.ts';

export const command = defineCommand<{ words?: string[] }, { source?: string; all?: boolean }>({
  name: 'template search',
  group: 'Templates',
  summary: 'List what sources offer',
  description: ['Of each image the newest version, for this machine. `veld template sources` lists where is looked.'],
  args: [{ name: 'words', help: 'Words that must all be in its names or title', variadic: true, required: false }],
  options: [{ flags: '-s, --source <name>', help: 'Only this source' }, { flags: '-a, --all', help: 'Also those for other machines, and older versions' }],
  examples: [['template search ubuntu', 'What there is of Ubuntu'], ['template search --source images debian cloud', 'Of one source']],
  errors: ['source.not_found', 'source.invalid', 'source.unreachable', 'source.untrusted'],
  json: 'an object: `images`, an array, and `failed`, the sources that could not be asked',
  async run(context, { words = [] }, { source, all }) {
    const query = new URLSearchParams({ ...words.length > 0 && { words: words.join(' ') }, ...source !== undefined && { source }, ...all && { all: 'true' } });
    const answer = await (await context.client()).request<{ images: ImageView[]; failed: { source: string; message: string }[] }>('GET', `/v1/images?${query.toString()}`);
    if (context.json) return context.printJson(answer);
    context.out(layoutTable([{ title: 'NAME', shrink: true }, { title: 'SYSTEM', shrink: true }, { title: 'ARCHITECTURE' }, { title: 'VERSION' }, { title: 'SIZE', right: true }, { title: 'SOURCE' }, { title: 'CARED FOR UNTIL' }, { title: 'HERE AS', shrink: true }], answer.images.map((image) => [
      image.name, image.title, image.architecture, image.serial, image.bytes === null ? '-' : formatBytes(image.bytes), image.source, image.endOfLife ?? '-', image.here.join(', ') || '-',
    ]), context));
    for (const { source: name, message } of answer.failed) context.err(`${name} could not be asked: ${message}\n`);
  },
});
