/** `veld repository add` */
import { resolve } from 'node:path';
import type { RepositoryView } from '../../../ve/backup/types.ts';
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runJob } from '../../operations.ts';

interface Options {
  passwordFile?: string;
  identity?: string;
  wait: boolean;
}

export const command = defineCommand<{ name: string; location: string }, Options>({
  name: 'repository add',
  group: 'Backups',
  summary: 'Make a place for backups, or take one that is there',
  description: [
    'A repository is a folder, best on another disk, or one on another machine over ssh (sftp; nothing of Veld need be there). What is in it is encrypted, and what several backups have in common is stored once: it is a repository of restic, whose own commands work on it, too.',
    'The password is made up, and lies on this node. Keep a copy of it elsewhere: without it nobody can read the backups. With it another node can add the same repository (--password-file).',
    'ssh must be able to log in without a question: by a key of root, or by --identity. The other machine\'s host key is noted at the first time, and must be the same from then on.',
  ],
  args: [{ name: 'name', help: 'Name of the repository' }, { name: 'location', help: 'Absolute path, or sftp://USER@HOST[:PORT]/PATH', completes: 'file' }],
  options: [
    { flags: '--password-file <file>', completes: 'file', help: 'Password of a repository that is there already' },
    { flags: '-i, --identity <file>', completes: 'file', help: 'Key of ssh' },
    NO_WAIT,
  ],
  examples: [['repository add disk2 /mnt/backup/veld', 'On another disk'], ['repository add nas sftp://backup@nas.example/srv/veld --identity /etc/veld/backup.key', 'On another machine']],
  errors: ['name.invalid', 'repository.name_taken', 'repository.invalid', 'repository.unavailable', 'disk.full', 'command.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'the operation; its result is the repository, and `made`: whether it is new',
  async run(context, { name, location }, { passwordFile, identity, wait }) {
    const body = { name, location: location.startsWith('sftp:') ? location : resolve(location), ...passwordFile !== undefined && { passwordFile: resolve(passwordFile) }, ...identity !== undefined && { identity: resolve(identity) } };
    const record = await runJob(context, { label: name, method: 'POST', path: '/v1/repositories', body }, { wait });
    if (context.json) return context.printJson(record);
    if (!wait) return context.out(`${record.id}\n`);
    const { made, passwordFile: file } = record.result as RepositoryView & { made: boolean };
    context.out(made ? `repository ${name} is made; keep a copy of ${file} elsewhere: without this password nobody can read the backups\n` : `repository ${name} is added, with what is in it\n`);
  },
});
