/** Boots a VE: writes its run folder, runs veld-boot, and proves that init lives. */
import { existsSync, mkdirSync, readlinkSync, watch } from 'node:fs';
import { join } from 'node:path';
import { faultPoint } from '../lib/faults.ts';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { findHierarchies } from '../kernel/cgroup.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { waitProcessEnd } from '../kernel/pidfd.ts';
import { isAlive, readProcess, type ProcessId } from '../kernel/process.ts';
import { guestFiles } from '../network/guest-files.ts';
import type { Task } from '../ops/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import { updateVe, type VeContext } from './context.ts';
import { consoleLogFile, lastWords } from './logs.ts';
import { ociConfig } from './oci-config.ts';
import { mark, readRunState, removeRunFolder, runFolder, writeRunFolder } from './run-folder.ts';

/** Domains that a resolver looks into (MAXDNSRCH in resolv.h). */
const SEARCH_MAX = 6;
/** What an init other than systemd is given to die in, in milliseconds. */
const GRACE = 300;

/** Boot a VE that does not run. On failure nothing of it runs and nothing of the attempt is left. */
export async function bootVe(context: VeContext, ve: VeRecord, task: Task): Promise<ProcessId> {
  const { settings, resources, network } = context;
  const properties = resolveProperties(ve.properties);

  task.undo('boot', () => cleanUpRun(context, ve));
  task.progress(10, 'preparing');
  resources.create(ve.number, ve.uidBase, properties);
  faultPoint('boot.groups');
  prepareRun(context, ve);
  mark(settings, ve.number, 'stopping', false);
  mark(settings, ve.number, 'hold', ve.guestDirty);
  faultPoint('boot.folder');

  task.progress(30, 'booting');
  // The firewall's sets do not depend on the link being there: both at once.
  const [boot] = await Promise.all([
    run(join(settings.libexecDir, 'veld-boot'), [runFolder(settings, ve.number)], { allow: [1], timeout: 60_000 }),
    network.admit(ve),
  ]);
  if (boot.code !== 0) throw startFailed(context, ve, boot.stdout);
  const { init } = readRunState(settings, ve.number);
  if (!init) throw await initDied(context, ve);
  if (ve.guestDirty) await writeGuestFiles(context, ve, properties, init);

  task.progress(60, 'waiting for init');
  await provenAlive(context, ve, init, properties, task.signal);
  return init;
}

/** Write all that the next boot of the VE needs; of a running VE this changes nothing before it boots again. */
export function prepareRun(context: VeContext, ve: VeRecord): void {
  const { settings, resources } = context;
  const properties = resolveProperties(ve.properties);
  const groups = resources.groups(ve.number);
  const lxcfs = context.lxcfs();
  const options = {
    ve, properties, rootfs: join(runFolder(settings, ve.number), 'rootfs'), cgroupPath: groups.path, timeNamespace: existsSync('/proc/self/ns/time'),
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
  });
}

/** Write host name, hosts and resolver into the created VE, then let it run. */
async function writeGuestFiles(context: VeContext, ve: VeRecord, properties: Properties, init: ProcessId): Promise<void> {
  await updateGuestFiles(context, ve, properties, init);
  faultPoint('boot.guest-files');
  mark(context.settings, ve.number, 'hold', false);
  await run(join(context.settings.libexecDir, 'veld-runtime-start'), [runFolder(context.settings, ve.number)], { timeout: 10_000 });
  updateVe(context.store, ve.uuid, { guestDirty: false });
}

/** Write the files that carry the VE's network identity, through its own root. @throws VeldError `path.refused` when init has ended */
export async function updateGuestFiles(context: VeContext, ve: VeRecord, properties: Properties, init: ProcessId): Promise<void> {
  const root = await openGuestRoot(init);
  try {
    for (const file of filesOf(context, ve, properties)) {
      if (file.ifFolder !== undefined && !(await root.folderExists(file.ifFolder))) continue;
      await root.writeFile(file.path, file.content, { mode: 0o644, uid: ve.uidBase, gid: ve.uidBase });
    }
  } finally {
    root.close();
  }
}

/** Content of the VE's identity files. */
export function filesOf({ names }: VeContext, ve: VeRecord, properties: Properties): ReturnType<typeof guestFiles> {
  const own = properties['network.dns'] === null ? names.addresses().filter((address) => ve.addresses.some((mine) => mine.includes(':') === address.includes(':'))) : [];
  return guestFiles({
    name: ve.name, hostname: properties.hostname ?? ve.name, addresses: ve.addresses,
    dns: own.length > 0 ? own : properties['network.dns'],
    search: own.length > 0 ? [...properties['network.search'], names.domain].slice(0, SEARCH_MAX) : properties['network.search'],
  });
}

/**
 * Wait until init has shown that it lives: systemd by the groups that it makes, any other init by not ending at once.
 * @throws VeldError `ve.init_died` with its last words, `ve.start_failed` when nothing came within boot.timeout
 */
