/** What the service floor knows of a VE: its views and the manager of its life. */
import type { Duplex } from 'node:stream';
import type { OperationRecord, PoolRecord, SnapshotRecord, TemplateRecord } from '../store/types.ts';
import type { DiskAccount, DiskLimits, DiskSupport, DiskUser } from '../storage/types.ts';
import type { Difference } from '../storage/differences.ts';
import type { Room } from '../storage/pools.ts';
import type { Beancounters } from '../spec/beancounters/table.ts';
import type { Personal } from '../spec/personal.ts';
import type { Properties } from '../spec/types.ts';
import type { Obstacle } from '../checkpoint/types.ts';
import type { Usage } from '../resources/types.ts';
import type { ClassTraffic, ConnectionUse, LinkPlan, Traffic } from '../network/types.ts';
import type { BackupManager } from './backup/manager.ts';
import type { ImageManager } from './images.ts';
import type { TemplateVersionManager } from './template-version-manager.ts';
import type { PublishingManager } from './published.ts';
import type { RecipeManager } from './recipes/manager.ts';
import type { ExportRequest, VeImportRequest } from './export/types.ts';
import type { BuildRequest, ImportRequest } from '../templates/types.ts';

/** `failed`: it should run, and does not. */
export type VeStatus = 'stopped' | 'starting' | 'running' | 'frozen' | 'stopping' | 'suspended' | 'failed';

export interface VeView {
  uuid: string;
  number: number;
  name: string;
  status: VeStatus;
  template: { fingerprint: string; name: string | null };
  addresses: string[];
  mac: string;
  uidBase: number;
  /** Host pid of init, or null. */
  pid: number | null;
  /** ISO 8601: since when it runs, as its own clock counts (not while it is suspended), or null when it does not. */
  startedAt: string | null;
  createdAt: string;
  /** Only those set by hand; `properties` in the full view has all. */
  set: Record<string, unknown>;
  lastExit: { code: number; at: string; reason: string } | null;
  /** ISO 8601: since when its processes are on the disk; else null. */
  suspendedAt: string | null;
  /** How it first came to run: from a warm image of its template, or by a boot; null while it never has, and for clones. */
  deployed: 'warm' | 'cold' | null;
  /** Why the daemon did not start it when it should have, as at a boot of the host; null while it runs, and when nobody wants it to. */
  notStarted: { at: string; reason: string } | null;
  /** `init`: an init that announced itself has; null when not running. */
  health: 'ok' | 'unverified' | null;
}

/** With everything that takes a look at the kernel. */
export interface VeDetail extends VeView {
  properties: Properties;
  /** Properties that wait for the next start. */
  pending: string[];
  /** Name of the node to which it was granted, and which has not said yet whether it has it; else null. */
  grantedTo: string | null;
  usage: Usage | null;
  traffic: Traffic | null;
  /** Host side of eth0; empty without one. */
  link: string;
  links: LinkPlan[];
}

/** What all VEs use at a moment: counters, of which a reader makes rates by two samples. */
export interface UsageSample {
  /** ISO 8601. */
  time: string;
  host: {
    cpus: number;
    memoryBytes: number;
    /** As MemAvailable of /proc/meminfo. */
    availableBytes: number;
    /** Load averages of 1, 5 and 15 minutes. */
    load: number[];
  };
  ves: VeUsage[];
}

export interface VeUsage extends Pick<VeView, 'uuid' | 'number' | 'name' | 'status' | 'pid' | 'startedAt'> {
  limits: { cpuPercent: number | null; memoryBytes: number | null; tasks: number | null };
  /** When the counters were read: seconds since the host booted. */
  clock: number;
  /** Null when it does not run. */
  usage: Usage | null;
  traffic: Traffic | null;
}

/** What VEs have received and sent since they were made. */
export interface TrafficReport {
  /** `inside` first, `outside` last. */
  classes: { name: string; networks: string[] }[];
  ves: (Pick<VeView, 'uuid' | 'number' | 'name'> & { classes: ClassTraffic })[];
}

