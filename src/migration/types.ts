/** What two nodes say to each other when a VE moves, in this order; every message is checked by whoever gets it. */
import type { Duplex } from 'node:stream';
import type { TemplateRecord } from '../store/types.ts';
import type { Arrival } from '../ve/arrive.ts';
import type { UserQuotas } from '../ve/disk.ts';
import type { Message } from './frames.ts';

/** Of this file and frames.ts: a node that speaks another one is refused. */
export const PROTOCOL = 1;

/** Disk and memory that are to be left on the target, in bytes. */
export const LEFT = { disk: 256 << 20, memory: 128 << 20 };

/** Connections between paired nodes; what they are made of is not the migration's business. */
export interface Peers {
  /** @param key name or id @throws VeldError `node.not_found` */
  find(key: string): Peer;
  /** Open a stream to a paired node. @throws VeldError `node.not_found`, `node.unreachable`, ... */
  open(peer: Peer): Promise<Duplex>;
  /** Have each stream that a paired node opens handled. */
  serve(handler: (stream: Duplex, peer: Peer) => void): void;
}

/** A paired node: its name here may change, its id does not. */
export interface Peer {
  id: string;
  name: string;
}

/** How a VE comes along: with its processes, with their state on the disk, or at rest. */
export type Kind = 'running' | 'suspended' | 'stopped';

/** A snapshot that comes along. What it says of the VE then is looked at as the VE's own is. */
export interface OfferedSnapshot {
  /** 32 hex digits: it keeps it. */
  id: string;
  name: string;
  /** Nodes of earlier versions say neither. */
  description?: string;
  /** Id of the one before it, which comes along, too. */
  parent?: string | null;
  /** ISO 8601. */
  createdAt: string;
  properties: Record<string, unknown>;
  /** What it stands on above the template, lowest first: places in the list of `layers`, with `snapshotLayers` behind them. */
  layers: number[];
  /** Of its processes; null when there are none. */
  engine: string | null;
  /** Extensions of the processor that these may use. */
  processor: string[];
  /** Bytes of their state that are not also in one before it. */
  memory: number;
  /** As in {@link Needs}. */
  droppable?: boolean;
}

/** A layer of the VE's own, below its upper. */
export interface OwnLayer {
  /** Range in which its owners are written. */
  uidBase: number;
}

/** What processes need of a host. */
export interface Needs {
  engine: string;
  architecture: string;
  /** Extensions of the processor that they may use. */
  processor: string[];
  /** All that it has where they were told of fewer (`cpu.baseline`). */
  beyond?: string[];
  kernel: string;
  cgroups: string;
  memory: number;
  /** They have memory that only kernels with MAP_DROPPABLE can give them; nodes of earlier versions do not say. */
  droppable?: boolean;
}

export interface Offer extends Message {
  type: 'offer';
  protocol: number;
  /** Of the migration, 32 hex digits. */
  id: string;
  epoch: number;
  /** Only look whether it could come. */
  dryRun: boolean;
  /** Another VE is made of it, which has the name in `ve`, and it goes on where it is: there is no hand-over. */
  copy?: boolean;
  kind: Kind;
  ve: Arrival;
  /** What its processes need of a host; null for a VE at rest. */
  needs: Needs | null;
  template: Omit<TemplateRecord, 'layers'>;
  /** The template's layers in number (on the other node it may have another one: it is sent as one tree), and the VE's own, lowest first. */
  templateLayers: number;
  layers: OwnLayer[];
  snapshots: OfferedSnapshot[];
  /** Layers that only its snapshots stand on. */
  snapshotLayers: OwnLayer[];
  /** Range in which the owners of its upper are written. */
  diskBase: number;
  /** Bytes in its upper and layers, about. */
  disk: number;
  /** Limits of its users and groups, if any; nodes of earlier versions do not say. */
  quotas?: UserQuotas;
  /** How bulk data may be compressed, where that pays. */
  compress?: string[];
}

export interface Accept extends Message {
  type: 'accept';
  /** Whether the template must be sent. */
  template: boolean;
  /** What will be otherwise there, in sentences. */
  notes: string[];
  /** Which of the offered ways of compressing it can read, if any. */
  compress?: string | null;
}

export interface Refuse extends Message {
  type: 'refuse';
  error: { code: string; message: string; hint: string };
}

