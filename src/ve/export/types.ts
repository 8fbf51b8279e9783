/** What is in an export: the messages of its stream, in this order. */
import type { TemplateRecord } from '../../store/types.ts';
import type { UserQuotas } from '../disk.ts';

/** The first message. */
export interface Contents {
  type: 'veld-export';
  format: 1;
  /** ISO 8601: as the disk was then. */
  createdAt: string;
  /** UUID of the VE. */
  ve: string;
  name: string;
  /** Fingerprint of the template. */
  template: string;
  templateName: string;
  /** The template's record, when it follows: as a message `template`, with its tree as bulk data. */
  templateRecord?: Omit<TemplateRecord, 'layers' | 'size'>;
  /** Bytes of files on its disk, about. */
  bytes: number;
  properties: Record<string, unknown>;
  addresses: string[];
  mac: string;
  /** Of its users and groups; absent where these have none. */
  quotas?: UserQuotas;
}

/** Bulk data follows: names that are gone since the round before, each with a NUL behind it. */
export interface RemoveMessage {
  type: 'remove';
}

/** Bulk data follows: part of the disk as `packTree` makes it. */
export interface TreeMessage {
  type: 'tree';
  /** From which number its owners are counted. */
  base: number;
  /** The VE stands, and nothing changes any more. */
  last: boolean;
}

/** All has come. */
export interface EndMessage {
  type: 'end';
}

/** What an export came to. */
export interface Exported {
  /** Bytes of files. */
  bytes: number;
  /** For how long the VE stood, in milliseconds; null: it did not run. */
  stood: number | null;
}

export interface ExportRequest {
  /** Absolute path on the node; it must not be there yet. */
  file: string;
  /** The template goes along, for a node that has not got it. */
  withTemplate?: boolean;
  /** Default `zstd`. */
  compress?: 'zstd' | 'none';
  /** For whom: a recipient of age, or a key of gpg. */
  encrypt?: string;
}

export interface ImportChoices {
  /** Default: the one that it had. */
  name?: string;
  /** Default: those that it had, where they are free. */
  addresses?: string[];
  /** Instead of those that it had; null: unset. */
  properties?: Record<string, unknown>;
}

export interface VeImportRequest extends ImportChoices {
  /** Absolute path on the node. */
  file: string;
  /** File on the node with the identity of age that can read the file. */
  identity?: string;
}
