/** Backups of VEs, and the repositories in which they are kept. */
import type { RepositoryRecord } from '../../store/types.ts';
import type { Backup } from '../../storage/repository.ts';
import type { Exported, ImportChoices } from '../export/types.ts';

export interface RepositoryRequest {
  name: string;
  /** Absolute path, or sftp://USER@HOST[:PORT]/PATH. */
  location: string;
  /** File on the node with the password of one that is there already; default: a new one is made up. */
  passwordFile?: string;
  /** File on the node with the key of ssh; default: root's own. */
  identity?: string;
}

export interface RepositoryView extends RepositoryRecord {
  /** File on the node with its password. */
  passwordFile: string;
  /** Names of the VEs that are backed up there by themselves. */
  ves: string[];
}

export type BackupRestoreRequest = ImportChoices;

/** What a backup came to. */
export interface BackedUp extends Exported {
  id: string;
  repository: string;
  /** Bytes that were not in the repository yet. */
  added: number;
}

/** Repositories and what is in them. `task` verbs answer with the operation's record. */
export type BackupView = Backup;
