/** `veld pool delete` */
import { defineCommand } from '../../command.ts';
import { NO_WAIT, runForEach } from '../../operations.ts';
import { segment } from '../../values.ts';

export const command = defineCommand<{ pool: string[] }, { wait: boolean }>({
  name: 'pool delete',
  group: 'This node',
  summary: 'Delete pools on which nothing lies',
  description: ['The image of a pool goes with it; of a pool in a folder the folder stays, empty.'],
  args: [{ name: 'pool', completes: 'pool', help: 'Names of pools', variadic: true }],
  options: [NO_WAIT],
  examples: [['pool delete quota', 'Delete one']],
  errors: ['pool.not_found', 'pool.in_use', 'pool.invalid', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { pool }, options) {
    const jobs = pool.map((label) => ({ label, method: 'DELETE' as const, path: `/v1/pools/${segment(label)}` }));
    return runForEach(context, jobs, options, (label) => `pool ${label} deleted`);
  },
});
