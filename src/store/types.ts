/**
 * What the store keeps, and the interface that every store implements (conformance suite: conformance.ts).
 *
 * All methods are synchronous and short. `transaction` makes several of them one: all or nothing.
 */

/** A layer in the stack of a root file system: a read-only tree and the uid range in which its owners are written on disk. */
export interface LayerRef {
  /** Layer id. */
  id: string;
  /** First uid of the range in which the tree's owners are written: 0 for templates, a VE's base for a frozen upper. */
  uidBase: number;
}

export interface VeRecord {
  /** Immutable. */
  uuid: string;
  /** OpenVZ's VEID, 101 and up; immutable; part of link and cgroup names. */
  number: number;
  name: string;
  /** Fingerprint of the template, or null when the template is gone from the table. */
  template: string;
  /** Lowest layer first. */
  layers: LayerRef[];
  /** First host uid of the VE's range of 65536. */
  uidBase: number;
  /** Explicitly set properties, by property name; the table in spec/ knows the defaults. */
  properties: Record<string, unknown>;
  /** Addresses given to the VE, without prefix length. */
  addresses: string[];
  /** Link-layer address of eth0. */
  mac: string;
  /** What the operator wants; the truth is read from the kernel. */
  desired: 'running' | 'stopped';
  /** False while create is not finished: such a VE is invisible. */
  ready: boolean;
  /** Guest files (hosts, resolv.conf, hostname) must be written before the next boot. */
  guestDirty: boolean;
  /** ISO 8601. */
  createdAt: string;
  /** Why it last stopped by itself, for `show`. */
  lastExit: { code: number; at: string; reason: string } | null;
  /** Its processes are on the disk instead of in memory, since when, and which engine wrote them there. */
  suspended: Suspension | null;
  /** How it first came to run: from a warm image of its template, or by a boot; null while it never has, and for clones. */
  deployed: 'warm' | 'cold' | null;
  /** Why the daemon did not start it when it should have, as at a boot of the host; null once it has run, or was stopped. */
  notStarted: { at: string; reason: string } | null;
}

export interface Suspension {
  /** ISO 8601. */
  at: string;
  /** Fingerprint of the engine that can read the state. */
  engine: string;
  /** Because the host went down: it comes back with the host. */
  byHost?: boolean;
}

export interface TemplateRecord {
  /** sha256 of the content, 64 hex digits. */
  fingerprint: string;
  /** Unique name, e.g. `debian-12`. */
  name: string;
  os: string;
  release: string;
  architecture: string;
  layers: LayerRef[];
  /** Bytes on disk. */
  size: number;
  createdAt: string;
  /** How it was made: suite, packages, mirror, Release date; free form, shown by `template show`. */
  source: Record<string, unknown>;
}

/** What a new VE of a template can be made of without a boot: a VE of it as it was just after one. */
export interface WarmImage {
  /** Fingerprint of the template; it goes with it. */
  template: string;
  /** Of the state on disk, 32 hex digits. */
  id: string;
  /** What its boot wrote: stands on the template's layers. */
  layer: LayerRef;
  /** Where it can be brought back: kernel, processor, engine; see warm-image.ts. */
  host: string;
  /** Fingerprint of the engine that wrote the processes. */
  engine: string;
  /** ISO 8601. */
  createdAt: string;
}

/** A VE as it was at one instant: its disk, and its processes where it ran. */
export interface SnapshotRecord {
  /** 32 hex digits. */
  id: string;
  /** UUID of the VE. */
  ve: string;
  /** Unique among the VE's snapshots. */
  name: string;
  /** What it is for, one line. */
  description: string;
  /** Id of the snapshot that the VE was made, or brought back to, last before it; null: none that is there. */
  parent: string | null;
  /** ISO 8601. */
  createdAt: string;
  /** Of the disk, lowest first; all of them read-only. */
  layers: LayerRef[];
  /** The VE's properties then. */
  properties: Record<string, unknown>;
  /** Fingerprint of the engine that can read the processes; null for a snapshot of a stopped VE. */
  engine: string | null;
}

