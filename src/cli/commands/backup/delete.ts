/** `veld backup delete` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ backup: string[] }, { repository?: string; wait: boolean }>({
  name: 'backup delete',
  group: 'Backups',
  summary: 'Delete backups, and free what only they had',
  args: [{ name: 'backup', help: 'Id, or at least 4 digits of it', variadic: true }],
  options: [{ flags: '-r, --repository <name>', completes: 'repository', help: 'Default: the only one' }, NO_WAIT],
  examples: [['backup delete 4f1c2a90', 'That one']],
  errors: ['repository.not_found', 'repository.unavailable', 'repository.invalid', 'backup.not_found', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array with an operation for each',
  run(context, { backup }, { repository, wait }) {
    const jobs = backup.map((id) => ({ label: id, method: 'DELETE' as const, path: `/v1/backups/${segment(id)}${repository === undefined ? '' : `?repository=${segment(repository)}`}` }));
    return runForEach(context, jobs, { wait, atOnce: 1 }, (id) => `${id} deleted`);
  },
});
