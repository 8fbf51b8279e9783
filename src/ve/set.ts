/** `set` and `rename`: change what a VE is, while it runs where the property allows it. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import { LIMITS, PROGRAM_LIMITS } from '../resources/control.ts';
import { checkName } from '../spec/names.ts';
import { findProperty, parseProperty, resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import { isAlive, type ProcessId } from '../kernel/process.ts';
import { applyPtys } from './beancounters.ts';
import { prepareRun } from './boot.ts';
import { settled } from './clean-up.ts';
import { chooseRepository } from './backup/repositories.ts';
import { reload, updateVe, type VeContext } from './context.ts';
import { checkDisk, holdDisk } from './disk.ts';
import { checkMounts } from './host-mounts.ts';
import { announceInterfaces } from './guest-network.ts';
import { updateGuestFiles } from './identity-files.ts';
import { askRoom, checkRoom } from './room.ts';
import { readRunState } from './run-folder.ts';
import type { SetOptions, SetScope } from './types.ts';

/** Properties that are files in the VE. */
const IN_GUEST_FILES = ['hostname', 'cpu.baseline', 'network.mode', 'network.addresses', 'network.dns', 'network.search', 'network.interfaces'];

/** What can change in a running VE alone. */
const LIVE: readonly string[] = [...LIMITS, ...Object.values(PROGRAM_LIMITS).flat()];

/** For what they promise there must be room (room.ts). */
const PROMISES: readonly string[] = ['memory.limit', 'memory.guarantee'];

/** What is in no file of a run folder, and of no concern to the network. */
const NOT_IN_RUN_FOLDER: readonly string[] = [...LIVE, 'memory.oom_guarantee', 'description', 'disk.space', 'disk.inodes', 'disk.grace', 'disk.users', 'disk.users_grace', 'backup.repository', 'backup.schedule', 'backup.keep'];

/** What the file system of its pool holds. */
const DISK_LIMITS: readonly string[] = ['disk.space', 'disk.inodes'];

export interface ParsedChanges {
  /** Canonical values; undefined unsets. */
  values: Record<string, unknown>;
  scope: SetScope;
}

/**
 * Check changes against the table and the state of the VE, before an operation begins.
 * @param changes by name; null unsets (the default holds again)
 * @throws VeldError `property.*`, `port.taken`, `capacity.exceeded`, `ve.not_running`
 */
export function checkChanges(context: VeContext, ve: VeRecord, changes: Record<string, unknown>, { nextStart = false, scope = 'both' }: SetOptions): ParsedChanges {
  const values: Record<string, unknown> = {};
  const running = readRunState(context.settings, ve.number).init !== undefined;
  if (scope === 'live' && !running) throw new VeldError('ve.not_running', `${ve.name} does not run: there is nothing that could change now.`, { hint: 'Leave --live-only out.' });
  const support = context.resources.support();
  for (const [name, input] of Object.entries(changes)) {
    const row = findProperty(name);
    values[name] = input === null ? undefined : parseProperty(name, input);
    if (row.change === 'create') throw new VeldError('property.not_live', `${name} is fixed when the VE is made.`, { hint: 'Make a new VE.' });
    if (scope === 'live' && !LIVE.includes(name)) {
      throw new VeldError('property.not_live', `${name} cannot change in the running VE alone: only limits can.`, { hint: `These: ${LIVE.join(', ')}.` });
    }
    if (running && row.change === 'restart' && !nextStart && scope !== 'config' && values[name] !== ve.properties[name]) {
      throw new VeldError('property.not_live', `${name} cannot change while ${ve.name} runs.`);
    }
    const held = name === 'cpu.baseline' && process.arch !== 'x64' ? 'it is for x86-64' : support[name];
    if (typeof held === 'string' && values[name] !== undefined && values[name] !== row.default) {
      throw new VeldError('property.unsupported', `${name} cannot be held on this host: ${held}.`);
    }
  }
  const properties = merged(ve.properties, values);
  context.resources.check(resolveProperties(properties), Object.keys(values)); // what this host no longer holds is in the way of nothing else
  checkDisk(context, resolveProperties(properties), Object.keys(values));
  if (PROMISES.some((name) => name in values)) checkRoom(context, { ...ve, properties }, ve.properties);
  checkPorts(context, ve, properties);
  checkRepositoryOf(context, values);
  if ('disk.mounts' in values) checkMounts(context, resolveProperties(properties));
  return { values, scope };
}

function merged(properties: Readonly<Record<string, unknown>>, values: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries({ ...properties, ...values }).filter(([, value]) => value !== undefined));
}

/** @throws VeldError `port.taken` */
/** One that is not there is refused who sets it; a VE that has come from elsewhere may name one. @throws VeldError `repository.not_found` */
export function checkRepositoryOf(context: VeContext, values: Record<string, unknown>): void {
  const name = values['backup.repository'];
  if (typeof name === 'string' && name !== '') chooseRepository(context, name);
}

