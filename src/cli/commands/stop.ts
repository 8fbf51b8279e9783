/** `veld stop` */
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { parseDuration, segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean; force?: boolean; timeout?: number }>({
  name: 'stop',
  group: 'Life of a VE',
  summary: 'Stop VEs',
  description: ['Asks init to power off, and kills what is left when the timeout has passed. --force kills at once, as pulling the plug does.'],
  args: [{ name: 've', completes: 'running ve', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [
    { flags: '-f, --force', help: 'Kill all its processes at once' },
    { flags: '--timeout <duration>', help: 'How long it may take before it is forced; default: its property stop.timeout', parse: parseDuration },
    NO_WAIT,
  ],
  examples: [['stop web', 'Power off'], ['stop --timeout 5s web db', 'Two side by side, forced after five seconds']],
  errors: ['ve.not_found', 've.busy', 've.not_running', 've.stop_failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  run(context, { ve }, { force, timeout, wait }) {
    const jobs = ve.map((label) => ({ label, method: 'POST' as const, path: `/v1/ves/${segment(label)}/stop`, body: { force, timeout } }));
    return runForEach(context, jobs, { wait }, (label) => `${label} stopped`);
  },
});