/**
 * A word on whose a VE is that must outlast everything else. On the node that it leaves: it may be the other's already, and only that one knows. On the node
 * to which it came: it is ours, whoever asks.
 */
export interface Handover {
  /** Of the migration, 32 hex digits. */
  id: string;
  role: 'source' | 'target';
  /** UUID. */
  ve: string;
  /** Id of the other node. */
  node: string;
  /** How often the VE has changed its node, this time included. */
  epoch: number;
  /** As what it went: with its processes, with their state on the disk, or at rest. */
  kind: 'running' | 'suspended' | 'stopped';
  /** ISO 8601. */
  at: string;
}

/** A place for disks of VEs, beside the state folder. */
export interface PoolRecord {
  name: string;
  /** Folder that holds its volumes and layers; of one in an image: where that is mounted. */
  path: string;
  /** What lies there: plain folders, subvolumes, or an image for each VE. */
  driver: 'overlay' | 'btrfs' | 'image';
  /** The file system that Veld has made for it, in a file. */
  image: { file: string; bytes: number; fileSystem: 'ext4' | 'xfs' | 'btrfs' } | null;
  /** ISO 8601. */
  createdAt: string;
}

/** A place for backups. */
export interface RepositoryRecord {
  name: string;
  /** Absolute path, or sftp://USER@HOST[:PORT]/PATH. */
  location: string;
  /** File with the key of ssh; null: root's own. */
  identity: string | null;
  /** ISO 8601. */
  createdAt: string;
}

export interface LayerRecord {
  id: string;
  uidBase: number;
  createdAt: string;
  size: number;
}

export type OperationState = 'running' | 'succeeded' | 'failed' | 'cancelled' | 'interrupted';

export interface OperationRecord {
  id: string;
  /** Verb, e.g. `create`. */
  kind: string;
  /** UUID of the VE it works on, or null. */
  ve: string | null;
  state: OperationState;
  /** 0 to 100. */
  percent: number;
  /** What is being done now, one phrase. */
  message: string;
  /** Result for programs, when succeeded. */
  result: unknown;
  error: { code: string; message: string; hint: string; details?: Record<string, unknown> } | null;
  createdAt: string;
  endedAt: string | null;
  /** Id of the request that asked for it. */
  requestId: string | null;
}

/** One journal row per unfinished operation that must survive a crash: what phase it is in, and what it needs to go on or back. */
export interface JournalRecord {
  operation: string;
  kind: string;
  ve: string | null;
  phase: string;
  data: Record<string, unknown>;
  updatedAt: string;
}

/** A certificate authority of another node. */
export interface NodeAuthority {
  /** sha256 of its DER, 64 hex digits. */
  fingerprint: string;
  /** PEM. */
  certificate: string;
}

/** Another node that this one is, or was, paired with. */
export interface NodeRecord {
  /** UUID, given here. */
  id: string;
  /** What it is called here; unique. */
  name: string;
  /** `host:port`; null for a node that does not listen. */
  address: string | null;
  /** What it may do here: rights of cluster/rights.ts. */
  allow: string[];
  /** Whose certificates are its own; the newest last. */
  authorities: NodeAuthority[];
  /** What it last said of itself: `Facts` of cluster/messages.ts. */
  facts: Record<string, unknown> | null;
  /** Set when the other side has ended the pairing: nothing is allowed any more. */
  ended: { at: string; reason: string } | null;
  /** ISO 8601. */
  createdAt: string;
}

/** A token that this node gave out and nobody has used yet. */
export interface NodeTokenRecord {
  /** 16 hex digits, part of the token. */
  id: string;
  /** Hash of the token's secret. */
  key: string;
  /** What the node that uses it will be called here; null: as it calls itself. */
  name: string | null;
  /** What the node that uses it may do here. */
  allow: string[];
  /** ISO 8601. */
  createdAt: string;
  /** ISO 8601. */
  expiresAt: string;
}

