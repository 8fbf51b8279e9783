/** `veld start` */
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { parseDuration, segment } from '../values.ts';
import { waitUntilUp } from '../wait-until-up.ts';

export const command = defineCommand<{ ve: string[] }, { wait?: boolean; timeout?: number; discardState?: boolean }>({
  name: 'start',
  group: 'Life of a VE',
  summary: 'Start VEs',
  description: ['Returns when init runs. With --wait it returns when systemd inside says `running` or `degraded`; a degraded VE is named on standard error.'],
  args: [{ name: 've', completes: 'stopped ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [
    { flags: '-w, --wait', help: 'Wait until the system inside is up' },
    { flags: '--timeout <duration>', help: 'Longest wait of --wait; default 90s', parse: parseDuration },
    { flags: '--discard-state', help: 'Boot a suspended VE anew; what it was doing is lost' },
    NO_WAIT,
  ],
  examples: [['start web', 'Start one VE'], ['start --wait web db', 'Start two side by side and wait until both are up']],
  errors: ['ve.not_found', 've.busy', 've.running', 've.suspended', 've.frozen', 've.start_failed', 've.init_died', 'exec.not_found', 'exec.not_executable', 'request.invalid', 'engine.missing', 'network.no_bridge', 'network.failed', 'storage.failed',
    'property.unsupported', 'mount.refused', 'capacity.exceeded', 'operation.cancelled', 'operation.interrupted', 'timeout'],
  json: 'an array of the operations',
  async run(context, { ve }, options) {
    if (options.timeout !== undefined && !options.wait) throw new VeldError('usage', 'start: --timeout goes with --wait.', { hint: 'See `veld help start`.' });
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/start`, body: options.discardState ? { discardState: true } : {} }));
    return runForEach(context, jobs, options, (label) => `${label} started`,
      options.wait ? (label) => waitUntilUp(context, label, options.timeout) : undefined);
  },
});
