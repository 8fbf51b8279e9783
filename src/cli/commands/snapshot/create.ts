/** `veld snapshot create` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ ve: string; name: string }, { live?: boolean; description?: string; wait: boolean }>({
  name: 'snapshot create',
  group: 'Checkpoints',
  summary: 'Keep a VE as it is now',
  description: [
    'The disk is kept without a copy, whatever its size. With --live the processes of a running VE are kept with it, of the same instant: it stands still for about half a second, and commands from outside (`veld exec`, `veld enter`) are ended.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'name', help: 'Name of the snapshot' }],
  options: [{ flags: '--live', help: 'With the processes of a running VE' }, { flags: '-d, --description <text>', help: 'What it is for, one line' }, NO_WAIT],
  examples: [['snapshot create --live web before-upgrade', 'Disk and memory']],
  errors: ['ve.not_found', 've.busy', 've.running', 've.not_running', 've.frozen', 'name.invalid', 'snapshot.name_taken', 'checkpoint.refused', 'checkpoint.failed', 'restore.failed', 'restore.unhealthy', 'disk.full', 'storage.failed',
    'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array with the operation',
  run(context, { ve, name }, options) {
    const body = { name, live: Boolean(options.live), ...options.description !== undefined && { description: options.description } };
    return runForEach(context, [{ label: name, method: 'POST', path: `/v1/ves/${segment(ve)}/snapshots`, body }], options, () => `snapshot ${name} of ${ve} created`);
  },
});
