/** `veld backup verify` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { formatBytes } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ backup: string }, { repository?: string; wait: boolean }>({
  name: 'backup verify',
  group: 'Backups',
  summary: 'Read all of a backup, as a restore would',
  args: [{ name: 'backup', help: 'Id, or at least 4 digits of it' }],
  options: [{ flags: '-r, --repository <name>', completes: 'repository', help: 'Default: the only one' }, NO_WAIT],
  examples: [['backup verify 4f1c2a90', 'Could it be restored?']],
  errors: ['repository.not_found', 'repository.unavailable', 'repository.invalid', 'backup.not_found', 'export.unusable', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has id and bytes',
  async run(context, { backup }, { repository, wait }) {
    const record = await runJob(context, { label: backup, method: 'POST', path: `/v1/backups/${segment(backup)}/verify${repository === undefined ? '' : `?repository=${segment(repository)}`}` }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `${backup} is whole: ${formatBytes((record.result as { bytes: number }).bytes)} read\n` : `${record.id}\n`);
  },
});