function checkPorts(context: VeContext, ve: VeRecord, properties: Record<string, unknown>): void {
  if (JSON.stringify(properties['network.publish']) === JSON.stringify(ve.properties['network.publish'])) return;
  context.network.checkPublish({ name: ve.name, properties }, context.store.listVes().filter(({ uuid }) => uuid !== ve.uuid), ve);
}

/** Change properties: all of them or none. */
export async function setProperties(context: VeContext, uuid: string, { values, scope }: ParsedChanges, task: Task): Promise<void> {
  await settled(context, reload(context.store, uuid).number); // it may be rebooting itself just now
  const before = reload(context.store, uuid);
  const properties = merged(before.properties, values);
  if (PROMISES.some((name) => name in values)) askRoom(context, { ...before, properties }, task, before.properties);
  if (scope === 'live') {
    context.resources.apply(before.number, resolveProperties(properties), Object.keys(values));
    context.events.emit('ve.changed', { ve: uuid, data: { name: before.name, properties: Object.keys(values) } });
    return;
  }
  checkPorts(context, before, properties); // again: from here to the record nobody comes between
  const network = Object.keys(values).some((name) => name.startsWith('network.'));
  const others = network ? context.store.listVes().filter((other) => other.uuid !== uuid) : [];
  const addresses = network ? context.network.assign({ ...before, properties }, others, before) : before.addresses;
  await change(context, before, { properties, addresses }, Object.keys(values), task, scope);
  context.events.emit('ve.changed', { ve: uuid, data: { name: before.name, properties: Object.keys(values) } });
}

/** Give a VE another name. Its host name follows at the next start unless it has one of its own. */
export async function renameVe(context: VeContext, uuid: string, name: string, task: Task): Promise<void> {
  await settled(context, reload(context.store, uuid).number);
  const before = reload(context.store, uuid);
  await change(context, before, { name }, ['hostname'], task);
  context.events.emit('ve.renamed', { ve: uuid, data: { name, before: before.name } });
}

/** @throws VeldError `name.invalid`, `ve.name_taken` */
export function checkNewName(context: VeContext, ve: VeRecord, name: string): void {
  checkName(name);
  if (name !== ve.name && context.store.veByName(name)) throw new VeldError('ve.name_taken', `There is already a VE named ${name}.`);
}

/** Write the record, then make the running VE follow; on failure both go back. */
async function change(context: VeContext, before: VeRecord, fields: Partial<VeRecord>, names: string[], task: Task, scope: SetScope = 'both'): Promise<void> {
  const { init } = readRunState(context.settings, before.number);
  // What needs a restart waits for it in the files, too.
  const inFiles = names.filter((name) => IN_GUEST_FILES.includes(name));
  const now = scope === 'both' && inFiles.some((name) => findProperty(name).change === 'live');
  task.undo('record', () => context.store.updateVe(before));
  // Both wait for the disk together.
  const after = context.store.transaction(() => {
    task.phase('change', { before });
    return updateVe(context.store, before.uuid, { ...fields, ...(inFiles.length > 0 && (!init || !now) && { guestDirty: true }) });
  });
  if (!init || scope === 'config') return;
  task.undo('running', () => follow(context, after, before, init, now, names));
  await follow(context, before, after, init, now, names);
}

/** Make a running VE, and its next boot, what its record says. @param names only the limits among these properties; default all */
export async function follow(context: VeContext, before: VeRecord, after: VeRecord, init: ProcessId, inFiles: boolean, names?: readonly string[]): Promise<void> {
  const properties = resolveProperties(after.properties);
  context.resources.apply(after.number, properties, names);
  if (names === undefined || names.some((name) => DISK_LIMITS.includes(name))) await holdDisk(context, after, false);
  if (JSON.stringify(before.properties['ubc.numpty']) !== JSON.stringify(after.properties['ubc.numpty'])) await applyPtys(init, properties);
  // For a limit there is nothing to compare, and nothing to write.
  const limits = names?.every((name) => NOT_IN_RUN_FOLDER.includes(name)) === true;
  if (!limits && linksOf(context, before) !== linksOf(context, after)) {
    if (!isAlive(init)) throw new VeldError('ve.not_running', `${after.name} has just ended.`);
    await context.network.relink(before, after, init.pid);
  }
  await context.network.guard(before, after);
  if (limits) return;
  await prepareRun(context, after);
  if (inFiles) await updateGuestFiles(context, after, properties, init);
  const own = autoLinks(context, after);
  if (own.join() !== autoLinks(context, before).join()) await announceInterfaces(context, after, own);
}

/** Interfaces for which the VE asks by DHCP. */
function autoLinks(context: VeContext, ve: VeRecord): string[] {
  return context.network.plan(ve).links.filter(({ setup }) => setup === 'auto').map(({ name }) => name);
}

/** Everything about the links of a VE, as a text to compare. */
function linksOf(context: VeContext, ve: VeRecord): string {
  const properties = resolveProperties(ve.properties);
  // What a link may send is no part of the plan.
  return JSON.stringify([context.network.plan(ve), properties['network.guard'], properties['network.interfaces']]);
}