export interface Store {
  close(): void;
  /** Run `work` in one transaction; an exception rolls back. May nest. */
  transaction<T>(work: () => T): T;

  /** Throws `ve.name_taken`. Number and uid range are unique too, and its layers must be in the store. */
  insertVe(ve: VeRecord): void;
  /** Replace the whole record (uuid and number are immutable). Throws `ve.not_found`, `ve.name_taken`. */
  updateVe(ve: VeRecord): void;
  deleteVe(uuid: string): void;
  veByUuid(uuid: string): VeRecord | undefined;
  veByName(name: string): VeRecord | undefined;
  veByNumber(number: number): VeRecord | undefined;
  /** All records, by number, unfinished ones included. */
  listVes(): VeRecord[];

  /** Throws `template.name_taken` (also when one has the same fingerprint). Its layers must be in the store. */
  insertTemplate(template: TemplateRecord): void;
  deleteTemplate(fingerprint: string): void;
  /** Throws `template.name_taken`. */
  updateTemplate(fingerprint: string, change: Partial<Pick<TemplateRecord, 'name' | 'source'>>): void;
  /** By full fingerprint, by unique prefix of at least 8 digits, or by name. */
  findTemplate(key: string): TemplateRecord | undefined;
  listTemplates(): TemplateRecord[];

  /** Throws `snapshot.name_taken`. Its VE and its layers must be in the store; it goes with its VE. */
  insertSnapshot(snapshot: SnapshotRecord): void;
  /** Those that came after it come after its parent then. */
  deleteSnapshot(id: string): void;
  /** Of one VE, or all, oldest first. */
  listSnapshots(ve?: string): SnapshotRecord[];

  /** Put a template's warm image in the place of an earlier one. Its template and its layer must be in the store. */
  setWarmImage(image: WarmImage): void;
  deleteWarmImage(template: string): void;
  listWarmImages(): WarmImage[];

  /** Insert the node, or replace the one with its id. Throws `node.name_taken`. */
  saveNode(node: NodeRecord): void;
  deleteNode(id: string): void;
  /** By name. */
  listNodes(): NodeRecord[];

  insertNodeToken(token: NodeTokenRecord): void;
  /** Take a token out: nobody gets it a second time. */
  takeNodeToken(id: string): NodeTokenRecord | undefined;
  /** Forget tokens that were good until before `now` (ISO 8601). @returns how many are left */
  pruneNodeTokens(now: string): number;

  /** Keep a handover; one with the same id and role is replaced. */
  setHandover(handover: Handover): void;
  deleteHandover(id: string, role: Handover['role']): void;
  /** Oldest first. */
  listHandovers(): Handover[];

  /** Throws `pool.name_taken`. */
  insertPool(pool: PoolRecord): void;
  deletePool(name: string): void;
  /** By name. */
  listPools(): PoolRecord[];

  /** Throws `repository.name_taken`. */
  insertRepository(repository: RepositoryRecord): void;
  deleteRepository(name: string): void;
  /** By name. */
  listRepositories(): RepositoryRecord[];

  insertLayer(layer: LayerRecord): void;
  /** Throws `layer.in_use` while a VE, template, snapshot or warm image names it. */
  deleteLayer(id: string): void;
  layer(id: string): LayerRecord | undefined;
  listLayers(): LayerRecord[];
  /** How many VEs, templates, snapshots and warm images name the layer. */
  layerUses(id: string): number;

  saveOperation(operation: OperationRecord): void;
  operation(id: string): OperationRecord | undefined;
  /** Newest first. */
  listOperations(limit: number): OperationRecord[];
  /** Forget ended operations beyond the newest `keep`. */
  pruneOperations(keep: number): void;

  writeJournal(entry: JournalRecord): void;
  clearJournal(operation: string): void;
  listJournal(): JournalRecord[];

  /** Small facts of the installation (uid block, current engine, ...), JSON values. */
  getMeta<T>(key: string): T | undefined;
  setMeta(key: string, value: unknown): void;
}
