/** Which engines running VEs need: those that their run folders name, until a change of the VE or a new daemon writes these anew. */
import { join } from 'node:path';
import { listEngines, pruneEngines } from '../kernel/engine.ts';
import { readIfExists } from '../lib/files.ts';
import type { VeContext } from './context.ts';
import { listRunFolders, runFolder } from './run-folder.ts';

/** Remove the engines that neither a running VE nor the next start needs. */
export function dropUnusedEngines({ settings, log }: VeContext): void {
  if (listEngines(settings.stateDir).length < 2) return;
  const used = new Set<string>();
  for (const number of listRunFolders(settings)) {
    const fingerprint = /^VELD_CRUN='.*\/engine\/([0-9a-f]{64})\//m.exec(readIfExists(join(runFolder(settings, number), 'env')) ?? '')?.[1];
    if (fingerprint !== undefined) used.add(fingerprint);
  }
  const removed = pruneEngines(settings.stateDir, used);
  if (removed.length > 0) log.info({ engines: removed }, 'removed engines that no VE uses any more');
}