async function provenAlive(context: VeContext, ve: VeRecord, init: ProcessId, properties: Properties, signal: AbortSignal): Promise<void> {
  const group = context.resources.groups(ve.number).unified;
  const started = performance.now();
  const limit = properties['boot.timeout'] * 1000;
  await new Promise<void>((resolve, reject) => {
    // systemd makes system.slice after it has its inotify instances, its bus and its units: a dead one never does.
    const look = (): void => {
      const elapsed = performance.now() - started;
      const program = programOf(init);
      if (signal.aborted) finish(signal.reason as Error);
      else if (!isAlive(init)) void initDied(context, ve).then(finish, finish);
      else if (/\/systemd$/.test(program) ? existsSync(join(group, 'system.slice')) : program !== '' && elapsed >= GRACE) finish();
      else if (elapsed > limit) finish(new VeldError('ve.start_failed', `The init of ${ve.name} has not set up its groups within ${limit / 1000} s.`));
    };
    const watchers = [watch(group, look), watch(join(context.settings.runDir, 'events'), look)];
    const timer = setInterval(look, 50); // only for what no watch tells: the time that passes
    const finish = (error?: Error): void => {
      for (const watcher of watchers) watcher.close();
      clearInterval(timer);
      if (error) reject(error);
      else resolve();
    };
    look();
  });
}

/** Path of the program that init runs, as init sees it; empty while crun has not yet made way for it. */
function programOf(init: ProcessId): string {
  try {
    const path = readlinkSync(`/proc/${init.pid}/exe`);
    return /crun|memfd:/.test(path) ? '' : path;
  } catch {
    return '';
  }
}

async function initDied(context: VeContext, ve: VeRecord): Promise<VeldError> {
  await settled(context, ve.number); // veld-exit writes its status only after conmon has seen the end
  const { exited } = readRunState(context.settings, ve.number);
  const words = lastWords(context.settings, ve.uuid);
  return new VeldError('ve.init_died', `The init of ${ve.name} died at boot${exited ? ` with status ${exited.code}` : ''}${words ? `: ${words}` : ' without a word'}.`,
    { details: { exit: exited?.code ?? null } });
}

function startFailed(context: VeContext, ve: VeRecord, sync: string): VeldError {
  let reason = sync.trim();
  try {
    reason = (JSON.parse(reason) as { message?: string }).message?.trim().replace(/^\d{4}-\S+Z?: /gm, '') || reason;
  } catch { /* not JSON: shown as it is */ }
  return new VeldError('ve.start_failed', `${ve.name} could not be started: ${reason || lastWords(context.settings, ve.uuid) || 'its monitor ended without a word'}.`);
}

/** Make sure that nothing of a VE runs, then forget its run: groups, firewall entries, link, run folder. Idempotent. */
export async function cleanUpRun(context: VeContext, ve: VeRecord): Promise<void> {
  const { settings, resources, network } = context;
  if (existsSync(runFolder(settings, ve.number))) mark(settings, ve.number, 'stopping', true);
  if (existsSync(resources.groups(ve.number).unified)) await resources.kill(ve.number);
  await settled(context, ve.number);
  // A boot script that was under way may have begun processes meanwhile.
  for (let i = 0; i < 3 && resources.pids(ve.number).length > 0; i++) {
    await resources.kill(ve.number);
    await settled(context, ve.number);
  }
  await Promise.all([network.revoke(ve), resources.remove(ve.number)]);
  removeRunFolder(settings, ve.number);
}

/** How long the scripts and conmon get to do their part, in milliseconds. */
const SETTLE_TIMEOUT = 20_000;

/**
 * Wait until what the run folder says is final: no script of libexec/ works in it (they hold its lock), and where init is dead its
 * conmon has ended too, which is after its exit command (it may be about to run it just now).
 */
export async function settled({ settings }: VeContext, number: number): Promise<void> {
  const folder = runFolder(settings, number);
  if (readRunState(settings, number).init) return;
  for (let i = 0; i < 10 && existsSync(join(folder, 'lock')); i++) {
    await run(join(settings.libexecDir, 'veld-settle'), [folder, String(SETTLE_TIMEOUT / 1000)]);
    if (readRunState(settings, number).init) return;
    const monitor = readProcess(Number(readIfExists(join(folder, 'conmon.pid')) ?? 0));
    // The file is of this boot of the host, but its pid may be another's by now, even another VE's conmon.
    if (monitor?.comm !== 'conmon' || !isAlive(monitor) || !(readIfExists(`/proc/${monitor.pid}/cmdline`) ?? '').includes(`\0${folder}\0`)) return;
    await waitProcessEnd(monitor, AbortSignal.timeout(SETTLE_TIMEOUT));
  }
}

/** Where the cgroup2 hierarchy is on a hybrid host; null on a pure one. */
function hybridMount(): string | null {
  const { mode, unified } = findHierarchies();
  return mode === 'v2' ? null : unified ?? null;
}

