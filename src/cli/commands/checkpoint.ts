/** `veld checkpoint` */
import { resolve } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import type { Obstacle } from '../../checkpoint/types.ts';
import { defineCommand } from '../command.ts';
import type { Context } from '../context.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { sanitise } from '../show/text.ts';
import { segment } from '../values.ts';

interface Options {
  check?: boolean;
  file?: string;
  keepRunning?: boolean;
  tcp?: string;
  compress?: string;
  encrypt?: string;
  withTemplate?: boolean;
  wait?: boolean;
}

export const command = defineCommand<{ ve: string }, Options>({
  name: 'checkpoint',
  group: 'Checkpoints',
  summary: 'Write a VE with its processes into a file, or say what is in the way',
  description: [
    'The file (mode 0600: it holds what was in memory) has the processes, the VE\'s own part of the disk and its properties, and is signed: `veld restore --file` takes it only when nobody has changed it. Without --keep-running the VE is suspended afterwards; with it, it runs on after a pause of about half a second, while the file is written.',
    'With --check nothing is done: all processes are looked at from outside. The exit status is 0 when nothing is in the way, and that of `checkpoint.refused` when something is.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }],
  options: [
    { flags: '-f, --file <file>', completes: 'file', help: 'Write it there; the name must be free' },
    { flags: '--keep-running', help: 'With --file: the VE runs on' },
    { flags: '--tcp <what>', choices: ['established', 'close'], help: 'With --file: whether TCP connections go on when it is restored (default: established)' },
    { flags: '--compress <how>', choices: ['zstd', 'none'], help: 'With --file (default: zstd)' },
    { flags: '--encrypt <for>', help: 'With --file: for a recipient of age (age1..., ssh-ed25519 ...), or for a gpg key that root on the node has, by its id or address' },
    { flags: '--with-template', help: 'With --file: the template goes along, for a node that has not got it' },
    { flags: '--check', help: 'Look only' },
    NO_WAIT,
  ],
  examples: [['checkpoint --check web', 'Can it be done?'], ['checkpoint web --file web.veld --keep-running', 'Into a file, and on'], ['checkpoint web --file web.veld --encrypt age1...', 'For nobody else']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 've.frozen', 've.suspended', 'checkpoint.refused', 'checkpoint.failed', 'checkpoint.file', 'template.not_found', 'disk.full', 'storage.failed', 'engine.missing',
    'operation.cancelled', 'operation.interrupted'],
  json: 'an array with the operation; with --check of obstacles: kind, process, text, remedy',
  async run(context, { ve }, { check, file, keepRunning, tcp, compress, encrypt, withTemplate, wait }) {
    const hint = 'See `veld help checkpoint`.';
    if (check) {
      if ([file, keepRunning, tcp, compress, encrypt, withTemplate].some((option) => option !== undefined)) throw new VeldError('usage', 'checkpoint: --check goes alone.', { hint });
      return look(context, ve);
    }
    if (file === undefined) throw new VeldError('usage', 'checkpoint: --file or --check is missing.', { hint: '`veld suspend` keeps the state with the VE; a file needs --file.' });
    const body = { file: resolve(file), keepRunning: Boolean(keepRunning), ...withTemplate && { withTemplate }, ...tcp && { tcp }, ...compress && { compress }, ...encrypt !== undefined && { encrypt } };
    return runForEach(context, [{ label: ve, method: 'POST', path: `/v1/ves/${segment(ve)}/checkpoint`, body }], { ...wait === false && { wait } }, () => `${ve} written to ${sanitise(file)}`);
  },
});

async function look(context: Context, ve: string): Promise<number> {
  const obstacles = await (await context.client()).request<Obstacle[]>('GET', `/v1/ves/${segment(ve)}/obstacles`);
  if (context.json) context.printJson(obstacles);
  else if (obstacles.length === 0) context.out(`${ve} can be suspended.\n`);
  else for (const { text, remedy } of obstacles) context.out(`${sanitise(text)}\n  ${sanitise(remedy)}\n`);
  return obstacles.length === 0 ? 0 : new VeldError('checkpoint.refused', '').exit;
}
