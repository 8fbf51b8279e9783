/** `veld resume` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean }>({
  name: 'resume',
  group: 'Checkpoints',
  summary: 'Bring suspended VEs back as they were',
  description: [
    'Their processes go on in the middle of what they were doing. Limits, addresses and ports are those of the VE\'s properties now, also when these were changed meanwhile. A VE that cannot be brought back stays suspended.',
  ],
  args: [{ name: 've', completes: 'suspended ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [NO_WAIT],
  examples: [['resume web', 'Bring one back']],
  errors: ['ve.not_found', 've.busy', 've.not_suspended', 'checkpoint.unusable', 'mount.refused', 'restore.failed', 'restore.unhealthy', 'engine.missing', 'network.no_bridge', 'network.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { ve }, options) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/resume`, body: {} }));
    return runForEach(context, jobs, options, (label) => `${label} resumed`);
  },
});
