/** `veld restart` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { parseDuration, segment } from '../values.ts';
import { waitUntilUp } from '../wait-until-up.ts';

export const command = defineCommand<{ ve: string[] }, { wait?: boolean; force?: boolean; timeout?: number }>({
  name: 'restart',
  group: 'Life of a VE',
  summary: 'Stop VEs and start them again',
  description: ['Properties that wait for the next start take effect.'],
  args: [{ name: 've', completes: 'running ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [
    { flags: '-f, --force', help: 'Kill all its processes instead of asking init to power off' },
    { flags: '--timeout <duration>', help: 'How long stopping may take before it is forced; default: its property stop.timeout', parse: parseDuration },
    { flags: '-w, --wait', help: 'Wait until the system inside is up again' },
    NO_WAIT,
  ],
  examples: [['restart --wait web', 'Restart, and return when it is up']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 've.stop_failed', 've.start_failed', 've.init_died', 'exec.not_found', 'exec.not_executable', 'request.invalid', 'engine.missing', 'network.no_bridge', 'network.failed', 'storage.failed',
    'property.unsupported', 'mount.refused', 'operation.cancelled', 'operation.interrupted', 'timeout'],
  json: 'an array of the operations',
  run(context, { ve }, { force, timeout, wait }) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/restart`, body: { force, timeout } }));
    return runForEach(context, jobs, { wait }, (label) => `${label} restarted`, wait ? (label) => waitUntilUp(context, label) : undefined);
  },
});
