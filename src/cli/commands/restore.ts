/** `veld restore` */
import { resolve } from 'node:path';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import type { VeView } from '../../ve/types.ts';

interface Options {
  file: string;
  as?: string;
  address?: string[];
  tcp?: string;
  identity?: string;
  wait?: boolean;
}

export const command = defineCommand<object, Options>({
  name: 'restore',
  group: 'Checkpoints',
  summary: 'Make a VE from a file that `checkpoint` has written',
  description: [
    'The file is verified first. The VE gets a number, a uid range and a UUID of its own. With its old name and addresses it is the same server to everybody else, and its TCP connections go on when the other side still waits; with --as it gets another host name, machine-id and host keys, and its connections are closed.',
    'A VE that was suspended is brought back by `veld resume`.',
  ],
  options: [
    { flags: '-f, --file <file>', completes: 'file', help: 'The checkpoint', mandatory: true },
    { flags: '--as <name>', help: 'Name of the new VE; default: the one that it had' },
    { flags: '-a, --address <address>', help: 'Give it this address; default: those that it had, or free ones where they are taken', repeat: true },
    { flags: '--tcp <what>', choices: ['established', 'close'], help: 'close: its TCP connections are closed in any case' },
    { flags: '-i, --identity <file>', completes: 'file', help: 'The identity of age for which the file is encrypted' },
    NO_WAIT,
  ],
  examples: [['restore --file web.veld', 'As it was'], ['restore --file web.veld --as web2', 'As another one']],
  errors: ['checkpoint.file', 'checkpoint.unusable', 'name.invalid', 've.name_taken', 'template.not_found', 'address.none_free', 'address.taken', 'uid.none_free', 'restore.failed', 'restore.unhealthy', 'disk.full', 'storage.failed',
    'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation, whose result is the VE',
  async run(context, _args, { file, as, address, tcp, identity, wait }) {
    const body = { file: resolve(file), ...as !== undefined && { name: as }, ...address && { addresses: address }, ...tcp && { tcp }, ...identity !== undefined && { identity: resolve(identity) } };
    const record = await runJob(context, { label: as ?? file, method: 'POST', path: '/v1/restore', body }, { ...wait === false && { wait } });
    if (context.json) context.printJson(record);
    else if (wait === false) context.out(`${record.id}\n`);
    else {
      const { name, number, addresses, status } = record.result as VeView;
      context.out(`${name} restored: number ${number}, ${addresses.join(', ') || 'no address'}, ${status}\n`);
    }
  },
});
