/** `veld snapshot restore` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ ve: string; name: string }, { wait: boolean }>({
  name: 'snapshot restore',
  group: 'Checkpoints',
  summary: 'Make a VE what it was at a snapshot',
  description: ['What the VE is now is lost: its processes are killed, and what it wrote since goes. The snapshot stays. Its properties stay as they are now. One that was made with --live runs afterwards; another one is stopped.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'name', help: 'Name of the snapshot' }],
  options: [NO_WAIT],
  examples: [['snapshot restore web before-upgrade', 'Back to it']],
  errors: ['ve.not_found', 've.busy', 'snapshot.not_found', 'checkpoint.unusable', 'restore.failed', 'restore.unhealthy', 'storage.failed', 'engine.missing', 'network.no_bridge', 'network.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array with the operation',
  run(context, { ve, name }, options) {
    return runForEach(context, [{ label: name, method: 'POST', path: `/v1/ves/${segment(ve)}/snapshots/${segment(name)}/restore`, body: {} }], options, () => `${ve} restored to ${name}`);
  },
});
