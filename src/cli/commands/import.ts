/** `veld import` */
import { resolve } from 'node:path';
import type { VeView } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { parsePair, propertiesOf, segment } from '../values.ts';

interface Options {
  file: string;
  as?: string;
  address?: string[];
  set?: [string, string][];
  identity?: string;
  start?: boolean;
  wait?: boolean;
}

export const command = defineCommand<object, Options>({
  name: 'import',
  group: 'Backups',
  summary: 'Make a VE of a file that `export` has written',
  description: [
    'The checksum is verified first. Who has written the file does not matter: nothing in it is trusted, and nothing of it is written outside the new VE. That gets a number, a uid range and a UUID of its own; with --as it also gets another host name, machine-id and host keys.',
    'Addresses and published ports are those that it had, unless another VE has one of the addresses by now. A pool that is not on this node is left out, and the disk lies on the default one.',
  ],
  options: [
    { flags: '-f, --file <file>', completes: 'file', help: 'The export', mandatory: true },
    { flags: '--as <name>', help: 'Name of the new VE; default: the one that it had' },
    { flags: '-a, --address <address>', help: 'Give it this address', repeat: true },
    { flags: '--set <name=value>', completes: 'assignment', help: 'Give it another property (`veld help properties`)', parse: parsePair, repeat: true },
    { flags: '-i, --identity <file>', completes: 'file', help: 'The identity of age for which the file is encrypted' },
    { flags: '--start', help: 'Start it' },
    NO_WAIT,
  ],
  examples: [['import --file web.export --start', 'As it was'], ['import --file web.export --as web2 --set disk.pool=nvme', 'As another one, elsewhere']],
  errors: ['export.file', 'export.unusable', 'migration.stream', 'name.invalid', 've.name_taken', 'template.not_found', 'property.unknown', 'property.invalid', 'property.unsupported', 'mount.refused', 'address.none_free', 'address.taken', 'port.taken', 'uid.none_free',
    'pool.not_found', 'pool.unavailable', 'capacity.exceeded', 'disk.full', 'storage.failed', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result is the VE',
  async run(context, _args, { file, as, address, set, identity, start, wait }) {
    const body = {
      file: resolve(file), ...as !== undefined && { name: as }, ...address && { addresses: address }, ...set && { properties: propertiesOf(set, 'import') }, ...identity !== undefined && { identity: resolve(identity) },
    };
    const record = await runJob(context, { label: as ?? file, method: 'POST', path: '/v1/import', body }, { ...wait === false && { wait } });
    if (wait === false) return context.json ? context.printJson(record) : context.out(`${record.id}\n`);
    const { uuid, name, number, addresses } = record.result as VeView;
    if (start) await runJob(context, { label: name, method: 'POST', path: `/v1/ves/${segment(uuid)}/start` });
    if (context.json) return context.printJson(record);
    context.out(`${name} imported: number ${number}, ${addresses.join(', ') || 'no address'}, ${start ? 'running' : 'stopped'}\n`);
  },
});
