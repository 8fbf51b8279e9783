/** `veld destroy` */
import type { VeView } from '../../ve/types.ts';
import { VeldError } from '../../lib/errors.ts';
import { confirm } from '../confirm.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runForEach } from '../operations.ts';
import { segment } from '../values.ts';

export const command = defineCommand<{ ve: string[] }, { wait: boolean; force?: boolean; yes?: boolean }>({
  name: 'destroy',
  group: 'Life of a VE',
  summary: 'Delete VEs with everything in them',
  description: ['Asks first when standard input is a terminal. A running VE is refused unless --force is given.'],
  args: [{ name: 've', completes: 've', help: 'Names, numbers or UUIDs', variadic: true }],
  options: [
    { flags: '-f, --force', help: 'Also when it runs: kill it first' },
    { flags: '-y, --yes', help: 'Do not ask' },
    NO_WAIT,
  ],
  examples: [['destroy web', 'Delete a stopped VE, after asking'], ['destroy --force --yes web db', 'Delete two, running or not, without asking']],
  errors: ['ve.not_found', 've.busy', 've.running', 've.stop_failed', 'storage.failed', 'operation.cancelled', 'operation.interrupted'],
  json: 'an array of the operations',
  async run(context, { ve }, { force, yes, wait }) {
    if (!yes && process.stdin.isTTY && context.errIsTerminal) {
      const client = await context.client();
      // What the user is asked about is what the daemon will delete: the VE's own name and state, not the number that was typed.
      const views = await Promise.all(ve.map((key) => client.request<VeView>('GET', `/v1/ves/${segment(key)}`)));
      const named = views.map((view) => `${view.name} (${view.number}, ${view.status})`).join(', ');
      if (!await confirm(context, `Delete ${named} with everything in ${views.length === 1 ? 'it' : 'them'}?`)) {
        throw new VeldError('operation.cancelled', 'Not destroyed.');
      }
    }
    const query = force ? '?force=1' : '';
    const jobs = ve.map((label) => ({ label, method: 'DELETE' as const, path: `/v1/ves/${segment(label)}${query}` }));
    return runForEach(context, jobs, { wait }, (label) => `${label} destroyed`);
  },
});
