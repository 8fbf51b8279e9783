/** What `list` and `show` say of a VE. */
import { clockBegan, type ProcessId } from '../kernel/process.ts';
import type { OperationRecord, VeRecord } from '../store/types.ts';
import { PROPERTIES, resolveProperties } from '../spec/properties.ts';
import type { PropertyRow } from '../spec/types.ts';
import type { VeContext } from './context.ts';
import { bootedProperties, readRunState, type RunState } from './run-folder.ts';
import type { Traffic } from '../network/types.ts';
import type { VeDetail, VeStatus, VeView } from './types.ts';

/** Clock ticks a second of /proc (USER_HZ), the same on all architectures that Linux runs on today. */
const USER_HZ = 100;

/** All VEs, in the order of their numbers. */
export function viewVes(context: VeContext): VeView[] {
  const nameOf = templateNames(context);
  return context.store.listVes().filter((ve) => ve.ready).map((ve) => viewVe(context, ve, nameOf));
}

/** All VEs with everything that takes a look at the kernel. What tells of many VEs at once is looked at once. */
export function detailVes(context: VeContext): VeDetail[] {
  const nameOf = templateNames(context);
  const trafficOf = context.network.trafficOfAll();
  return context.store.listVes().filter((ve) => ve.ready).map((ve) => detailVe(context, ve, nameOf, trafficOf));
}

type TemplateName = (fingerprint: string) => string | null;

function templateNames({ store }: VeContext): TemplateName {
  const names = new Map(store.listTemplates().map(({ fingerprint, name }) => [fingerprint, name]));
  return (fingerprint) => names.get(fingerprint) ?? null;
}

/** A VE in a list: its record, and a look at its init. */
export function viewVe(context: VeContext, ve: VeRecord, nameOf: TemplateName = (key) => context.store.findTemplate(key)?.name ?? null): VeView {
  const run = readRunState(context.settings, ve.number);
  const status = statusOf(context, ve, run, context.operations.isBusy(ve.uuid));
  return {
    uuid: ve.uuid,
    number: ve.number,
    name: ve.name,
    status,
    template: { fingerprint: ve.template, name: nameOf(ve.template) },
    addresses: ve.addresses,
    mac: typeof ve.properties['network.mac'] === 'string' ? ve.properties['network.mac'] : ve.mac,
    uidBase: ve.uidBase,
    pid: run.init?.pid ?? null,
    startedAt: run.init ? startOf(run.init) : null,
    createdAt: ve.createdAt,
    set: ve.properties,
    lastExit: ve.lastExit,
    suspendedAt: ve.suspended?.at ?? null,
    deployed: ve.deployed,
    notStarted: run.init || ve.desired !== 'running' && !ve.suspended ? null : ve.notStarted,
    health: run.init ? (status === 'starting' ? 'unverified' : 'ok') : null,
  };
}

/** A VE with everything that takes a look at the kernel. */
export function detailVe(context: VeContext, ve: VeRecord, nameOf?: TemplateName, trafficOf: (ve: VeRecord) => Traffic | undefined = (one) => context.network.traffic(one)): VeDetail {
  const view = viewVe(context, ve, nameOf);
  const properties = resolveProperties(ve.properties);
  const { links } = context.network.plan(ve);
  return {
    ...view,
    properties,
    pending: view.pid === null ? [] : pending(context, ve, properties),
    grantedTo: view.pid === null ? grantedTo(context, ve) : null,
    usage: view.pid === null ? null : context.resources.usage(ve.number) ?? null,
    traffic: view.pid === null ? null : trafficOf(ve) ?? null,
    link: links.find(({ name }) => name === 'eth0')?.link ?? '',
    links,
  };
}

/** Only a VE that does not run can be one of which it is not known whose it is. */
function grantedTo({ store }: VeContext, { uuid }: VeRecord): string | null {
  const handover = store.listHandovers().find(({ role, ve }) => role === 'source' && ve === uuid);
  return handover ? store.listNodes().find(({ id }) => id === handover.node)?.name ?? handover.node : null;
}

function statusOf(context: VeContext, ve: VeRecord, run: RunState, busy: OperationRecord | undefined): VeStatus {
  if (busy?.kind === 'start' || busy?.kind === 'restart' || busy?.kind === 'create' || busy?.kind === 'resume') return 'starting';
  if ((busy?.kind === 'stop' || busy?.kind === 'suspend') && run.init) return 'stopping';
  // Between two boots, or at its end, until the exit watcher has seen which.
  if (run.between) return ve.desired === 'running' ? 'starting' : 'stopping';
  if (run.init) return context.resources.isFrozen(ve.number) ? 'frozen' : 'running';
  if (ve.suspended) return 'suspended';
  return ve.desired === 'running' ? 'failed' : 'stopped';
}

/** Properties that the running VE does not have yet. */
function pending(context: VeContext, ve: VeRecord, properties: ReturnType<typeof resolveProperties>): string[] {
  const booted = bootedProperties(context.settings, ve.number) as Record<string, unknown> | undefined;
  if (!booted) return [];
  const now = properties as unknown as Record<string, unknown>;
  // A VE that an earlier version booted has the defaults of properties that there were not.
  const then = (row: PropertyRow): unknown => (Object.hasOwn(booted, row.name) ? booted[row.name] : row.default);
  return PROPERTIES.filter((row) => row.change === 'restart' && JSON.stringify(then(row)) !== JSON.stringify(now[row.name])).map((row) => row.name);
}

/** When a VE was booted: before its init began, when that has come back from the disk. Time on the disk does not count. */
function startOf(init: ProcessId): string {
  const clock = clockBegan(init.pid);
  // (The clock of a boot begins with a whole second, before its init.)
  const returned = clock !== undefined && init.startTime / USER_HZ - clock > 1;
  return timeOfTicks(returned ? clock * USER_HZ : init.startTime);
}

/** A start time of /proc (clock ticks since the host booted) as ISO 8601. */
export function timeOfTicks(ticks: number): string {
  const bootTime = Date.now() - Number(process.hrtime.bigint() / 1_000_000n);
  return new Date(bootTime + (ticks / USER_HZ) * 1000).toISOString();
}