/** A process of a VE. */
export interface VeProcess {
  /** As the host sees it. */
  pid: number;
  /** As the VE sees it. */
  insidePid: number;
  /** Inside. */
  uid: number;
  /** By the VE's own /etc/passwd. */
  user: string | null;
  /** One letter, as in proc(5). */
  state: string;
  threads: number;
  cpuSeconds: number;
  /** In RAM, shared pages included. */
  memoryBytes: number;
  startedAt: string;
  /** Command line, or the program's name in brackets. Whatever the process says: hostile text. */
  command: string;
}

export interface VeProcesses {
  /** When the processes were looked at: seconds since the host booted. */
  clock: number;
  /** How many there are beside those listed. */
  more: number;
  processes: VeProcess[];
}

export interface CreateRequest {
  name: string;
  template: string;
  properties?: Record<string, unknown>;
  start?: boolean;
  /** Laid into it before it first runs; kept nowhere else. */
  personal?: Personal;
}

export interface CloneRequest {
  name: string;
  /** Instead of the model's, or besides. */
  properties?: Record<string, unknown>;
  /** With the processes of a running one, or of the snapshot. */
  live?: boolean;
  /** Name of a snapshot: as it was then. */
  snapshot?: string;
}

export interface CheckpointRequest {
  /** Absolute path on the node; it must not be there yet. */
  file: string;
  /** The VE runs on after a pause; else it is suspended. */
  keepRunning?: boolean;
  /** Whether its TCP connections go on when it is restored; default `established`. */
  tcp?: 'established' | 'close';
  /** Default `zstd`. */
  compress?: 'zstd' | 'none';
  /** For whom: a recipient of age, or a key of gpg. */
  encrypt?: string;
  /** The template goes along, for a node that has not got it. */
  withTemplate?: boolean;
}

export interface RestoreRequest {
  /** Absolute path on the node. */
  file: string;
  /** Default: the one that it had. */
  name?: string;
  /** Default: those that it had, where they are free. */
  addresses?: string[];
  /** `close`: its TCP connections are closed in any case. */
  tcp?: 'established' | 'close';
  /** File on the node with the identity of age that can read the file. */
  identity?: string;
}

export interface SnapshotRequest {
  name: string;
  /** What it is for, one line. */
  description?: string;
  /** With the processes of a running VE. */
  live?: boolean;
}

export interface ExecRequest {
  command: string[];
  /** User name or uid in the VE; default root. */
  user?: string;
  env?: Record<string, string>;
  cwd?: string;
  /** A terminal from the VE's own devpts. */
  tty?: TerminalRequest | null;
}

export interface TerminalRequest {
  columns: number;
  rows: number;
  /** TERM of the command. */
  term: string;
}

/** A login shell: the one of the user's row in the VE's passwd. */
export type ShellRequest = Pick<ExecRequest, 'user' | 'env' | 'tty'>;

/** An attachment to the console of init. */
export interface ConsoleRequest {
  /** Lines of the log to begin with; default 20. */
  tail?: number;
  /** Also while the VE is stopped: until it boots, and again after each end. */
  wait?: boolean;
  /** Of the client's terminal. */
  size?: { columns: number; rows: number };
}

export interface ReadRequest {
  /** In the VE, absolute. With a slash at its end: the folder that it leads to. */
  path: string;
  /** `tree`: a tar stream with one root `d`; `content`: of an ordinary file. */
  as: 'tree' | 'content';
  /** Follow a link that the path itself is. */
  follow?: boolean;
}

export interface WriteRequest {
  /** In the VE, absolute: the new name, or an existing folder to put it in. */
  path: string;
  as: 'tree' | 'content';
  /** The tree is a folder. */
  folder?: boolean;
  /** Its name, should the path be a folder; empty: a folder's content goes into that folder. */
  name?: string;
}

