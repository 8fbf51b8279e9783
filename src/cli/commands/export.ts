/** `veld export` */
import { resolve } from 'node:path';
import type { Exported } from '../../ve/export/types.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { formatBytes, sanitise } from '../show/text.ts';
import { segment } from '../values.ts';

interface Options {
  file: string;
  withTemplate?: boolean;
  compress?: string;
  encrypt?: string;
  wait?: boolean;
}

export const command = defineCommand<{ ve: string }, Options>({
  name: 'export',
  group: 'Backups',
  summary: 'Write what is on the disk of a VE into a file',
  description: [
    'The file (mode 0600) has the VE\'s own part of its disk as one tree, whatever snapshots it stands on, its properties and the quotas of its users, with a checksum over all. `veld import` makes a VE of it on any node that has the template, or of one that was written --with-template.',
    'A VE that runs is not taken away: what changes is written again and again until little is left, and the VE stands while that is read, some tenths of a second. So the disk is that of one instant, as after a power cut. Processes, and snapshots, do not go along: see `veld checkpoint --file`.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }],
  options: [
    { flags: '-f, --file <file>', completes: 'file', help: 'Write it there; the name must be free', mandatory: true },
    { flags: '--with-template', help: 'The template goes along, for a node that has not got it' },
    { flags: '--compress <how>', choices: ['zstd', 'none'], help: 'Default: zstd' },
    { flags: '--encrypt <for>', help: 'For a recipient of age (age1..., ssh-ed25519 ...), or for a gpg key that root on the node has, by its id or address' },
    NO_WAIT,
  ],
  examples: [['export web --file web.export', 'While it runs'], ['export web --file web.export --with-template --encrypt age1...', 'For a node that has nothing of it']],
  errors: ['ve.not_found', 've.busy', 'export.file', 'request.invalid', 'template.not_found', 'pool.unavailable', 'disk.full', 'storage.failed', 'command.failed', 'timeout', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has file, size (of the file), bytes (of the files in it) and stood (milliseconds; null: it did not run)',
  async run(context, { ve }, { file, withTemplate, compress, encrypt, wait }) {
    const body = { file: resolve(file), ...withTemplate && { withTemplate }, ...compress !== undefined && { compress }, ...encrypt !== undefined && { encrypt } };
    const record = await runJob(context, { label: ve, method: 'POST', path: `/v1/ves/${segment(ve)}/export`, body }, { ...wait === false && { wait } });
    if (context.json) return context.printJson(record);
    if (wait === false) return context.out(`${record.id}\n`);
    const { size, bytes, stood } = record.result as Exported & { size: number };
    context.out(`${ve} written to ${sanitise(file)}: ${formatBytes(bytes)} of files in ${formatBytes(size)}${stood === null ? '' : `; it stood for ${Math.round(stood)} ms`}\n`);
  },
});
