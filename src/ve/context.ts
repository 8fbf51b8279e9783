/** What the verbs work with, and the small questions that all of them ask. */
import type { Logger } from '../lib/log.ts';
import type { Settings } from '../lib/settings.ts';
import { VeldError } from '../lib/errors.ts';
import type { Engine } from '../kernel/engine.ts';
import type { Store, VeRecord } from '../store/types.ts';
import type { EventBus } from '../ops/events.ts';
import type { OperationManager } from '../ops/operations.ts';
import type { NameService } from '../network/resolver.ts';
import type { NetworkManager } from '../network/types.ts';
import type { Pools } from '../storage/pools.ts';
import type { ResourceManager } from '../resources/types.ts';
import type { States } from '../checkpoint/types.ts';
import type { SessionRegistry } from './sessions.ts';
import type { Publisher } from '../templates/publishing/types.ts';
import type { ImagePuller, TemplateBuilder } from '../templates/types.ts';

export interface VeContext {
  settings: Settings;
  store: Store;
  operations: OperationManager;
  events: EventBus;
  network: NetworkManager;
  names: Pick<NameService, 'addresses' | 'domain'>;
  volumes: Pools;
  resources: ResourceManager;
  /** Processes of VEs on the disk. */
  states: States;
  sessions: SessionRegistry;
  templates: TemplateBuilder;
  images: ImagePuller;
  published: Publisher;
  /** The engine for new starts; throws `engine.missing`. */
  engine: () => Engine;
  /** Folder of lxcfs' mount while it lives, else null. */
  lxcfs: () => string | null;
  log: Logger;
  /** Told before the groups of a VE that has ended go, with all that they have counted. */
  beforeEnd?: (number: number) => void;
}

/**
 * The VE that a user means: by name, number or UUID.
 * @param half also one that is half made or half gone, for those who take it away
 * @throws VeldError `ve.not_found`
 */
export function findVe(store: Store, key: string, half = false): VeRecord {
  const ve = store.veByName(key) ?? (/^[1-9]\d{0,8}$/.test(key) ? store.veByNumber(Number(key)) : undefined) ?? store.veByUuid(key);
  if (!ve || (!ve.ready && !half)) throw new VeldError('ve.not_found', `There is no VE ${JSON.stringify(key.slice(0, 80))}.`);
  return ve;
}

/** The VE's record as it is now: it may have changed since the operation was asked for. @throws VeldError `ve.not_found` */
export function reload(store: Store, uuid: string): VeRecord {
  const ve = store.veByUuid(uuid);
  if (!ve) throw new VeldError('ve.not_found', 'The VE has been destroyed meanwhile.');
  return ve;
}

/** Change some fields of a VE's record. @returns the new record */
export function updateVe(store: Store, uuid: string, change: Partial<VeRecord>): VeRecord {
  return store.transaction(() => {
    const ve = { ...reload(store, uuid), ...change };
    store.updateVe(ve);
    return ve;
  });
}