/** A running command. Output ends before `exit` settles. */
export interface ExecSession {
  stdin: NodeJS.WritableStream;
  stdout: NodeJS.ReadableStream;
  /** Null with a terminal. */
  stderr: NodeJS.ReadableStream | null;
  resize(columns: number, rows: number): void;
  /** Send a signal to the command, e.g. when the client went away. */
  kill(signal: NodeJS.Signals): void;
  exit: Promise<number>;
  /** Only for terminals. */
  terminal?: Duplex;
}

export interface PoolRequest {
  name: string;
  /** Absolute: an empty folder; with an image: where the image and its mount lie. Default for an image: in the state folder. */
  path?: string;
  /** Default: what fits the file system. */
  driver?: PoolRecord['driver'];
  /** Bytes; absent: the file system of the folder itself is used. */
  imageSize?: number;
  /** Of the image; default ext4. */
  fileSystem?: NonNullable<PoolRecord['image']>['fileSystem'];
}

/** A pool, and what there is of it. */
export type PoolView = Omit<PoolRecord, 'createdAt'> & {
  /** Null for the default one. */
  createdAt: string | null;
  /** Of its file system; null while the pool is not there. */
  room: Room | null;
  /** What can be limited there, or in words why not. */
  holds: DiskSupport | null;
  /** Names of the VEs whose disks lie there. */
  ves: string[];
  /** Bytes of templates that lie there, and what their VEs would take more if each had its own; null where none lies. */
  shared: { bytes: number; saves: number } | null;
  /** Bytes that the file of its image takes and does not need; null without an image. */
  reclaimable: number | null;
};

/** What a VE, and its users and groups, may have on its disk, and have. */
export interface QuotaReport {
  /** `used` is null where its pool does not count; `grace` in seconds. */
  ve: { limits: DiskLimits; used: DiskAccount | null; grace: number };
  /** How many users and groups may have limits. */
  most: number;
  /** Those that have anything, or limits; names where they are known. */
  users: (DiskUser & { name: string | null })[];
  groups: (DiskUser & { name: string | null })[];
}

/** A template, and what there is of it. */
export type TemplateView = TemplateRecord & {
  /** VEs that were made from it. */
  uses: number;
  /** Since when there is a warm image of it that can be used here, ISO 8601; else null. */
  warm: string | null;
  /** VEs of it that stand ready for a deploy; they are counted nowhere else. */
  spares: number;
};

/** Where a change is made: in the VE that runs and in what is kept of it, or in one of the two. */
export type SetScope = 'both' | 'live' | 'config';

export interface SetOptions {
  /** Accept properties that need a restart. */
  nextStart?: boolean;
  /** Default both. */
  scope?: SetScope;
}

