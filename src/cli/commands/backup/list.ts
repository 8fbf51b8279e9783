/** `veld backup list` */
import type { Backup } from '../../../storage/repository.ts';
import { defineCommand } from '../../command.ts';
import { layoutTable } from '../../show/table.ts';
import { formatClock, sanitise } from '../../show/text.ts';

export const command = defineCommand<{ ve?: string }, { repository?: string; quiet?: boolean }>({
  name: 'backup list',
  group: 'Backups',
  summary: 'List backups, also of VEs that are gone',
  args: [{ name: 've', completes: 've', help: 'Of this VE; default: of all', required: false }],
  options: [{ flags: '-r, --repository <name>', completes: 'repository', help: 'In this one; default: in all' }, { flags: '-q, --quiet', help: 'Ids only, one a line' }],
  examples: [['backup list web', 'A table, oldest first']],
  errors: ['repository.not_found', 'repository.unavailable', 'repository.invalid', 'command.failed'],
  json: 'an array of backups; with --quiet an array of ids',
  async run(context, { ve }, { repository, quiet }) {
    const query = new URLSearchParams({ ...ve !== undefined && { ve }, ...repository !== undefined && { repository } }).toString();
    const all = await (await context.client()).request<(Backup & { repository: string })[]>('GET', `/v1/backups${query && `?${query}`}`);
    if (context.json) context.printJson(quiet ? all.map(({ id }) => id) : all);
    else if (quiet) context.out(all.map(({ id }) => `${id}\n`).join(''));
    else {
      context.out(layoutTable([{ title: 'ID' }, { title: 'MADE' }, { title: 'VE' }, { title: 'REPOSITORY' }, { title: 'NODE', shrink: true }],
        all.map(({ id, at, name, repository: where, host }) => [id.slice(0, 8), formatClock(new Date(at)), sanitise(name), where, sanitise(host)]), context));
    }
  },
});
