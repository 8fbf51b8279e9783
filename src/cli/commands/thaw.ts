/** `veld thaw` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean }>({
  name: 'thaw',
  group: 'Life of a VE',
  summary: 'Let frozen VEs go on',
  args: [{ name: 've', completes: 'frozen ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [NO_WAIT],
  examples: [['thaw web', 'Let a frozen VE go on']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { ve }, options) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/thaw`, body: {} }));
    return runForEach(context, jobs, options, (label) => `${label} thawed`);
  },
});
