/** `veld template sources` */
import type { Source } from '../../../templates/sources/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'template sources',
  group: 'Templates',
  summary: 'List the servers from which templates come',
  description: [
    'A source is a file with lines KEY=VALUE, NAME.conf in `sourcesDir` of the settings (/etc/veld/sources); it stands in the place of a shipped one of its name, and an empty file takes that away. Its first comment says what it is.',
    'protocol=simplestreams (Ubuntu\'s cloud images, the server of Linux Containers, Incus, LXD) or precreated (OpenVZ); url=, and mirror= for each further address; keyring=FILE with the OpenPGP keys that may sign, or trust=https for a server that signs nothing; ca=FILE for a certificate authority of your own; order=0 to 99, lower ones are asked first.',
  ],
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['template sources', 'A table']],
  json: 'an array of sources; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const sources = await (await context.client()).request<Source[]>('GET', '/v1/sources');
    if (context.json) context.printJson(quiet ? sources.map(({ name }) => name) : sources);
    else if (quiet) context.out(sources.map(({ name }) => `${name}\n`).join(''));
    else {
      context.out(layoutTable([{ title: 'NAME' }, { title: 'PROTOCOL' }, { title: 'TRUST' }, { title: 'ADDRESS', shrink: true }, { title: 'FILE', shrink: true }, { title: 'DESCRIPTION', shrink: true }], sources.map((source) => [
        source.name, source.protocol, source.keyring === null ? source.trust : 'signature', source.urls.join(' '), source.file, source.error ?? source.description,
      ]), context));
    }
  },
});
