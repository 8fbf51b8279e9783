/** `veld repository list` */
import type { RepositoryView } from '../../../ve/backup/types.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';

export const command = defineCommand<object, { quiet?: boolean }>({
  name: 'repository list',
  group: 'Backups',
  summary: 'List the repositories of backups',
  options: [{ flags: '-q, --quiet', help: 'Names only, one a line' }],
  examples: [['repository list', 'A table']],
  json: 'an array of repositories; with --quiet an array of names',
  async run(context, _args, { quiet }) {
    const all = await (await context.client()).request<RepositoryView[]>('GET', '/v1/repositories');
    if (context.json) context.printJson(quiet ? all.map(({ name }) => name) : all);
    else if (quiet) context.out(all.map(({ name }) => `${name}\n`).join(''));
    else if (all.length === 0) context.out('no repositories; add one: veld repository add NAME LOCATION\n');
    else {
      context.out(layoutTable([{ title: 'NAME' }, { title: 'LOCATION', shrink: true }, { title: 'BACKED UP BY THEMSELVES', shrink: true }, { title: 'PASSWORD', shrink: true }],
        all.map(({ name, location, ves, passwordFile }) => [name, location, ves.join(', ') || '-', passwordFile]), context));
    }
  },
});
