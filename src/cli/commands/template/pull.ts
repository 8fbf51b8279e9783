/** `veld template pull` */
import type { TemplateRecord } from '../../../store/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

export const command = defineCommand<{ image: string }, { name?: string; arch?: string; init: boolean; wait: boolean }>({
  name: 'template pull',
  group: 'Templates',
  summary: 'Make a template of an image that a source offers',
  description: [
    'The image is downloaded, checked by the signature and the hashes of its source, unpacked in a box, and kept. A download that broke off is gone on with.',
    'docker://HOST/PATH:TAG is an application image of a registry, oci:FOLDER:TAG one in a layout of this node (packages skopeo and umoci): a VE of it runs the command of the image under a small init.',
    'Else it is called DISTRIBUTION:RELEASE[/VARIANT], by number or codename, or SOURCE:NAME; with @VERSION it is not the newest.',
  ],
  args: [{ name: 'image', help: 'What to bring; see `veld template search`' }],
  options: [
    { flags: '-n, --name <name>', help: 'Name of the template; default by the image: ubuntu-24.04, debian-12-cloud' },
    { flags: '--arch <architecture>', help: 'For which machines, as Debian names them; default: this one\'s' },
    { flags: '--no-init', help: 'It may lack /sbin/init and /bin/sh: for VEs that run one command' },
    NO_WAIT,
  ],
  examples: [['template pull ubuntu:24.04', 'Ubuntu 24.04'], ['template pull debian:trixie/cloud --name base', 'Debian 13 with cloud-init, under another name'], ['template pull images:alpine/3.22', 'Of one source'], ['template pull docker://docker.io/library/redis:7', 'An application, from a registry']],
  errors: ['request.invalid', 'image.not_found', 'image.ambiguous', 'image.busy', 'source.not_found', 'source.invalid', 'source.unreachable', 'source.untrusted', 'source.corrupt', 'template.name_taken', 'template.invalid', 'name.invalid', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the template',
  async run(context, { image }, { name, arch, init, wait }) {
    const record = await runJob(context, { label: image, method: 'POST', path: '/v1/templates/pull', body: { image, ...name !== undefined && { name }, ...arch !== undefined && { architecture: arch }, ...!init && { init } } }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `template ${(record.result as Partial<TemplateRecord> | null)?.name ?? image} is here\n` : `${record.id}\n`);
  },
});
