/** Sessions that were asked for and not yet begun: secrets that are good once, and not for long. */
import { createHash, randomBytes } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import type { ExecSession } from '../ve/types.ts';
import type { Peer } from './types.ts';

/** How long a session may be begun, in milliseconds. */
export const SESSION_LIFETIME = 10_000;
/** How many may wait at a time. */
export const SESSION_LIMIT = 256;

/** What a session was asked for. */
export interface PendingSession {
  /** UUID: another VE may have the name when the session begins. */
  ve: string;
  peer: Peer | undefined;
  /** What the audit log says of it. */
  audit: Record<string, unknown>;
  begin(): Promise<ExecSession>;
}

/** The waiting sessions. */
export interface SessionTable {
  /** @returns a secret of 256 bits, base64url. Throws `daemon.overloaded` */
  add(session: PendingSession): string;
  /** Take the session out: a second call with the same secret finds nothing. Throws `session.invalid` */
  take(secret: string, peer: Peer | undefined): PendingSession;
  readonly size: number;
}

/**
 * Make an empty table.
 * @param now clock in milliseconds, for tests
 */
export function createSessionTable(now: () => number = () => performance.now()): SessionTable {
  // By digest: the time of a look-up tells nothing about the secrets in the table.
  const waiting = new Map<string, PendingSession & { expires: number }>();
  const digest = (secret: string): string => createHash('sha256').update(secret).digest('base64');
  const sweep = (): void => {
    // Oldest first: all live equally long.
    for (const [key, session] of waiting) {
      if (session.expires > now()) break;
      waiting.delete(key);
    }
  };
  return {
    get size() {
      sweep();
      return waiting.size;
    },
    add(session) {
      sweep();
      if (waiting.size >= SESSION_LIMIT) throw new VeldError('daemon.overloaded', `${SESSION_LIMIT} sessions wait to be begun already.`);
      const secret = randomBytes(32).toString('base64url');
      waiting.set(digest(secret), { ...session, expires: now() + SESSION_LIFETIME });
      return secret;
    },
    take(secret, peer) {
      sweep();
      const key = digest(secret);
      const session = waiting.get(key);
      waiting.delete(key);
      const other = session?.peer !== undefined && peer !== undefined && (session.peer.uid !== peer.uid || session.peer.node !== peer.node);
      if (!session || other) throw new VeldError('session.invalid', 'The session does not exist, was used already, or has expired.');
      return session;
    },
  };
}
