/** The puller of an installation. */
import { join } from 'node:path';
import type { Settings } from '../lib/settings.ts';
import { pullImage } from './pull.ts';
import { createCatalogues } from './sources/catalogue.ts';
import type { ImagePuller } from './types.ts';

/** @param options.stall milliseconds without a byte after which a server counts as gone */
export function createImagePuller(settings: Pick<Settings, 'sourcesDir' | 'libexecDir' | 'stateDir'>, options: { stall?: number } = {}): ImagePuller {
  return {
    catalogues: createCatalogues(settings, options),
    pull: (request, staging, task) => pullImage(request, staging, join(settings.stateDir, 'cache/downloads'), task, options),
  };
}
