/** `veld template import` */
import { resolve } from 'node:path';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

export const command = defineCommand<{ file: string; name: string }, { init: boolean; wait: boolean }>({
  name: 'template import',
  group: 'Templates',
  summary: 'Make a template of a root file system archive',
  description: ['A tar archive, plain or compressed by gzip, xz or zstd, on this node. It must hold /sbin/init and /bin/sh, unless it is for application VEs.'],
  args: [{ name: 'file', completes: 'file', help: 'The archive' }, { name: 'name', help: 'Name of the template' }],
  options: [{ flags: '--no-init', help: 'It may lack /sbin/init and /bin/sh: for VEs that run one command' }, NO_WAIT],
  examples: [['template import ./rootfs.tar.xz alpine-3', 'Import an archive'], ['template import --no-init ./app.tar app', 'A tree that holds one program, such as `docker export` writes']],
  errors: ['template.name_taken', 'template.invalid', 'name.invalid', 'path.refused', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the template',
  async run(context, { file, name }, { init, wait }) {
    // The daemon has another working directory.
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/templates/import', body: { file: resolve(file), name, ...(!init && { init }) } }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `template ${name} imported\n` : `${record.id}\n`);
  },
});
