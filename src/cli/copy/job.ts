/** What the ways of copying share. */
import type { Client } from '../../client/client.ts';
import type { CopyProgress } from './progress.ts';

export interface CopyJob {
  client: Client;
  follow: boolean;
  privileged: boolean;
  progress: CopyProgress;
  /** Aborted with a VeldError. */
  signal: AbortSignal;
}
