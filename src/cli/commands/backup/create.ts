/** `veld backup create` */
import type { BackedUp } from '../../../ve/backup/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJobs } from '../../operations.ts';
import { reportFailure } from '../../failure.ts';
import { formatBytes } from '../../show/text.ts';
import { segment } from '../../values.ts';

interface Options {
  repository?: string;
  wait: boolean;
}

export const command = defineCommand<{ ve: string[] }, Options>({
  name: 'backup create',
  group: 'Backups',
  summary: 'Back VEs up, running or not',
  description: [
    'What is a VE\'s own on its disk, its properties and the quotas of its users go into a repository, where only what is new is stored. Its template does not: it is known by its fingerprint. A VE that runs stands for some tenths of a second, as for `veld export`.',
    'To have it done by itself, `veld set VE backup.repository=NAME`; when, and what is kept, say backup.schedule and backup.keep.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID', variadic: true }],
  options: [{ flags: '-r, --repository <name>', completes: 'repository', help: 'Default: the VE\'s own, or the only one' }, NO_WAIT],
  examples: [['backup create web', 'Now'], ['backup create web db --repository nas', 'Several']],
  errors: ['ve.not_found', 've.busy', 'repository.not_found', 'repository.unavailable', 'repository.invalid', 'template.not_found', 'pool.unavailable', 'disk.full', 'storage.failed', 'command.failed', 'timeout', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array with an operation for each; its result has id, repository, added (bytes that were new), bytes and stood',
  async run(context, { ve }, { repository, wait }) {
    const jobs = [...new Set(ve)].map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/backup`, body: { ...repository !== undefined && { repository } } }));
    const outcomes = await runJobs(context, jobs, { wait, atOnce: 1 });
    if (context.json) context.printJson(outcomes.flatMap(({ record }) => record ?? []));
    let status = 0;
    for (const { label, record, error } of outcomes) {
      if (error) {
        reportFailure(context, error, label);
        status ||= error.exit;
      } else if (!context.json && !wait) context.out(`${record!.id}\n`);
      else if (!context.json) {
        const { id, repository: where, added, bytes, stood } = record!.result as BackedUp;
        context.out(`${label} backed up to ${where} as ${id.slice(0, 8)}: ${formatBytes(bytes)} of files, ${formatBytes(added)} of it new${stood === null ? '' : `; it stood for ${Math.round(stood)} ms`}\n`);
      }
    }
    return status;
  },
});
