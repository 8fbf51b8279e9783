/** The undo stack of one operation. */
import { setTimeout as sleep } from 'node:timers/promises';
import { faultPoint } from '../lib/faults.ts';

/** Milliseconds before a failed step is tried again: what is busy for a moment must not leave half a VE behind. */
const PAUSES = [50, 250];

/** An undo step that failed each time. */
export interface UndoFailure {
  name: string;
  error: unknown;
}

/** Steps that take back what was done, run newest first. */
export interface UndoStack {
  readonly size: number;
  push(name: string, step: () => void | Promise<void>): void;
  /** Forget all steps: what was done stays. */
  drop(): void;
  /**
   * Run all steps, newest first, and forget them. Each is reached through the fault point `undo:NAME`. A step that fails is tried
   * again (so it must bear to be run twice); when it fails for good the others still run.
   * @param onFailure told of every failed try
   * @returns the steps that failed for good
   */
  run(onFailure: (failure: UndoFailure, again: boolean) => void): Promise<UndoFailure[]>;
}

/** Make an empty undo stack. @param pauses milliseconds before each further try of a failed step */
export function createUndoStack(pauses: readonly number[] = PAUSES): UndoStack {
  const steps: { name: string; step: () => void | Promise<void> }[] = [];
  return {
    get size() {
      return steps.length;
    },
    push(name, step) {
      steps.push({ name, step });
    },
    drop() {
      steps.length = 0;
    },
    async run(onFailure) {
      const failed: UndoFailure[] = [];
      for (let next = steps.pop(); next !== undefined; next = steps.pop()) {
        for (let attempt = 0; ; attempt += 1) {
          try {
            faultPoint(`undo:${next.name}`);
            await next.step();
            break;
          } catch (error) {
            const failure = { name: next.name, error };
            const pause = pauses[attempt];
            onFailure(failure, pause !== undefined);
            if (pause === undefined) {
              failed.push(failure);
              break;
            }
            await sleep(pause);
          }
        }
      }
      return failed;
    },
  };
}
