/** `veld set` */
import { VeldError } from '../../lib/errors.ts';
import { defineCommand } from '../command.ts';
import { NO_WAIT, runJob } from '../operations.ts';
import { parsePair, propertiesOf, segment } from '../values.ts';

interface Options {
  wait: boolean;
  nextStart?: boolean;
  liveOnly?: boolean;
  configOnly?: boolean;
  unset?: string[];
  preset?: string;
}

export const command = defineCommand<{ 've': string; 'name=value': string[] | undefined }, Options>({
  name: 'set',
  group: 'Life of a VE',
  summary: 'Change properties of a VE',
  description: ['All changes of one call are made together or not at all. `veld help properties` lists them, and which of them change while the VE runs.'],
  args: [{ name: 've', completes: 've', help: 'Name, number or UUID' }, { name: 'name=value', completes: 'assignment', help: 'Properties and their new values', variadic: true, required: false }],
  options: [
    { flags: '-u, --unset <name>', completes: 'property', help: 'Give this property its default again', repeat: true },
    { flags: '--preset <preset>', completes: 'preset', help: 'Properties of a preset (`veld preset list`), too; what is given here goes before them' },
    { flags: '--next-start', help: 'Accept properties that cannot change while the VE runs: they take effect at the next start' },
    { flags: '--live-only', help: 'Change limits of the running VE and not what is kept of it: they hold until it, or the daemon, starts anew' },
    { flags: '--config-only', help: 'Change what is kept of the VE and not the running VE: it holds when it, or the daemon, starts anew' },
    NO_WAIT,
  ],
  examples: [
    ['set web memory.limit=1G cpu.weight=200', 'Change two limits at once'],
    ['set web --unset memory.limit', 'Back to the default'],
    ['set web "network.interfaces=eth1,bridge=br1,address=192.0.2.5/24"', 'Connect a second interface to a bridge of the host'],
    ['set web --preset large', 'All limits of a preset'],
    ['set web --next-start features.nesting=on', 'At the next start'],
    ['set web --live-only cpu.limit=50%', 'For now'],
  ],
  errors: ['ve.not_found', 've.busy', 've.not_running', 'property.unknown', 'property.invalid', 'property.not_live', 'property.unsupported', 'mount.refused', 'repository.not_found', 'address.taken', 'port.taken', 'network.no_bridge', 'network.failed', 'preset.not_found', 'preset.invalid', 'capacity.exceeded'],
  json: 'the operation',
  async run(context, { ve, 'name=value': pairs = [] }, { unset = [], nextStart, liveOnly, configOnly, wait, preset }) {
    const changes = propertiesOf<string | null>([...pairs.map(parsePair), ...unset.map((name) => [name, null] as const)], 'set');
    if (Object.keys(changes).length === 0 && preset === undefined) throw new VeldError('usage', 'set: nothing to change.', { hint: 'See `veld help set`.' });
    if (liveOnly && (configOnly || nextStart)) throw new VeldError('usage', `set: --live-only and ${configOnly ? '--config-only' : '--next-start'} contradict each other.`, { hint: 'Without them both are changed: the running VE, and what is kept of it.' });
    const scope = liveOnly ? 'live' : configOnly ? 'config' : undefined;
    const job = { label: ve, method: 'PATCH' as const, path: `/v1/ves/${segment(ve)}/properties`, body: { ...preset !== undefined && { preset }, changes, nextStart, ...scope !== undefined && { scope } } };
    const record = await runJob(context, job, { wait });
    if (context.json) context.printJson(record);
    else context.out(wait ? `${ve} changed: ${[...preset === undefined ? [] : [`preset ${preset}`], ...Object.entries(changes).map(([k, v]) => v === null ? `${k} unset` : `${k}=${v}`)].join(' ')}\n` : `${record.id}\n`);
  },
});
