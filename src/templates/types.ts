/** Interface of the templates capability: turns suites and archives into layers and template records (the caller stores both). */
import type { TemplateRecord } from '../store/types.ts';
import type { Task } from '../ops/types.ts';

export interface BuildRequest {
  /** `bookworm`, `trixie`, `noble`, ...; `host` for the host's own release. */
  suite: string;
  /** Name of the template; default from the suite: `debian-12`. */
  name?: string;
  include: string[];
  /** Mirror; default: the host's main package source. */
  mirror?: string;
}

/** Where the new tree is put, and how it becomes a layer: given by the caller (a storage's stageLayer). */
export interface Staging {
  path: string;
}

export interface TemplateBuilder {
  /** Fill `staging.path` with a root file system. @returns the record without layers and size: the caller commits the layer */
  build(request: BuildRequest, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>>;
  /** Unpack a root file system archive (tar, .gz, .xz, .zst), confined and checked. */
  importArchive(file: string, name: string, staging: Staging, task: Task): Promise<Omit<TemplateRecord, 'layers' | 'size'>>;
}
