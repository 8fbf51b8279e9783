/** `veld freeze` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean }>({
  name: 'freeze',
  group: 'Life of a VE',
  summary: 'Halt all processes of VEs until they are thawed',
  description: ['The processes stay in memory and keep their connections; they get no CPU time.'],
  args: [{ name: 've', completes: 'running ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [NO_WAIT],
  examples: [['freeze web', 'Halt a VE']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 've.frozen', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { ve }, options) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/freeze`, body: {} }));
    return runForEach(context, jobs, options, (label) => `${label} frozen`);
  },
});
