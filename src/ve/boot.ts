/** Boots a VE: writes its run folder, runs veld-boot, and proves that init lives. */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { faultPoint } from '../lib/faults.ts';
import { VeldError } from '../lib/errors.ts';
import { LAST_WORDS } from '../lib/last-words.ts';
import { run } from '../lib/run.ts';
import { findHierarchies } from '../kernel/cgroup.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import { baselineFor, writeBaselineFiles } from './baseline-files.ts';
import { cleanUpRun } from './clean-up.ts';
import { commandUser } from './command-user.ts';
import { updateVe, type VeContext } from './context.ts';
import { holdDisk } from './disk.ts';
import { updateGuestFiles } from './identity-files.ts';
import { checkMounts, hostMounts, mountHook, wordsOf } from './host-mounts.ts';
import { insideFile } from './inside-beancounters.ts';
import { quotaFolder } from './quota-tools/inside.ts';
import { consoleLogFile, lastWords } from './logs.ts';
import { ociConfig } from './oci-config.ts';
import { initDied, provenAlive } from './proven-alive.ts';
import { askRoom } from './room.ts';
import { bootedBaseline, bootedProperties, COMMAND_INIT_SOURCE, emptyFolder, linkConfig, mark, readRunState, runFolder, writeRunFolder } from './run-folder.ts';

/**
 * Boot a VE that does not run. On failure nothing of it runs and nothing of the attempt is left.
 * @returns its init; undefined when the command of an application VE has done its work already
 * @throws VeldError `capacity.exceeded`, `ve.start_failed`, ...
 */
export async function bootVe(context: VeContext, ve: VeRecord, task: Task): Promise<ProcessId | undefined> {
  const { settings, resources, network } = context;
  const properties = resolveProperties(ve.properties);
  const attempt = { ve, properties, since: new Date() };

  askRoom(context, ve, task);
  checkMounts(context, properties);
  network.ready(ve);
  task.undo('boot', () => cleanUpRun(context, ve));
  task.progress(10, 'preparing');
  resources.create(ve.number, ve.uidBase, properties);
  faultPoint('boot.groups');
  await holdDisk(context, ve, true);
  const baseline = baselineFor(context, ve, properties);
  // Of one that had a baseline until now the record says that its files are to be written anew.
  const hold = ve.guestDirty || baseline !== null;
  await prepareRun(context, ve, baseline);
  linkConfig(settings, ve.number);
  mark(settings, ve.number, 'stopping', false);
  mark(settings, ve.number, 'hold', hold);
  faultPoint('boot.folder');

  task.progress(30, 'booting');
  // The firewall's sets do not depend on the link being there: both at once.
  const [boot] = await Promise.all([
    run(join(settings.libexecDir, 'veld-boot'), [runFolder(settings, ve.number)], { allow: [1], timeout: 60_000 }),
    network.admit(ve),
  ]);
  if (boot.code !== 0) throw startFailed(context, ve, boot.stdout);
  const { init } = readRunState(settings, ve.number);
  if (!init) {
    const failure = await initDied(context, attempt);
    if (failure) throw failure;
    return undefined;
  }
  if (hold) await context.volumes.unheld(ve.uuid, () => writeGuestFiles(context, ve, properties, init, baseline)); // its disk may be full

  task.progress(60, 'waiting for init');
  await provenAlive(context, attempt, init, task.signal);
  return init;
}

/**
 * Write all that the next boot of the VE needs; of a running VE this changes nothing before it boots again.
 * @param baseline what its programs are told of the processor; absent: what they were told when it was booted, and what its files say
 */
export async function prepareRun(context: VeContext, ve: VeRecord, baseline?: readonly string[] | null): Promise<void> {
  const { settings, resources } = context;
  const properties = resolveProperties(ve.properties);
  if (baseline === undefined) {
    baseline = bootedBaseline(settings, ve.number);
    properties['cpu.baseline'] = bootedProperties(settings, ve.number)?.['cpu.baseline'] ?? 'host';
  }
  const groups = resources.groups(ve.number);
  const lxcfs = context.lxcfs();
  const timeNamespace = existsSync('/proc/self/ns/time');
  const bound = hostMounts(runFolder(settings, ve.number), properties);
  const options = {
    ve, properties, rootfs: join(runFolder(settings, ve.number), 'rootfs'), empty: emptyFolder(settings), cgroupPath: groups.path, timeNamespace,
    commandInit: join(runFolder(settings, ve.number), COMMAND_INIT_SOURCE), user: await commandUser(context, ve, properties), baseline,
    beancounters: properties['features.beancounters'] ? insideFile(runFolder(settings, ve.number)) : null,
    quota: quotaFolder(runFolder(settings, ve.number)),
    hook: mountHook(settings, runFolder(settings, ve.number), bound),
  };
  mkdirSync(join(settings.stateDir, 'logs'), { recursive: true, mode: 0o700 });
  writeRunFolder(settings, {
    ve,
    config: ociConfig({ ...options, lxcfs }),
    plainConfig: ociConfig({ ...options, lxcfs: null }),
    lxcfs,
    network: context.network.plan(ve),
    mounts: context.volumes.mountPlan(ve.uuid, ve.uidBase, ve.layers),
    groups,
    monitors: resources.monitorGroups(),
    engine: context.engine(),
    hybridMount: hybridMount(),
    consoleLog: consoleLogFile(settings, ve.uuid),
    command: properties['boot.command'] !== null,
    beancounters: properties['features.beancounters'],
    hostMounts: bound,
    timeNamespace,
  });
}

/** Write host name, hosts and resolver into the created VE, then let it run. */
async function writeGuestFiles(context: VeContext, ve: VeRecord, properties: Properties, init: ProcessId, baseline: readonly string[] | null): Promise<void> {
  if (ve.guestDirty) await updateGuestFiles(context, ve, properties, init);
  await writeBaselineFiles(context, ve, baseline, init);
  faultPoint('boot.guest-files');
  mark(context.settings, ve.number, 'hold', false);
  await run(join(context.settings.libexecDir, 'veld-runtime-start'), [runFolder(context.settings, ve.number)], { timeout: 10_000 });
  if (ve.guestDirty) updateVe(context.store, ve.uuid, { guestDirty: false });
}

function startFailed(context: VeContext, ve: VeRecord, sync: string): VeldError {
  let reason = sync.trim();
  try {
    reason = (JSON.parse(reason) as { message?: string }).message?.trim().replace(/^\d{4}-\S+Z?: /gm, '') || reason;
  } catch { /* not JSON: shown as it is */ }
  const mounts = wordsOf(runFolder(context.settings, ve.number));
  if (mounts !== '') return new VeldError('ve.start_failed', `${ve.name} could not be started: ${mounts}.`, { hint: 'See what it has there, or set disk.mounts otherwise.' });
  const words = lastWords(context.settings, ve.uuid);
  return new VeldError('ve.start_failed', `${ve.name} could not be started${reason || !words ? `: ${reason || 'its monitor ended without a word'}.` : `; ${LAST_WORDS} ${words}`}`);
}

/** Where the cgroup2 hierarchy is on a hybrid host; null on a pure one. */
export function hybridMount(): string | null {
  const { mode, unified } = findHierarchies();
  return mode === 'v2' ? null : unified ?? null;
}

