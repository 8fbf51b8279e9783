/** What an operation hands to the code that carries it out. */

/** Handed through every long call: cancel, progress, undo, journal. */
export interface Task {
  /** Id of the operation. */
  readonly id: string;
  /** Aborted when the user cancels. */
  readonly signal: AbortSignal;
  /** Tell how far the work is. @param percent 0 to 100 @param message what is being done, one phrase */
  progress(percent: number, message: string): void;
  /** What whoever asked for it should be told although it is done: `warnings` of the result. */
  warn(text: string): void;
  /**
   * Register how to undo the step just done (or about to be done). On failure the steps run in reverse order. A step must bear to be
   * run twice (a failed one is tried again), and must not use `signal`, which is aborted when a cancel is undone.
   * @param name names the step in logs and in fault points (`did:KIND.NAME` once it is registered, `undo:NAME` before it runs)
   */
  undo(name: string, step: () => void | Promise<void>): void;
  /**
   * Write the phase and what a new daemon needs to finish or roll back, before acting. Also a fault point `phase:KIND.PHASE`.
   * Throws when a cancel was asked for. The row is cleared when the operation ends, except when there is something left to do: an undo
   * step failed, or the operation failed after `commit`. Such a row goes when a later operation on the VE succeeds, or a new daemon recovers.
   */
  phase(phase: string, data?: Record<string, unknown>): void;
  /** From here on the operation can only be finished: undo steps are dropped and cancel is refused. Throws when a cancel came first. */
  commit(): void;
}

/** Something that happened, sent to listeners (`/v1/events`) and kept in memory only. */
export interface VeldEvent {
  /** Increasing. */
  seq: number;
  /** ISO 8601. */
  time: string;
  /** e.g. `ve.started`, `ve.stopped`, `ve.rebooted`, `operation.updated`. */
  type: string;
  /** UUID of the VE, when it is about one. */
  ve?: string;
  data?: Record<string, unknown>;
}
