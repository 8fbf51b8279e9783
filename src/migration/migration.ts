/** Moving VEs between nodes: what the service asks for, and what paired nodes may ask. */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import { checkName } from '../spec/names.ts';
import type { OperationRecord, VeRecord } from '../store/types.ts';
import { findVe, type VeContext } from '../ve/context.ts';
import { copyAway } from './copy-source.ts';
import { FrameStream } from './frames.ts';
import { createSettler, takeBack } from './settle.ts';
import { migrateAway } from './source.ts';
import { createReceiver } from './target.ts';
import type { MigrateRequest, Peers } from './types.ts';

/** How long words on VEs that came, and are gone again, are kept for nodes that might still ask; milliseconds. */
const KEPT = 30 * 86_400_000;

export interface Migration {
  /** @throws VeldError `ve.not_found`, `ve.busy`, ... */
  migrate(key: string, request: MigrateRequest, requestId: string | null): OperationRecord;
  /** Bring back a VE of which it is not known whose it is, without asking the node to which it was granted. @throws VeldError `migration.refused` when there is no doubt */
  takeBack(key: string, requestId: string | null): OperationRecord;
  /** The node to which a VE was granted that has not answered yet. */
  undecided(uuid: string): string | undefined;
  /** Serve other nodes, and ask about what an earlier daemon has left undecided. */
  start(): void;
  close(): void;
}

/** @param begin begins an operation on a VE, as the manager's verbs do */
export function createMigration(context: VeContext, peers: Peers, begin: <T>(kind: string, ve: VeRecord, requestId: string | null, work: (task: Task) => Promise<T>) => OperationRecord): Migration {
  const { store } = context;
  const byItself = (kind: string, ve: VeRecord, work: (task: Task) => Promise<unknown>): OperationRecord => begin(kind, ve, null, work);
  const settler = createSettler(context, peers, byItself);
  const receiver = createReceiver(context, byItself);
  return {
    migrate(key, request, requestId) {
      const ve = findVe(store, key);
      context.engine();
      if (request.as !== undefined) {
        if (!request.copy) throw new VeldError('request.invalid', 'Only a copy gets another name.');
        checkName(request.as);
      }
      if (request.copy) return begin('migrate', ve, requestId, (task) => copyAway(context, peers, ve.uuid, request, task));
      return begin('migrate', ve, requestId, (task) => migrateAway(context, peers, ve.uuid, request, task).finally(() => settler.look()));
    },
    takeBack(key, requestId) {
      const ve = findVe(store, key);
      const handover = store.listHandovers().find((one) => one.role === 'source' && one.ve === ve.uuid);
      if (!handover) throw new VeldError('migration.refused', `${ve.name} is here, and nowhere else.`, { hint: 'Nothing to do.' });
      return begin('migrate-settle', ve, requestId, (task) => takeBack(context, handover, task));
    },
    undecided: (uuid) => store.listHandovers().find(({ role, ve }) => role === 'source' && ve === uuid)?.node,
    start() {
      const old = Date.now() - KEPT;
      for (const { id, role, ve, at } of store.listHandovers()) if (role === 'target' && Date.parse(at) < old && !store.veByUuid(ve)) store.deleteHandover(id, role);
      peers.serve((stream, peer) => void receiver.receive(new FrameStream(stream), peer));
      settler.look();
    },
    close: () => settler.close(),
  };
}
