/** One worker at a time per VE. */
import { VeldError } from '../lib/errors.ts';
import type { OperationRecord } from '../store/types.ts';

/** Locks by UUID of the VE; a holder is an operation's record, or one made up for work inside the daemon. */
export interface VeLocks {
  /**
   * Take the lock of a VE. The daemon's own work is short, and nobody asked for it: an operation does not fail over it, it takes the
   * lock over and waits for its turn.
   * @returns `unlock`, the way to give it back (calling it again does nothing), and `turn`, which settles when the work may begin
   * @throws VeldError `ve.busy` naming what is under way
   */
  take(ve: string, holder: OperationRecord): { unlock: () => void; turn: Promise<void> };
  holder(ve: string): OperationRecord | undefined;
  /** Settles when nobody holds the lock; somebody else may take it first. */
  whenFree(ve: string): Promise<void>;
}

/** Make an empty set of locks. */
export function createVeLocks(): VeLocks {
  const held = new Map<string, { holder: OperationRecord; free: () => void; freed: Promise<void> }>();
  return {
    take(ve, holder) {
      const before = held.get(ve);
      const other = before?.holder;
      if (other !== undefined && (other.id !== '' || holder.id === '')) {
        const what = other.id === '' ? `the daemon's own work (${other.kind})` : `operation ${other.id} (${other.kind})`;
        throw new VeldError('ve.busy', `The VE is busy: ${what} is under way since ${other.createdAt}.`,
          { details: { ve, operation: other.id === '' ? null : other.id, kind: other.kind, since: other.createdAt } });
      }
      const { promise, resolve } = Promise.withResolvers<void>();
      const entry = { holder, free: resolve, freed: promise };
      held.set(ve, entry);
      const unlock = (): void => {
        if (held.get(ve) === entry) held.delete(ve);
        entry.free();
      };
      return { unlock, turn: before?.freed ?? Promise.resolve() };
    },
    holder: (ve) => held.get(ve)?.holder,
    async whenFree(ve) {
      for (let entry = held.get(ve); entry !== undefined; entry = held.get(ve)) await entry.freed;
    },
  };
}
