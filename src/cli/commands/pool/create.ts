/** `veld pool create` */
import { resolve } from 'node:path';
import { VeldError } from '../../../lib/errors.ts';
import { parseBytes } from '../../../spec/values.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

interface Options {
  path?: string;
  driver?: 'overlay' | 'btrfs' | 'image';
  imageSize?: number;
  fs?: 'ext4' | 'xfs' | 'btrfs';
  wait: boolean;
}

export const command = defineCommand<{ pool: string }, Options>({
  name: 'pool create',
  group: 'This node',
  summary: 'Make a place for disks of VEs',
  description: [
    'A pool is an empty folder on a file system of its own, or on one that is shared. With --image-size Veld makes a file system in a file, with quotas of both levels if the kernel has them, and mounts it whenever the daemon starts.',
    'With --driver image each VE has a file system in a file of its own, as large as disk.space says: it needs no quotas of the kernel.',
    '`veld pool list` tells what can be limited on each pool. A VE is put on one with `veld create --set disk.pool=NAME`.',
  ],
  args: [{ name: 'pool', help: 'Name of the new pool' }],
  options: [
    { flags: '--path <folder>', completes: 'file', help: 'Empty folder for it; with --image-size the image lies there (default: in the state folder)' },
    { flags: '--driver <driver>', help: 'overlay (plain folders), btrfs (subvolumes) or image (a file with an ext4 for each VE); default: btrfs on btrfs, overlay elsewhere', choices: ['overlay', 'btrfs', 'image'] },
    { flags: '--image-size <size>', help: 'Make a file system of this size in a file, such as 50G; it takes what is written there. With --driver image: how much a VE without disk.space may write (default: 10G)', parse: parseSize },
    { flags: '--fs <type>', help: 'File system of the image: ext4 (default), xfs or btrfs', choices: ['ext4', 'xfs', 'btrfs'] },
    NO_WAIT,
  ],
  examples: [['pool create quota --image-size 50G', 'One with quotas, on a host whose disk has none'], ['pool create fast --path /srv/nvme/veld', 'On another disk'], ['pool create shots --image-size 20G --fs btrfs', 'Subvolumes of btrfs'], ['pool create disks --driver image', 'An image for each VE: disk.space holds on any host']],
  errors: ['name.invalid', 'pool.name_taken', 'pool.invalid', 'pool.unavailable', 'disk.full', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the pool',
  async run(context, { pool: name }, { path, driver, imageSize, fs, wait }) {
    const body = { name, ...path !== undefined && { path: resolve(path) }, driver, imageSize, fileSystem: fs };
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/pools', body }, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `pool ${name} is there\n` : `${record.id}\n`);
  },
});

function parseSize(text: string): number {
  const bytes = parseBytes(text);
  if (bytes === undefined || bytes === 0) throw new VeldError('usage', `'${text}' is not a size such as 50G.`);
  return bytes;
}
