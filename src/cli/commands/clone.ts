/** `veld clone` */
import type { VeDetail } from '../../ve/types.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { parsePair, propertiesOf, segment } from '../values.ts';

interface Options {
  live?: boolean;
  snapshot?: string;
  set?: [string, string][];
  wait?: boolean;
}

export const command = defineCommand<{ ve: string; name: string }, Options>({
  name: 'clone',
  group: 'Checkpoints',
  summary: 'Make another VE that begins where this one is',
  description: [
    'The disk is shared, not copied: each writes to a layer of its own from then on. The clone has its own number, uids, addresses, machine-id and host keys, and the properties of its model except addresses, ports and interfaces.',
    'With --live the processes of a running VE are cloned, too: both run afterwards, the model after a pause of about half a second. TCP connections go on with the model, and are closed in the clone.',
  ],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID of the model' }, { name: 'name', help: 'Name of the clone' }],
  options: [
    { flags: '--live', help: 'With the processes of a running VE, or of the snapshot' },
    { flags: '--snapshot <name>', help: 'As the VE was at this snapshot; it is not touched itself' },
    { flags: '--set <name=value>', completes: 'assignment', help: 'Give the clone another property (`veld help properties`)', parse: parsePair, repeat: true },
    NO_WAIT,
  ],
  examples: [['clone --live web web2', 'A second one that runs already'], ['clone db db-test --set memory.limit=1G', 'Of a stopped VE'], ['clone web look --snapshot before-upgrade', 'What was there then']],
  errors: ['ve.not_found', 've.busy', 've.running', 've.not_running', 've.frozen', 've.name_taken', 'snapshot.not_found', 'checkpoint.unusable', 'name.invalid', 'property.unknown', 'property.invalid', 'mount.refused', 'address.none_free', 'address.taken', 'uid.none_free', 'capacity.exceeded',
    'checkpoint.refused', 'checkpoint.failed', 'restore.failed', 'restore.unhealthy', 'disk.full', 'storage.failed', 'engine.missing', 'operation.cancelled', 'operation.interrupted'],
  json: 'the new VE as `veld show` prints it; with --no-wait the operation',
  async run(context, { ve, name }, options) {
    const body = { name, live: Boolean(options.live), ...options.snapshot !== undefined && { snapshot: options.snapshot }, properties: propertiesOf(options.set ?? [], 'clone') };
    const record = await runJob(context, { label: name, method: 'POST', path: `/v1/ves/${segment(ve)}/clone`, body }, options);
    if (options.wait === false) {
      if (context.json) context.printJson(record);
      else context.out(`${record.id}\n`);
      return;
    }
    const made = await (await context.client()).request<VeDetail>('GET', `/v1/ves/${segment(name)}`);
    if (context.json) context.printJson(made);
    else context.out(`${made.name} cloned from ${ve}: number ${made.number}, ${made.addresses.join(', ') || 'no address'}, ${made.status}\n`);
  },
});
