/** `veld suspend` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean }>({
  name: 'suspend',
  group: 'Checkpoints',
  summary: 'Move the processes of VEs from memory to disk',
  description: [
    'The VE uses no memory and no CPU any more; `resume` brings it back as it was, in a minute or after the host has booted again. Its TCP connections go on when the other side still waits for them.',
    'Commands and shells that were begun from outside (`veld exec`, `veld enter`) are ended before. What a VE cannot be suspended with is told by `veld checkpoint --check`; a VE that could not be suspended runs on.',
  ],
  args: [{ name: 've', completes: 'running ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [NO_WAIT],
  examples: [['suspend web', 'Until `veld resume web`']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 've.frozen', 've.suspended', 'checkpoint.refused', 'checkpoint.failed', 'disk.full', 'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { ve }, options) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/suspend`, body: {} }));
    return runForEach(context, jobs, options, (label) => `${label} suspended`);
  },
});
