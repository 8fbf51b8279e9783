/** What the floors above see of nodes. */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import type { NodeRecord } from '../store/types.ts';
import type { NodeClient } from './node-client.ts';
import type { NodeRoute } from './node-server.ts';
import type { Right } from './rights.ts';

/**
 * How a node is: `ok`; `unreachable`; `untrusted`, somebody else answers; `incompatible`, no common protocol; `ended`, it has ended the pairing;
 * `silent`, it does not listen, so that only it can ask; `unknown`, not looked at.
 */
export type NodeState = 'ok' | 'unreachable' | 'untrusted' | 'incompatible' | 'ended' | 'silent' | 'unknown';

/** Another node as people and programs see it. */
export interface NodeView {
  name: string;
  /** `host:port`; null for a node that does not listen. */
  address: string | null;
  state: NodeState;
  /** Why the state is not `ok`. */
  reason: string | null;
  /** What it may do here. */
  allow: Right[];
  /** What this node may do there, as it last said. */
  allowed: string[];
  /** Of Veld, kernel and so on, as it last said; null before that. */
  version: string | null;
  kernel: string | null;
  architecture: string | null;
  cgroup: number | null;
  engine: string | null;
  uids: { base: number; count: number } | null;
  /** Whether its uids and this node's have some in common: a VE that moves then gets other ones. */
  uidsOverlap: boolean | null;
  capabilities: string[];
  /** Number of the protocol that the two speak; null where there is none. */
  protocol: number | null;
  /** Time of a question and its answer, milliseconds; null when it was not reached. */
  rtt: number | null;
  /** How far its clock is ahead of this one's, milliseconds; null when it was not reached. */
  clock: number | null;
  /** Of its certificate authorities: sha256, 64 hex digits. */
  fingerprints: string[];
  /** ISO 8601. */
  pairedAt: string;
}

/** This node as others see it. */
export interface OwnNode {
  name: string;
  /** `host:port` that others are told; null for a node that does not listen. */
  address: string | null;
  /** Of its certificate authority: sha256, 64 hex digits. */
  fingerprint: string;
  /** When its certificate and its authority end, ISO 8601. */
  certificateEnds: string;
  authorityEnds: string;
  /** Nodes that have not yet heard of the authority that is to follow; null when none is. */
  rotating: string[] | null;
}

/** What came of a rotation. */
export interface Rotation {
  /** Of the authority that is used now. */
  fingerprint: string;
  certificateEnds: string;
  /** Whether a new authority is prepared and waits for the nodes below. */
  waiting: boolean;
  /** Nodes that do not know the new authority, and why. */
  missing: { name: string; reason: string }[];
}

/** What a new pairing is asked with. */
export interface AddRequest {
  name: string;
  token: string;
  /** Instead of the token's. */
  address?: string;
  /** What the other may do here. */
  allow: Right[];
}

/** Where requests of other nodes to the API go. */
export interface ApiDoor {
  request(request: IncomingMessage, response: ServerResponse, from: RemoteUser): void;
  upgrade(request: IncomingMessage, socket: Duplex, head: Buffer, from: RemoteUser): void;
}

/** Who asks by way of another node. */
export interface RemoteUser {
  /** Name of the node. */
  node: string;
  /** Uid of the user there, as that node says; null when it does not. */
  uid: number | null;
  /** Id of the request there. */
  requestId: string | null;
}

/** A request that is passed on to another node's API. */
export interface PassedRequest {
  /** Name of the node. */
  node: string;
  method: string;
  /** Of the API there, with the query. */
  path: string;
  headers: OutgoingHttpHeaders;
  /** Uid of the user here. */
  uid: number | null;
  requestId: string;
  signal?: AbortSignal;
}

/** The nodes that this one is paired with. */
export interface NodeManager {
  self(): OwnNode;
  /** The record of a node, by name or id; also of one that has ended the pairing. @throws VeldError `node.not_found` */
  find(key: string): NodeRecord;
  /** @param look whether to ask each of them how it is */
  list(look: boolean): Promise<NodeView[]>;
  /** @throws VeldError `node.not_found` */
  view(name: string): Promise<NodeView>;
  /** @throws VeldError `node.not_listening`, `name.invalid`, `daemon.overloaded` */
  token(request: { name?: string; allow: Right[]; address?: string }): { token: string; address: string; expiresAt: string };
  /** @throws VeldError `node.token_invalid`, `node.untrusted`, `node.unreachable`, `node.name_taken`, `node.paired` */
  add(request: AddRequest): Promise<NodeView>;
  /** @throws VeldError `node.not_found`, `node.name_taken`, `name.invalid` */
  set(name: string, changes: { name?: string; address?: string; allow?: Right[] }): Promise<NodeView>;
  /** Forget a node at once, end its connections, and tell it. @returns whether it could be told, and why not */
  remove(name: string): Promise<{ told: boolean; reason: string | null }>;
  /** @param authority also a new authority @param force do not wait for nodes that cannot be reached: they will have to be paired anew */
  rotate(options: { authority: boolean; force: boolean }): Promise<Rotation>;
  /** Pass a request on; the answer's body is still to be read. */
  pass(request: PassedRequest, body: Readable | undefined): Promise<IncomingMessage>;
  passUpgrade(request: PassedRequest): Promise<{ answer: IncomingMessage; stream?: Duplex }>;
  /** Requests to other nodes, for what is built on top: see node-client.ts. */
  client: NodeClient;
  /** Answer another path of the door for nodes, and tell others that this node can. @param capability named in `capabilities` */
  register(route: NodeRoute, capability?: string): void;
  /**
   * Open the door.
   * @param heard called when it could be opened later
   * @throws VeldError `node.failed` when the address cannot be listened at now; it is tried again every few seconds
   */
  start(api: ApiDoor, heard?: () => void): Promise<void>;
  close(): Promise<void>;
}
