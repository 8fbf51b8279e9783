/** Which engines running and suspended VEs need: those that their run folders name, until a change of the VE or a new daemon writes these anew. */
import { join } from 'node:path';
import { listEngines, pruneEngines } from '../kernel/engine.ts';
import { readIfExists } from '../lib/files.ts';
import type { VeContext } from './context.ts';
import { listRunFolders, runFolder } from './run-folder.ts';

/** Remove the engines that no running or suspended VE needs, nor the next start. */
export function dropUnusedEngines({ settings, store, log }: VeContext): void {
  if (listEngines(settings.stateDir).length < 2) return;
  const used = new Set([...store.listVes().flatMap(({ suspended }) => suspended?.engine ?? []), ...store.listSnapshots().flatMap(({ engine }) => engine ?? [])]);
  for (const number of listRunFolders(settings)) {
    const fingerprint = /^VELD_CRUN='.*\/engine\/([0-9a-f]{64})\//m.exec(readIfExists(join(runFolder(settings, number), 'env')) ?? '')?.[1];
    if (fingerprint !== undefined) used.add(fingerprint);
  }
  const removed = pruneEngines(settings.stateDir, used);
  if (removed.length > 0) log.info({ engines: removed }, 'removed engines that no VE uses any more');
}
