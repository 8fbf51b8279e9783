/** `veld template publish` */
import type { Publication } from '../../../templates/publishing/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { formatBytes, sanitise } from '../../show/text.ts';
import { parseCount, segment } from '../../values.ts';

export const command = defineCommand<{ template: string }, { as?: string; alias?: string[]; openvz?: boolean; level?: number; wait: boolean }>({
  name: 'template publish',
  group: 'Templates',
  summary: 'Offer a template to other nodes, Incus, LXD and LXC',
  description: [
    'Packs the template as an image, and puts it into the signed lists of this node\'s own server (`images.listen` in the settings; `veld template server` shows how others reach it). Published again with another content it is a new version; the newest versions are kept (`images.keep`).',
    'The template debian-12 is published as debian:12, debian-12-web as debian:12/web, and one with a name of its own, shop, as debian:12/shop; --as says it otherwise. What is published are files of their own: it stays until `veld template unpublish`, also when the template goes.',
  ],
  args: [{ name: 'template', completes: 'template', help: 'Name or fingerprint' }],
  options: [
    { flags: '--as <name>', help: 'DISTRIBUTION:RELEASE[/VARIANT] under which others find it' },
    { flags: '--alias <name>', repeat: true, help: 'A further name, for Incus and LXD; may be given several times, and takes the place of earlier ones' },
    { flags: '--openvz', help: 'Also as a precreated template of OpenVZ, below precreated/' },
    { flags: '--level <0-9>', parse: parseCount, help: 'How hard xz tries; default 6' },
    NO_WAIT,
  ],
  examples: [['template publish debian-12', 'As debian:12'], ['template publish shop --as debian:12/shop --alias shop/stable', 'Under another name']],
  errors: ['template.not_found', 'template.invalid', 'published.name_invalid', 'published.name_taken', 'published.unsigned', 'published.damaged', 'disk.full', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result has product, serial, aliases, bytes, added (false: it was the newest version already) and signedBy',
  async run(context, { template }, { as, alias, openvz, level, wait }) {
    const body = { ...as !== undefined && { as }, ...alias !== undefined && { aliases: alias }, ...openvz && { openvz }, ...level !== undefined && { level } };
    const record = await runJob(context, { label: template, method: 'POST', path: `/v1/templates/${segment(template)}/publish`, body }, { wait });
    if (context.json) return context.printJson(record);
    if (!wait) return context.out(`${record.id}\n`);
    const { product, serial, bytes, added, signedBy, aliases } = record.result as Publication;
    context.out(added ? `template ${template} is published as ${sanitise(product)}, version ${serial}: ${formatBytes(bytes)}, ${signedBy === null ? 'not signed' : `signed by ${signedBy}`}\n`
      : `template ${template} is the newest version of ${sanitise(product)} already (${serial})\n`);
    if (aliases.length > 0) context.out(`other names: ${aliases.map(sanitise).join(', ')}\n`);
  },
});
