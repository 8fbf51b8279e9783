/** What two nodes say to each other when a VE moves, in this order; every message is checked by whoever gets it. */
import type { Duplex } from 'node:stream';
import type { TemplateRecord } from '../store/types.ts';
import type { Arrival } from '../ve/arrive.ts';
import type { Message } from './frames.ts';

/** Of this file and frames.ts: a node that speaks another one is refused. */
export const PROTOCOL = 1;

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

/** A layer of the VE's own, below its upper. */
export interface OwnLayer {
  /** Range in which its owners are written. */
  uidBase: number;
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
  needs: { engine: string; architecture: string; processor: string[]; kernel: string; memory: number } | null;
  template: Omit<TemplateRecord, 'layers'>;
  /** The template's layers in number, and the VE's own, lowest first. */
  templateLayers: number;
  layers: OwnLayer[];
  /** Range in which the owners of its upper are written. */
  diskBase: number;
  /** Bytes in its upper and layers, about. */
  disk: number;
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

/** Bulk data follows: the contents of these files, one after the other. */
export interface StateMessage extends Message {
  type: 'state';
  files: { path: string; size: number }[];
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
  /** Bytes per second that are sent at most; default: as the settings say. */
  bandwidth?: number;
  /** Make a copy there, and let it go on here. */
  copy?: boolean;
  /** Name of the copy; default: that of the VE. */
  as?: string;
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
  trouble: string | null;
}
