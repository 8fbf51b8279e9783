/** Interface of the templates capability: turns suites and archives into layers and template records (the caller stores both). */
import type { TemplateRecord } from '../store/types.ts';
import type { Task } from '../ops/types.ts';
import type { PullRequest } from './pull.ts';
import type { Catalogues } from './sources/catalogue.ts';

/** What a template boots; `none`: nothing, for VEs that run one command. */
export type TemplateInit = 'systemd' | 'sysvinit' | 'busybox' | 'none';

export interface BuildRequest {
  /** `bookworm` or `debian-12`, `noble` or `ubuntu-24.04`, ...; `host` for the host's own release. */
  suite: string;
  /** Default systemd. */
  init?: TemplateInit;
  /** Name of the template; default from the suite and the init: `debian-12`, `debian-12-sysvinit`, `debian-12-app`. */
  name?: string;
  include: string[];
  /** Mirror; default: the host's main package source. */
  mirror?: string;
}

export interface ImportRequest {
  /** Absolute path of the archive. */
  file: string;
  name: string;
  /** False: it may lack an init and a shell; for VEs that run one command. Default true. */
  init?: boolean;
}

/** Where the new tree is put, and how it becomes a layer: given by the caller (a storage's stageLayer). */
export interface Staging {
  path: string;
}

/** What sources offer, and what is made of it. */
export interface ImagePuller {
  catalogues: Catalogues;
  /** Fill `staging.path` with an image. See pull.ts. */
  pull(request: PullRequest, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>>;
}

export interface TemplateBuilder {
  /** Fill `staging.path` with a root file system. @returns the record without layers and size: the caller commits the layer */
  build(request: BuildRequest, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>>;
  /** Unpack a root file system archive (tar, .gz, .xz, .zst), confined and checked. */
  importArchive(request: ImportRequest, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>>;
}
