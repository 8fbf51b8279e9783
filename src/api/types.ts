/** What the API is made from, and the types that its files share. */
import type { FastifyBaseLogger, FastifyInstance, RawServerDefault } from 'fastify';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox';
import type { Logger } from '../lib/log.ts';
import type { OperationManager } from '../ops/operations.ts';
import type { Migration } from '../migration/migration.ts';
import type { VeManager } from '../ve/types.ts';
import type { NodeManager, RemoteUser } from '../cluster/types.ts';
import type { EventBus } from '../ops/events.ts';
import type { DoctorReport } from './schemas.ts';
import type { Metrics } from './metrics.ts';
import type { Span } from '../resources/history/fields.ts';
import type { LastSample } from '../resources/history/history.ts';
import type { Capacity } from '../resources/capacity.ts';
import type { PresetView } from '../ve/presets.ts';
import type { VeStats } from '../ve/stats.ts';
import type { SessionTable } from './sessions.ts';

/** Who is at the other end of a connection: a process of this host, as the kernel says, or a user of another node, as that node says. */
export type Peer = { pid: number; uid: number; gid: number; node?: undefined } | RemoteUser;

/** The part of the operation manager that the API needs. */
export type ApiOperations = Pick<OperationManager, 'get' | 'list' | 'cancel' | 'watch'>;

/** What VEs use and have used. */
export interface ApiStats {
  /** By name, number or UUID. Throws `ve.not_found`. */
  of(key: string, history: Span | undefined): VeStats;
  /** The last sample of a VE that runs, by UUID. */
  last(uuid: string): LastSample | undefined;
}

/** What the node can carry, and presets. */
export interface ApiPlanning {
  capacity(): Capacity;
  presets(): PresetView[];
  /** Throws `preset.not_found`, `preset.invalid`. */
  preset(name: string): PresetView;
}

/** Everything that the API stands on. */
export interface ApiDeps {
  version: string;
  instance: string;
  log: Logger;
  manager: VeManager;
  stats: ApiStats;
  planning: ApiPlanning;
  migration: Pick<Migration, 'migrate' | 'takeBack'>;
  operations: ApiOperations;
  events: EventBus;
  doctor: () => Promise<DoctorReport>;
  /** Credentials of the peer of a connected unix socket; without it audit lines name nobody. */
  peerCredentials?: (socket: Socket) => Peer | undefined;
  /** The nodes that this one is paired with; without it there are no routes about nodes. */
  nodes?: NodeManager;
  /** True while the daemon stops: nothing new is begun. */
  stopping?: () => boolean;
}

/** The fastify application with TypeBox types. */
export type Api = FastifyInstance<RawServerDefault, IncomingMessage, ServerResponse, FastifyBaseLogger, TypeBoxTypeProvider>;

/** What the files with routes are handed. */
export interface RouteContext {
  deps: ApiDeps;
  metrics: Metrics;
  sessions: SessionTable;
  /** Users of other nodes, by their requests. */
  remote: WeakMap<IncomingMessage, RemoteUser>;
  /** The process at the other end of a connection of the socket. */
  peerOf: (socket: Socket) => Peer | undefined;
}

declare module 'fastify' {
  interface FastifyRequest {
    /** Peer of the connection, when the kernel told. */
    peer: Peer | undefined;
    /** Added to the audit line of this request. */
    audit: Record<string, unknown> | undefined;
  }
}
