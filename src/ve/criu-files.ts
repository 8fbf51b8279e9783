/** What libexec/veld-dump and libexec/veld-runtime find in a VE's run folder when criu is to dump or to restore it. */
import { copyFileSync, cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { readControl, words } from '../kernel/cgroup.ts';
import { criuCacheFolder, criuConfig, CRIU_CACHE, hasGzip, prepareCriuCache, prepareCriuTools } from '../kernel/criu.ts';
import { engineByFingerprint, type Engine } from '../kernel/engine.ts';
import { helperProgram } from '../kernel/helper-program.ts';
import { lxcfsSource, parseMountTable, type MountLine } from '../kernel/lxcfs-mounts.ts';
import type { ProcessId } from '../kernel/process.ts';
import { outgrown, processorExtensions } from '../kernel/processor.ts';
import { dumpOptions, memoryOptions, restoreOptions } from '../checkpoint/criu-options.ts';
import { externalMounts } from '../checkpoint/external-mounts.ts';
import { fitGroups } from '../checkpoint/groups.ts';
import { mendImages } from '../checkpoint/mend-images.ts';
import type { Manifest, StateFolder } from '../checkpoint/types.ts';
import { WATCHED_IMAGE, watchedImage } from '../checkpoint/watches.ts';
import { VeldError } from '../lib/errors.ts';
import type { Settings } from '../lib/settings.ts';
import { mountsFrom } from '../spec/disk-mounts.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { UpperCopy } from '../storage/types.ts';
import type { VeRecord } from '../store/types.ts';
import { hybridMount } from './boot.ts';
import { monitorOf } from './monitor.ts';
import { COMMAND_INIT } from './inits.ts';
import { checkMounts, hostMounts } from './host-mounts.ts';
import { BEANCOUNTERS_MOUNT, INSIDE, insideFile, makeInsideFile } from './inside-beancounters.ts';
import { QUOTA_INSIDE, quotaFolder } from './quota-tools/inside.ts';
import type { VeContext } from './context.ts';
import type { Watched } from './watched.ts';
import { bootedBaseline, bootedProperties, COMMAND_INIT_SOURCE, emptyFolder, fstabLine, mark, putFile, runFolder, runtimeId, shellVariables } from './run-folder.ts';

/** How a VE is kept that is not taken away: it stands until it has been written. */
export interface Standing {
  /** Where its state goes. */
  state: StateFolder;
  copy: UpperCopy;
  /** The kernel is to note from then on what is changed of its memory. */
  track: boolean;
}

/** Mounts of a running VE. @throws VeldError `ve.not_running` when its init is ending just now */
export function mountsOf(init: ProcessId): MountLine[] {
  try {
    return parseMountTable(readFileSync(`/proc/${init.pid}/mountinfo`, 'utf8'));
  } catch (error) {
    // EINVAL: it has given up its mounts already.
    if (!['EINVAL', 'ENOENT', 'ESRCH'].includes((error as NodeJS.ErrnoException).code ?? '')) throw error;
    throw new VeldError('ve.not_running', 'The VE has just ended.', { cause: error });
  }
}

/** Describe a running VE's state to be. @param consoleKeeper see {@link Manifest} */
export function manifestOf({ settings, engine }: VeContext, ve: VeRecord, init: ProcessId, consoleKeeper?: number): Manifest {
  const { mounts } = JSON.parse(readFileSync(join(runFolder(settings, ve.number), 'config.json'), 'utf8')) as { mounts: { destination: string; source?: string }[] };
  const covered = mounts.filter(({ source }) => source === emptyFolder(settings)).map(({ destination }) => destination);
  const commandInit = mounts.filter(({ destination }) => destination === COMMAND_INIT).map(({ destination }) => destination);
  const beancounters = mounts.filter(({ destination }) => destination === INSIDE).map(({ destination }) => destination);
  const quota = mounts.filter(({ destination }) => destination === QUOTA_INSIDE).map(({ destination }) => destination);
  const bound = mountsFrom(bootedProperties(settings, ve.number)?.['disk.mounts'] ?? []).map(({ inside }) => inside);
  const baseline = bootedBaseline(settings, ve.number);
  return {
    format: 1, ve: ve.uuid, uidBase: ve.uidBase, engine: engine().fingerprint, kernel: release(), architecture: process.arch, processor: [...baseline ?? processorExtensions()], ...baseline && { told: true },
    mounts: externalMounts(mountsOf(init), lxcfsSource(settings.instance), covered, commandInit, beancounters, quota, bound), createdAt: new Date().toISOString(),
    ...consoleKeeper !== undefined && { consoleKeeper },
  };
}

/**
 * Write what a dump of a running VE needs.
 * @param watched where watched files are, which criu is told
 * @param everywhere look for watched files in all of the VE
 * @param parent the state stands on an earlier one
 * @param brief the VE goes on at once: what is written need not be on the disk before its processes end
 * @param early nor need anybody wait for their end
 * @param standing the VE goes on when it has been written: its upper is copied while it stands
 */
export async function writeDumpFiles({ settings, resources }: VeContext, ve: VeRecord, init: ProcessId, state: StateFolder, { engine, mounts }: Manifest, { watched, everywhere, parent, brief, early, standing }: { watched: Watched; everywhere: boolean; parent: boolean; brief: boolean; early: boolean; standing: Standing | undefined }): Promise<void> {
  const folder = runFolder(settings, ve.number);
  const used = engineByFingerprint(settings.stateDir, engine);
  copyFileSync(join(folder, 'config.json'), state.config);
  cpSync(join(settings.runDir, 'crun', runtimeId(settings, ve.number)), state.runtime, { recursive: true });
  writeFileSync(join(state.images, WATCHED_IMAGE), watchedImage(watched.device, watched.paths), { mode: 0o600 });
  const hybrid = hybridMount();
  const monitor = monitorOf(settings, ve.number);
  putFile(folder, 'fstab.dump', [...(hybrid === null ? [] : [fstabLine(hybrid, '/sys/fs/cgroup', 'none', 'bind')]), await cacheLine(used, settings)].join(''));
  putFile(folder, 'dump.conf', criuConfig(dumpOptions({ state, group: resources.groups(ve.number).path, mounts, pid: init.pid, everywhere, parent, standing: standing !== undefined, track: standing?.track ?? false })));
  putFile(folder, 'dump', variables(settings, used, state, { VELD_COPY_FROM: standing?.copy.from ?? '', VELD_COPY_TO: standing?.copy.to ?? '', VELD_WALK: everywhere ? '1' : '', VELD_BRIEF: brief ? '1' : '', VELD_EARLY: early ? '1' : '', VELD_MEMORY: '', VELD_MONITOR: monitor ? `${monitor.pid} ${monitor.startTime}` : '' }));
}

/** Write what a copy of the memory of a running VE needs. @param images an empty folder for it @param parent it stands on an earlier one, which is there already */
export async function writeMemoryFiles({ settings, engine }: VeContext, ve: VeRecord, init: ProcessId, dir: string, images: string, parent: boolean): Promise<void> {
  const folder = runFolder(settings, ve.number);
  const used = engine();
  const hybrid = hybridMount();
  putFile(folder, 'fstab.dump', [...(hybrid === null ? [] : [fstabLine(hybrid, '/sys/fs/cgroup', 'none', 'bind')]), await cacheLine(used, settings)].join(''));
  putFile(folder, 'dump.conf', criuConfig(memoryOptions({ images, pid: init.pid, parent })));
  putFile(folder, 'dump', shellVariables({ VELD_IMAGES: images, VELD_STATE: dir, VELD_CRIU: used.criu, VELD_TOOLS: prepareCriuTools(settings.runDir), VELD_GZIP: '', VELD_BRIEF: '', VELD_EARLY: '', VELD_MONITOR: '', VELD_COPY_FROM: '', VELD_COPY_TO: '', VELD_MEMORY: '1' }));
}

/**
 * Write what a restore needs, into the run folder of a boot: with the file `restore` there that becomes one.
 * @param track id of the snapshot that the state is of, where the kernel is to note from then on what the processes change of their memory; else empty
 */
export async function writeRestoreFiles(context: VeContext, ve: VeRecord, state: StateFolder, manifest: Manifest, track: string): Promise<void> {
  checkProcessor(manifest);
  checkMounts(context, resolveProperties(ve.properties));
  const { settings, resources, lxcfs } = context;
  const { engine, mounts, derived, consoleKeeper } = manifest;
  mendImages(state);
  const folder = runFolder(settings, ve.number);
  const used = engineByFingerprint(settings.stateDir, engine);
  if (derived) adoptRuntime(folder, state);
  const groups = resources.groups(ve.number);
  fitGroups(state, words(readControl(groups.unified, 'cgroup.controllers')));
  const known = join(settings.runDir, 'crun', runtimeId(settings, ve.number));
  rmSync(known, { recursive: true, force: true });
  cpSync(state.runtime, known, { recursive: true });
  rmSync(join(known, 'status')); // is written by libexec/veld-criu-hook, when there is an init
  // As it was booted: commands get the filter and the limits of that boot.
  putFile(folder, 'config.json', readFileSync(state.config, 'utf8'));
  // The VE's root can walk to the run folder, and not to an engine.
  const init = join(folder, COMMAND_INIT_SOURCE);
  const ownInit = mounts.some(({ name }) => name === 'init');
  if (ownInit) putFile(folder, COMMAND_INIT_SOURCE, '');
  if (mounts.some(({ name }) => name === BEANCOUNTERS_MOUNT)) makeInsideFile(folder, ve.number);
  const initLine = ownInit ? fstabLine(used.catatonit, init, 'none', 'bind,ro') : '';
  putFile(folder, 'fstab.restore', readFileSync(join(folder, 'fstab'), 'utf8') + initLine + await cacheLine(used, settings));
  putFile(folder, 'restore.conf', criuConfig(restoreOptions({
    state, group: groups.path, mounts, work: folder, closeTcp: derived?.closeTcp ?? false, sources: { lxcfs: lxcfs(), empty: emptyFolder(settings), init, beancounters: insideFile(folder), quota: quotaFolder(folder), bound: new Map(hostMounts(folder, resolveProperties(ve.properties)).map(({ inside, at }) => [inside, at])) },
  })));
  for (const name of ['given-up', 'restored', 'keeper'] as const) mark(settings, ve.number, name, false);
  mark(settings, ve.number, 'console-lent', consoleKeeper !== undefined);
  putFile(folder, 'restore', variables(settings, used, state, {
    VELD_TRACK: track,
    VELD_GZIP: hasGzip(state.images) ? '1' : '',
    ...derived && derived.moved !== true && { VELD_HOSTNAME: resolveProperties(ve.properties).hostname ?? ve.name },
    ...consoleKeeper !== undefined && { VELD_KEEPER: String(consoleKeeper), VELD_NODE: process.execPath, VELD_CONSOLE_GIVE: helperProgram('veld-console', 'console-give.ts') },
  }));
}

/** What the programs in a state were told that the processor can do; null: nothing. */
export function baselineOfState({ processor, told }: Manifest): string[] | null {
  return told && processor ? processor : null;
}

/** @throws VeldError `checkpoint.unusable` when this processor cannot do what that could under which the programs began, or saves more than they leave room for */
function checkProcessor({ architecture, processor = [], told }: Manifest): void {
  const here = new Set(processorExtensions());
  const missing = processor.filter((name) => !here.has(name));
  const more = told ? [] : outgrown(processor);
  const why = architecture !== process.arch ? `is ${process.arch}, not ${architecture}`
    : missing.length > 0 ? `has not ${missing.join(', ')}, which its programs may use`
      : more.length > 0 ? `has registers (${more.join(', ')}) that its programs leave no room for when they save theirs` : undefined;
  if (why === undefined) return;
  throw new VeldError('checkpoint.unusable', `The state comes from another processor: this one ${why}.`, { hint: 'Bring it back where it was made, or on a host with the like.', details: { missing, outgrown: more } });
}

/** Of another VE's state: crun is to know this one, with its own configuration; and nothing that somebody else has written down for it. (libexec/veld-criu-hook adds the init.) */
function adoptRuntime(folder: string, state: StateFolder): void {
  const config = readFileSync(join(folder, 'config.template'), 'utf8');
  const status = {
    'pid': 0, 'process-start-time': 0, 'cgroup-path': '', 'scope': '', 'rootfs': join(folder, 'rootfs'), 'systemd-cgroup': false, 'bundle': folder,
    'created': new Date().toISOString(), 'owner': 'root', 'detached': true, 'external_descriptors': '[]',
  };
  const put = (file: string, text: string): void => {
    rmSync(file, { force: true }); // it may be the other's as well
    writeFileSync(file, text, { mode: 0o600 });
  };
  put(state.config, config);
  put(join(state.runtime, 'config.json'), config);
  put(join(state.runtime, 'status'), `${JSON.stringify(status, null, 2)}\n`);
}

function variables(settings: Settings, engine: Engine, state: StateFolder, more: Record<string, string> = {}): string {
  return shellVariables({ VELD_IMAGES: state.images, VELD_STATE: state.dir, VELD_CRIU: engine.criu, VELD_TOOLS: prepareCriuTools(settings.runDir), VELD_GZIP: '', VELD_HOSTNAME: '', ...more });
}

async function cacheLine(engine: Engine, settings: Settings): Promise<string> {
  return fstabLine(await prepareCriuCache(engine, criuCacheFolder(settings.runDir)), CRIU_CACHE, 'none', 'bind,ro');
}
