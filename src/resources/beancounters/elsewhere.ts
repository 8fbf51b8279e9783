/** What goes into the beancounters of a VE and is not in its control groups. */
import type { OwnedCount } from './owned.ts';
import type { Count, SocketCounts } from './sockets.ts';

/** What is not in control groups. */
export interface Elsewhere {
  sockets?: SocketCounts | undefined;
  /** Or in words why nobody counts. */
  files?: OwnedCount | string | undefined;
  flocks?: OwnedCount | string | undefined;
  ptys?: { held: number; limit: number | null } | undefined;
  /** File locks that processes of the VE hold, as /proc/locks has them. */
  locks?: number | undefined;
  /** `memory.oom_guarantee`, bytes; null: unlimited. */
  oomGuarantee?: number | null | undefined;
  /** What was counted before a checkpoint of the VE. */
  before?: Past | undefined;
}

/** Peaks and refusals of an earlier life, by name. */
export type Past = Readonly<Record<string, Pick<Count, 'maxheld' | 'failcnt'>>>;
