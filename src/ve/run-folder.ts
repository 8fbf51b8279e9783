/**
 * A VE's run folder (`<runDir>/ves/<number>/`): what the scripts in libexec/ need to boot the VE without the daemon, and what they
 * leave for the daemon to read. It belongs to one boot of the host.
 *
 * Written here: `env` (shell variables), `config.template` and `config.plain` (with and without lxcfs), `fstab` and `fstab.root` (the VE's mounts, see fstab(5)), `links.batch`, `host.batch`,
 * `guest.batch`, `guest6.batch`, `guest.sysctls` (see NetworkPlan), `hold` (create, but let the daemon start), `stopping` (a reboot is not wanted).
 * Left by the scripts: `init` (`PID STARTTIME`), `tracked` (of a VE that goes on after a live snapshot: `ID SECONDS`, or `ID` of one that stood for it, see {@link takeTrackedSince}), `unheld` (see {@link unheldIn}), `old-init` (of one that goes on at once: what was its init, which may be dying still), `exited` (`CODE EPOCHSECONDS`), `config.json` (of this boot).
 */
import { chmodSync, closeSync, existsSync, linkSync, mkdirSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';
import { unheldLimits } from '../checkpoint/groups.ts';
import type { Engine } from '../kernel/engine.ts';
import { ownerLibrary } from '../kernel/namespace-owner.ts';
import { isAlive, type ProcessId } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import type { NetworkPlan } from '../network/types.ts';
import type { MountPlan } from '../storage/types.ts';
import type { VeGroups } from '../resources/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import { makeInsideFile } from './inside-beancounters.ts';
import { makeQuotaFolder, quotaFolder } from './quota-tools/inside.ts';
import { makeWords, mountOptions, type HostMount } from './host-mounts.ts';
import { BASELINE_ANNOTATION, PROPERTIES_ANNOTATION } from './oci-config.ts';

export interface BootPlan {
  ve: VeRecord;
  config: object;
  /** The same without lxcfs, for a reboot while that is dead. */
  plainConfig: object;
  /** Folder of lxcfs' mount, or null. */
  lxcfs: string | null;
  network: NetworkPlan;
  mounts: MountPlan;
  groups: VeGroups;
  monitors: VeGroups;
  engine: Engine;
  /** Mount point of the cgroup2 hierarchy on a hybrid host, else null. */
  hybridMount: string | null;
  consoleLog: string;
  /** Whether the VE runs one command, under Veld's own init. */
  command: boolean;
  /** Whether the VE reads its own beancounters. */
  beancounters: boolean;
  /** Folders of the host. */
  hostMounts: readonly HostMount[];
  /** Whether the VE counts time since its own boot. */
  timeNamespace: boolean;
}

/** A string of fsconfig(2) with its end has this many bytes at most; mount(2) takes a page of options. */
const FSCONFIG_STRING = 256;

/** File in the run folder over which the scripts mount the init of application VEs. */
export const COMMAND_INIT_SOURCE = 'command-init';

/** File in the run folder with the lines for ip(8) that lead packets for the VE to where they wait, while it is away for a moment. */
export const HOLD = 'hold.batch';

/** What the scripts have left. */
export interface RunState {
  /** Init, when it lives. */
  init: ProcessId | undefined;
  /** How init ended, when it did and was not booted again. */
  exited: { code: number; at: Date } | undefined;
  /** Neither: a boot is under way (the VE reboots itself, most likely), or whoever should have left the note was killed. See `settled`. */
  between: boolean;
}

/** Name of the VE for crun and conmon. */
export function runtimeId(settings: Settings, number: number): string {
  return `${settings.instance}-${number}`;
}

export function runFolder(settings: Settings, number: number): string {
  return join(settings.runDir, 'ves', String(number));
}

/** Numbers of the VEs that have a run folder. */
export function listRunFolders(settings: Settings): number[] {
  try {
    return readdirSync(join(settings.runDir, 'ves')).map(Number).filter(Number.isInteger);
  } catch {
    return [];
  }
}

/** The folder that VEs see where they are to see nothing. */
export function emptyFolder(settings: Settings): string {
  return join(settings.runDir, 'empty');
}

/** The VE's root must be able to walk to its root file system (crun looks up the path with the VE's uid), and no further. */
const WALK_ONLY = 0o711;

/** Make the folders that all VEs share. */
export function makeSharedRunFolders(settings: Settings): void {
  for (const folder of [settings.runDir, join(settings.runDir, 'ves')]) {
    mkdirSync(folder, { recursive: true });
    chmodSync(folder, WALK_ONLY); // whatever the umask, or whoever made it
  }
  mkdirSync(emptyFolder(settings), { recursive: true, mode: 0o555 });
  for (const name of ['crun', 'exits', 'events']) mkdirSync(join(settings.runDir, name), { recursive: true, mode: 0o700 });
}

/** Write everything that a boot needs; an earlier boot's traces stay until veld-boot removes them. */
export function writeRunFolder(settings: Settings, plan: BootPlan): string {
  const folder = runFolder(settings, plan.ve.number);
  mkdirSync(folder, { recursive: true, mode: WALK_ONLY });
  for (const name of ['rootfs', 'volume', ...plan.mounts.lowers.map((_, i) => `lower${i}`), ...plan.hostMounts.flatMap(({ at, bound }) => [at, bound].map((path) => relative(folder, path)))]) mkdirSync(join(folder, name), { recursive: true, mode: 0o711 });
  const put = (name: string, text: string): void => putFile(folder, name, text);
  put('env', shellVariables({
    VELD_ID: runtimeId(settings, plan.ve.number),
    VELD_NUMBER: String(plan.ve.number),
    VELD_UUID: plan.ve.uuid,
    VELD_RUN: settings.runDir,
    VELD_LIBEXEC: settings.libexecDir,
    VELD_CRUN_ROOT: join(settings.runDir, 'crun'),
    VELD_CRUN: plan.engine.crun,
    VELD_CONMON: plan.engine.conmon,
    VELD_MOUNT: plan.engine.mount,
    VELD_TINI: plan.engine.tini,
    VELD_ACCOUNT: plan.mounts.account.join(' '),
    VELD_FOLDERS: plan.hostMounts.flatMap(({ host, bound }) => [host, bound]).join(' '),
    // Only for VEs that run a command: its init, from the engine.
    VELD_INIT: plan.command ? plan.engine.catatonit : '',
    VELD_GROUPS: directories(plan.groups),
    VELD_MONITOR_GROUPS: directories(plan.monitors),
    VELD_UNIFIED_GROUP: plan.groups.unified,
    VELD_GROUP_PATH: plan.groups.path,
    VELD_LINKS: plan.network.links.map(({ link }) => link).join(' '),
    VELD_CONSOLE_LOG: plan.consoleLog,
    VELD_LXCFS: plan.lxcfs ?? '',
    VELD_UID_BASE: String(plan.ve.uidBase),
    VELD_OWNER_LIBRARY: ownerLibrary() ?? '',
    // The time namespace is made before crun, with the user namespace.
    VELD_TIME: plan.timeNamespace ? '1' : '',
    VELD_STOP_TIMEOUT: String(resolveProperties(plan.ve.properties)['stop.timeout']),
  }));
  put('config.template', JSON.stringify(plan.config));
  put('config.plain', JSON.stringify(plan.plainConfig));
  // Made here, or any user of the host could hold the lock that the scripts make; never by rename: another inode would be another lock.
  for (const name of ['lock', 'saving', 'dumping', 'opening']) closeSync(openSync(join(folder, name), 'a', 0o600));
  const { binds, root, long } = mountTable(folder, runtimeId(settings, plan.ve.number), plan);
  put('fstab', long ? binds : binds + root);
  if (plan.mounts.account.length > 0) put('fstab.again', root);
  if (long) put('fstab.root', root);
  else rmSync(join(folder, 'fstab.root'), { force: true });
  if (plan.hostMounts.length > 0) makeWords(folder, plan.ve.uidBase);
  if (plan.command) put(COMMAND_INIT_SOURCE, '');
  if (plan.beancounters) makeInsideFile(folder, plan.ve.number);
  makeQuotaFolder(folder);
  put('links.batch', plan.network.linkBatch);
  put('host.batch', plan.network.hostBatch);
  put('guest.batch', plan.network.guestBatch);
  put('guest6.batch', plan.network.guestBatch6);
  put('guest.sysctls', plan.network.guestSysctls);
  return folder;
}

/** Write a file of a run folder, whole or not at all: a script may read it just now. */
export function putFile(folder: string, name: string, text: string): void {
  writeFileSync(join(folder, `${name}.new`), text, { mode: 0o600 });
  renameSync(join(folder, `${name}.new`), join(folder, name));
}

/** A line of an fstab (fstab(5)). */
export function fstabLine(...fields: [source: string, target: string, type: string, options: string]): string {
  const escaped = (field: string): string => field.replaceAll(/[ \t\n\\]/g, (c) => `\\${c.charCodeAt(0).toString(8).padStart(3, '0')}`);
  return `${fields.map(escaped).join(' ')} 0 0\n`;
}

/**
 * The mounts of a VE, in their order, for mount(8) in the mount namespace that is made for them: one run of it, or another one for a root of so many
 * layers that the new mount API does not take their names.
 * nodev: a template may hold device nodes, and the host's root makes these mounts; the VE cannot take the option back. index=off: an upper that becomes
 * a layer is still that of the VE's old root, of which nothing is left but that it has not been put away yet (see `pause` in suspend.ts).
 * No redirects and no files without their content: what is in an upper must mean the same on another node.
 */
function mountTable(folder: string, id: string, { ve, mounts, hostMounts, hybridMount, command, engine }: BootPlan): { binds: string; root: string; long: boolean } {
  const lines: [source: string, target: string, type: string, options: string][] = [];
  // crun takes a hybrid host for a unified one when it sees the cgroup2 hierarchy here.
  if (hybridMount !== null) lines.push([hybridMount, '/sys/fs/cgroup', 'none', 'bind']);
  const stack = mounts.lowers.map(({ source, map }, i) => {
    if (map === null) return source;
    const target = join(folder, `lower${i}`);
    lines.push([source, target, 'none', `bind,ro,X-mount.idmap=${map}`]);
    return target;
  });
  const volume = mounts.map === null ? mounts.volume : join(folder, 'volume');
  if (mounts.map !== null) lines.push([mounts.volume, volume, 'none', `bind,X-mount.idmap=${mounts.map}`]);
  // crun takes it from here. Where /run is mounted no program may be run, on most hosts.
  lines.push([quotaFolder(folder), quotaFolder(folder), 'none', 'bind,ro,nosuid,nodev,exec']);
  // crun binds it from here, where the VE's root can reach it.
  if (command) lines.push([engine.catatonit, join(folder, COMMAND_INIT_SOURCE), 'none', 'bind,ro']);
  for (const mount of hostMounts) lines.push([mount.bound, mount.at, 'none', mountOptions(mount, ve.uidBase)]);
  const lowers = stack.toReversed().join(':');
  // On layers of several file systems a file has one number, and the overlay's device, only so; criu finds by it what is watched.
  const numbers = mounts.lowers.every(({ source }) => statSync(source).dev === statSync(mounts.volume).dev) ? '' : 'xino=on,';
  const root = fstabLine(`veld-${id}`, join(folder, 'rootfs'), 'overlay', `nodev,${numbers}index=off,redirect_dir=off,metacopy=off,lowerdir=${lowers},upperdir=${join(volume, mounts.upper)},workdir=${join(volume, mounts.work)}`);
  return { binds: lines.map((fields) => fstabLine(...fields)).join(''), root, long: lowers.length >= FSCONFIG_STRING };
}

/** Let veld-boot find that config.json is made already: a link, so that a later change of the template does not reach it. */
export function linkConfig(settings: Settings, number: number): void {
  const folder = runFolder(settings, number);
  rmSync(join(folder, 'config.json'), { force: true });
  linkSync(join(folder, 'config.template'), join(folder, 'config.json'));
}

/** Each directory once: co-mounted controllers share one. */
function directories(groups: VeGroups): string {
  return [...new Set([groups.unified, ...Object.values(groups.v1)])].join(' ');
}

/** Lines NAME='VALUE'. Values are Veld's own paths and numbers; a quote in one would be an error in a caller. */
export function shellVariables(variables: Record<string, string>): string {
  return Object.entries(variables).map(([name, value]) => {
    if (/['\n\0]/.test(value)) throw new Error(`${name} cannot be written for the scripts: ${JSON.stringify(value)}`);
    return `${name}='${value}'\n`;
  }).join('');
}

/** Whether the VE has had, or may have, the other end of its console in its hands: what it does with it concerns everybody who has it open. */
export function isConsoleLent(settings: Settings, number: number): boolean {
  return existsSync(join(runFolder(settings, number), 'console-lent'));
}

/**
 * Since when the kernel notes what the processes of a running VE change of their memory. That is of one dump: it is forgotten when it has been told.
 * @returns the snapshot whose memory they had then, and hundredths of a second since the host's boot; without these of a VE that was not taken away
 */
export function takeTrackedSince(settings: Settings, number: number): { snapshot: string; since?: number } | undefined {
  const file = join(runFolder(settings, number), 'tracked');
  const [, snapshot, since] = /^([0-9a-f]{32})(?: (\d+\.\d\d))?$/.exec((readIfExists(file) ?? '').trim()) ?? [];
  rmSync(file, { force: true });
  return snapshot === undefined ? undefined : { snapshot, ...since !== undefined && { since: Math.round(Number(since) * 100) } };
}

/** Which limits of a running VE's own groups, with which it has come back, this host cannot hold, in words; undefined when there are none. */
export function unheldIn(settings: Settings, number: number): string | undefined {
  return unheldLimits(readIfExists(join(runFolder(settings, number), 'unheld')) ?? '');
}

/** Set or clear a marker file. `given-up` and `keeper`, of an attempt to bring the VE back, are set by the scripts. */
export function mark(settings: Settings, number: number, name: 'hold' | 'stopping' | 'console-lent' | 'given-up' | 'restored' | 'keeper' | 'gate' | 'at-gate' | 'go', on: boolean): void {
  const file = join(runFolder(settings, number), name);
  if (on) writeFileSync(file, '', { mode: 0o600 });
  else rmSync(file, { force: true });
}

/** Read what the scripts left. Cheap: two small files and one of /proc. */
export function readRunState(settings: Settings, number: number): RunState {
  const folder = runFolder(settings, number);
  const [pid, startTime] = (readIfExists(join(folder, 'init')) ?? '').trim().split(' ');
  const id = pid && startTime ? { pid: Number(pid), startTime: Number(startTime) } : undefined;
  if (id && isAlive(id)) return { init: id, exited: undefined, between: false };
  const [code, at] = (readIfExists(join(folder, 'exited')) ?? '').trim().split(' ');
  const exited = code ? { code: Number(code), at: new Date(Number(at) * 1000) } : undefined;
  return { init: undefined, exited, between: !exited && existsSync(join(folder, 'env')) };
}

/** What was read of a configuration, until there is another: it is long, and asked for with every look at a VE. */
const booted = new Map<string, Booted & { stamp: string }>();

/** How a VE was booted. */
interface Booted {
  properties: Properties | undefined;
  baseline: readonly string[] | null;
}

/** The properties with which the VE was last booted, or undefined. */
export function bootedProperties(settings: Settings, number: number): Properties | undefined {
  return lastBoot(settings, number)?.properties;
}

/** What the programs of its last boot were told that the processor can do; null: nothing, so they may use all of it. */
export function bootedBaseline(settings: Settings, number: number): readonly string[] | null {
  return lastBoot(settings, number)?.baseline ?? null;
}

function lastBoot(settings: Settings, number: number): Booted | undefined {
  const file = join(runFolder(settings, number), 'config.json');
  const stat = statSync(file, { bigint: true, throwIfNoEntry: false });
  if (stat === undefined) return undefined;
  const stamp = `${stat.ino} ${stat.mtimeNs} ${stat.size}`;
  const known = booted.get(file);
  if (known?.stamp === stamp) return known;
  const { annotations } = JSON.parse(readFileSync(file, 'utf8')) as { annotations?: Record<string, string> };
  const properties = JSON.parse(annotations?.[PROPERTIES_ANNOTATION] ?? 'null') as Properties ?? undefined;
  const baseline = JSON.parse(annotations?.[BASELINE_ANNOTATION] ?? 'null') as string[] | null;
  booted.set(file, { stamp, properties, baseline });
  return { properties, baseline };
}

/** Forget the VE's run folder. Only when init is gone. */
export function removeRunFolder(settings: Settings, number: number): void {
  booted.delete(join(runFolder(settings, number), 'config.json'));
  const id = runtimeId(settings, number);
  rmSync(runFolder(settings, number), { recursive: true, force: true, maxRetries: 5, retryDelay: 10 });
  for (const path of [`exits/${id}`, `events/${number}`, `crun/${id}`]) rmSync(join(settings.runDir, path), { recursive: true, force: true });
}
