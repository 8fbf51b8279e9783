/** `veld template export` */
import { resolve } from 'node:path';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { formatBytes, sanitise } from '../../show/text.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ template: string }, { file: string; compress?: string; wait: boolean }>({
  name: 'template export',
  group: 'Templates',
  summary: 'Write a template into a file',
  description: ['A tar archive with metadata.yaml and the tree in rootfs/ (mode 0600): `veld template import` makes the very same template of it on any node, `incus image import` and `lxc image import` an image.'],
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }],
  options: [
    { flags: '-f, --file <file>', completes: 'file', help: 'Write it there; the name must be free', mandatory: true },
    { flags: '--compress <how>', choices: ['zstd', 'gzip', 'xz', 'none'], help: 'Default: zstd' },
    NO_WAIT,
  ],
  examples: [['template export debian-12 --file debian-12.tar.zst', 'For another node, or Incus']],
  errors: ['template.not_found', 'export.file', 'disk.full', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has file and bytes',
  async run(context, { template }, { file, compress, wait }) {
    const body = { file: resolve(file), ...compress !== undefined && { compress } };
    const record = await runJob(context, { label: template, method: 'POST', path: `/v1/templates/${segment(template)}/export`, body }, { wait });
    if (context.json) return context.printJson(record);
    context.out(wait ? `template ${template} written to ${sanitise(file)}: ${formatBytes((record.result as { bytes: number }).bytes)}\n` : `${record.id}\n`);
  },
});