/** Bulk data follows: a tree. */
export interface TreeMessage extends Message {
  type: 'template' | 'layer' | 'round';
  /** Bytes of files in it, about: for progress. */
  bytes: number;
  /** Of a round: how many bytes of names to remove come first, as bulk data of their own, each with a NUL behind it. */
  removes?: number;
  /** Of the last round: the VE stands, and nothing changes any more. */
  last?: boolean;
}

/** A file of a state. */
export interface StateFile {
  path: string;
  size: number;
  /** It is the same file as one that came with the state of a snapshot: `ID/PATH`. */
  same?: string;
}

/** Bulk data follows: the contents of these files, but for those that came before, one after the other. */
export interface FilesMessage extends Message {
  files: StateFile[];
}

/** The state of a snapshot. */
export interface SnapshotMessage extends FilesMessage {
  type: 'snapshot';
}

/** Memory of processes that run on; between rounds of the disk. */
export interface MemoryMessage extends FilesMessage {
  type: 'memory';
}

/** What a target takes between rounds of the disk, besides. */
export type BetweenMessage = MemoryMessage | PartMessage | AnewMessage;

/** Bulk data follows: more of one image of memory, which criu is writing. No answer is expected. */
export interface PartMessage extends Message {
  type: 'part';
  path: string;
  size: number;
}

/** What came of the images so far is void: criu begins anew. */
export interface AnewMessage extends Message {
  type: 'anew';
}

/** Bulk data follows: these files, without what has come of them before. */
export interface StateMessage extends FilesMessage {
  type: 'state';
  /** On how many rounds of memory it stands: on all that were sent, or on none. */
  memory: number;
}

/** The target has done what was sent. */
export interface Done extends Message {
  type: 'done';
}

/** Everything of the VE is at the target, and nothing of it runs there. */
export interface Prepared extends Message {
  type: 'prepared';
}

/** The target may take it. The source does not bring it back any more, whatever comes, until the target has said that it has not taken it. */
export interface Grant extends Message {
  type: 'grant';
  /** What it has sent and received until then, by class: nothing of it is sent any more here. Not of a copy. */
  traffic?: unknown;
}

/** The target has it. */
export interface Owned extends Message {
  type: 'owned';
}

/** And what has become of it there. */
export interface Arrived extends Message {
  type: 'arrived';
  number: number;
  addresses: string[];
  /** What went wrong afterwards, if anything did: it is there all the same. */
  trouble: string | null;
  /** What is otherwise there, in sentences, besides what was said before. */
  notes?: string[];
}

/** What became of a migration: asked by a source that has granted it, and lost the connection. */
export interface Ask extends Message {
  type: 'ask';
  id: string;
}

/** `nothing` is final: the target will never take it. */
export interface Answer extends Message {
  type: 'answer';
  outcome: 'owned' | 'nothing';
}

/** What a user asks for. */
export interface MigrateRequest {
  node: string;
  dryRun?: boolean;
  /** Leave its snapshots behind: they are lost. */
  dropSnapshots?: boolean;
  /** Not when it would stand for longer than this, in milliseconds. */
  maxFreeze?: number;
  /** Bytes per second that are sent at most; default: as the settings say. */
  bandwidth?: number;
  /** Make a copy there, and let it go on here. */
  copy?: boolean;
  /** Name of the copy; default: that of the VE. */
  as?: string;
}

/** What a VE stands for, in milliseconds: its processes are written, the rest of its disk and they are sent, and they are brought back there, up to the hand-over. */
export interface StandingPhases {
  dump: number;
  disk: number;
  state: number;
  restore: number;
}

export interface MigrateResult {
  node: string;
  /** Its number there. */
  number: number | null;
  kind: Kind;
  /** Name of the copy that was made; null for a VE that has moved. */
  copy: string | null;
  notes: string[];
  /** Bytes that were sent, what these were before some of them were compressed, and in milliseconds how long all of it took, and for how long the VE stood; null for one that did not run, and of a copy. */
  bytes: number;
  uncompressed: number;
  took: number;
  stood: number | null;
  /** For how long it was expected to, in milliseconds; and in how many rounds its memory went before. */
  expected: number | null;
  memoryRounds: number;
  /** What it stood for. */
  phases: StandingPhases | null;
  trouble: string | null;
}
