/** What an operation's work holds in its hands. */
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { JournalRecord } from '../store/types.ts';
import type { Task } from './types.ts';
import type { UndoStack } from './undo.ts';

/** What the manager keeps for a running operation. */
export interface TaskState {
  readonly id: string;
  readonly kind: string;
  readonly ve: string | null;
  readonly signal: AbortSignal;
  readonly undo: UndoStack;
  /** What `task.warn` was told. */
  readonly warnings: string[];
  /** Whether phases go to the journal. */
  readonly journal: boolean;
  committed: boolean;
  /** Whether a journal row was written. */
  journaled: boolean;
  ended: boolean;
}

/** Longest phrase of progress kept, in characters. */
const MAX_MESSAGE = 200;

/**
 * Make the task of an operation.
 * @param state shared with the manager
 * @param on `progress` is told of each change, `journal` writes a row
 */
export function createTask(state: TaskState, on: { progress: (percent: number, message: string) => void; journal: (entry: JournalRecord) => void }): Task {
  const mustRun = (what: string): void => {
    if (state.ended) throw new VeldError('internal', `Operation ${state.id} (${state.kind}) has ended: ${what} comes too late.`);
  };
  const mustGoOn = (): void => {
    if (!state.committed) state.signal.throwIfAborted();
  };
  return {
    id: state.id,
    signal: state.signal,
    progress(percent, message) {
      if (state.ended) return;
      const line = message.replaceAll(/[\p{Cc}\u2028\u2029]+/gu, ' ').trim().slice(0, MAX_MESSAGE);
      on.progress(Number.isFinite(percent) ? Math.min(100, Math.max(0, Math.round(percent))) : 0, line);
    },
    warn(text) {
      if (!state.warnings.includes(text)) state.warnings.push(text);
    },
    undo(name, step) {
      mustRun(`undo step ${name}`);
      if (!state.committed) state.undo.push(name, step);
      faultPoint(`did:${state.kind}.${name}`);
    },
    phase(phase, data = {}) {
      mustRun(`phase ${phase}`);
      mustGoOn();
      if (state.journal) {
        on.journal({ operation: state.id, kind: state.kind, ve: state.ve, phase, data, updatedAt: new Date().toISOString() });
        state.journaled = true;
      }
      faultPoint(`phase:${state.kind}.${phase}`);
    },
    commit() {
      mustRun('commit');
      mustGoOn();
      state.committed = true;
      state.undo.drop();
    },
  };
}
