/** `veld backup restore` */
import type { VeView } from '../../../ve/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';
import { parsePair, propertiesOf, segment } from '../../values.ts';

interface Options {
  repository?: string;
  as?: string;
  address?: string[];
  set?: [string, string][];
  start?: boolean;
  wait: boolean;
}

export const command = defineCommand<{ backup: string }, Options>({
  name: 'backup restore',
  group: 'Backups',
  summary: 'Make a VE of a backup',
  description: ['It becomes a new VE, as by `veld import`: with its old name and addresses where they are free, or with --as as another server. The template must be on this node. One that is still there is not touched: destroy or rename it first, to have its name.'],
  args: [{ name: 'backup', help: 'Id, or at least 4 digits of it' }],
  options: [
    { flags: '-r, --repository <name>', completes: 'repository', help: 'Default: the only one' },
    { flags: '--as <name>', help: 'Name of the new VE; default: the one that it had' },
    { flags: '-a, --address <address>', help: 'Give it this address', repeat: true },
    { flags: '--set <name=value>', completes: 'assignment', help: 'Give it another property (`veld help properties`)', parse: parsePair, repeat: true },
    { flags: '--start', help: 'Start it' },
    NO_WAIT,
  ],
  examples: [['backup restore 4f1c2a90 --start', 'As it was'], ['backup restore 4f1c2a90 --as look', 'Beside the one that is there']],
  errors: ['repository.not_found', 'repository.unavailable', 'repository.invalid', 'backup.not_found', 'export.unusable', 'migration.stream', 'name.invalid', 've.name_taken', 'template.not_found', 'property.unknown', 'property.invalid',
    'property.unsupported', 'mount.refused', 'address.none_free', 'address.taken', 'port.taken', 'uid.none_free', 'pool.not_found', 'pool.unavailable', 'capacity.exceeded', 'disk.full', 'storage.failed', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result is the VE',
  async run(context, { backup }, { repository, as, address, set, start, wait }) {
    const body = { ...as !== undefined && { name: as }, ...address && { addresses: address }, ...set && { properties: propertiesOf(set, 'backup restore') } };
    const record = await runJob(context, { label: as ?? backup, method: 'POST', path: `/v1/backups/${segment(backup)}/restore${repository === undefined ? '' : `?repository=${segment(repository)}`}`, body }, { wait });
    if (!wait) return context.json ? context.printJson(record) : context.out(`${record.id}\n`);
    const { uuid, name, number, addresses } = record.result as VeView;
    if (start) await runJob(context, { label: name, method: 'POST', path: `/v1/ves/${segment(uuid)}/start` });
    if (context.json) return context.printJson(record);
    context.out(`${name} restored: number ${number}, ${addresses.join(', ') || 'no address'}, ${start ? 'running' : 'stopped'}\n`);
  },
});