/** `task` answers at once with the operation's record; wait for it through the operations. */
export interface VeManager extends BackupManager, ImageManager, TemplateVersionManager, PublishingManager, RecipeManager {
  list(): VeView[];
  /** All with everything, as `show` tells of one. */
  listDetails(): VeDetail[];
  /** By name, number or UUID. Throws `ve.not_found`. */
  show(key: string): VeDetail;
  /** Counters of all VEs, by one look. */
  usage(): UsageSample;
  /** Processes of a running VE. Throws `ve.not_found`, `ve.not_running`. */
  processes(key: string): Promise<VeProcesses>;
  /** Traffic by class, of one VE or all, running or not. Throws `ve.not_found`, `network.failed`. */
  traffic(key?: string): Promise<TrafficReport>;
  /** Connections of a VE in the host's table. Throws `ve.not_found`, `network.failed`. */
  connections(key: string): Promise<ConnectionUse>;
  /** All beancounters of a running VE. Throws `ve.not_found`, `ve.not_running`. */
  beancounters(key: string): Promise<Beancounters>;
  /** The same without what takes a look at the kernel. Throws `ve.not_found`. */
  view(key: string): VeView;
  create(request: CreateRequest, requestId: string | null): OperationRecord;
  /** @param options `discardState`: also a suspended one, whose state is thrown away */
  start(key: string, options: { discardState?: boolean }, requestId: string | null): OperationRecord;
  /** @param timeout seconds before it is forced; default `stop.timeout` */
  stop(key: string, options: { force?: boolean; timeout?: number }, requestId: string | null): OperationRecord;
  restart(key: string, options: { force?: boolean; timeout?: number }, requestId: string | null): OperationRecord;
  /** Its processes go to the disk. */
  suspend(key: string, requestId: string | null): OperationRecord;
  /** And come back. */
  resume(key: string, requestId: string | null): OperationRecord;
  /** Another VE with the same disk, and with the same processes when it runs. */
  clone(key: string, request: CloneRequest, requestId: string | null): OperationRecord;
  /** Write it into a file. */
  checkpoint(key: string, request: CheckpointRequest, requestId: string | null): OperationRecord;
  /** Make a VE from a file. */
  restore(request: RestoreRequest, requestId: string | null): OperationRecord;
  /** Write what is on its disk, and its properties, into a file; it may run. */
  export(key: string, request: ExportRequest, requestId: string | null): OperationRecord;
  /** Make a VE of such a file. */
  import(request: VeImportRequest, requestId: string | null): OperationRecord;
  snapshots(key: string): SnapshotRecord[];
  createSnapshot(key: string, request: SnapshotRequest, requestId: string | null): OperationRecord;
  /** @param name of the snapshot */
  deleteSnapshot(key: string, name: string, requestId: string | null): OperationRecord;
  rollBack(key: string, name: string, requestId: string | null): OperationRecord;
  /** What has changed on the disk since a snapshot. @param to another one; default: now */
  snapshotDiff(key: string, name: string, to?: string): Promise<Difference[]>;
  /** What is in the way of a `suspend` now. */
  obstacles(key: string): Promise<Obstacle[]>;
  freeze(key: string, requestId: string | null): OperationRecord;
  thaw(key: string, requestId: string | null): OperationRecord;
  destroy(key: string, options: { force?: boolean }, requestId: string | null): OperationRecord;
  rename(key: string, name: string, requestId: string | null): OperationRecord;
  /** `null` as a value unsets. */
  set(key: string, changes: Record<string, unknown>, options: SetOptions, requestId: string | null): OperationRecord;
  exec(key: string, request: ExecRequest): Promise<ExecSession>;
  shell(key: string, request: ShellRequest): Promise<ExecSession>;
  console(key: string, request: ConsoleRequest): Promise<ExecSession>;
  /** Files out of a VE, and into one: see copy.ts. */
  readFiles(key: string, request: ReadRequest): Promise<ExecSession>;
  writeFiles(key: string, request: WriteRequest): Promise<ExecSession>;
  /** The console log of this and earlier boots, oldest first. @param tail lines from the end */
  logs(key: string, options: { tail?: number }): string;
  /** The same, and then each line as it comes, until `signal` is aborted or the VE is destroyed. Throws `ve.not_found` at once. */
  followLogs(key: string, options: { tail?: number; signal: AbortSignal }): AsyncGenerator<string>;

  /** Throws `ve.not_found`, `property.unsupported`. */
  quota(key: string): Promise<QuotaReport>;
  /** Change the limits of a user or group. */
  setQuota(key: string, kind: 'user' | 'group', who: string, changes: { space?: unknown; inodes?: unknown }): Promise<QuotaReport['users'][number]>;

  pools(): PoolView[];
  pool(name: string): PoolView;
  createPool(request: PoolRequest, requestId: string | null): OperationRecord;
  deletePool(name: string, requestId: string | null): OperationRecord;

  templates(): TemplateView[];
  template(key: string): TemplateView;
  /** Make a warm image of a template now, in the place of one that is there. */
  warmTemplate(key: string, requestId: string | null): OperationRecord;
  /** Throw it away. */
  coolTemplate(key: string, requestId: string | null): OperationRecord;
  buildTemplate(request: BuildRequest, requestId: string | null): OperationRecord;
  importTemplate(request: ImportRequest, requestId: string | null): OperationRecord;
  deleteTemplate(key: string, requestId: string | null): OperationRecord;
}
