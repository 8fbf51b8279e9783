/** What the quota tools inside a VE stand on: its accounts, and who asks. */
import type { DiskLimits, DiskUser } from '../../storage/types.ts';

export type AccountKind = 'user' | 'group';

/** Who has called a tool, as the VE counts: the kernel says so (SO_PEERCRED and SO_PEERGROUPS of unix(7)). */
export interface Caller {
  uid: number;
  /** All of them, the main one, too. */
  groups: readonly number[];
}

/** The accounts of one VE. */
export interface Accounts {
  /** Those that have anything, or limits. */
  of(kind: AccountKind): DiskUser[];
  /** Names by number, of the VE's own files. */
  names(kind: AccountKind): ReadonlyMap<number, string>;
  /** For how long more than a soft limit may be in use, in seconds. */
  grace: number;
  /** Now, in seconds since 1970. */
  now: number;
  /** Hold a user or group to limits from now on. @throws VeldError as `veld quota` does */
  limit(kind: AccountKind, id: number, limits: DiskLimits): void;
  /** Change the time of grace, for all users and groups. @param seconds whole @throws VeldError */
  setGrace(seconds: number): Promise<void>;
}

/** One call of a tool. */
export interface ToolRequest {
  /** After the name of the tool. */
  words: readonly string[];
  /** What was edited, or what standard input held, where the first answer has asked for it. */
  text: string | undefined;
  caller: Caller;
  accounts: Accounts;
}

/** What comes of it. */
export interface ToolAnswer {
  status: number;
  out?: string;
  err?: string;
  /** To be edited: the tool is called again with what comes of it. */
  edit?: string;
  /** The tool is to be called again with what standard input holds. */
  input?: boolean;
  /** Mails, each with its head (RFC 5322). */
  mails?: string[];
}

export type Tool = (request: ToolRequest) => ToolAnswer | Promise<ToolAnswer>;

/** A tool that says why it does nothing. */
export class ToolFailure extends Error {}
