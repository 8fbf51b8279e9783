/** Which running VEs have files of an lxcfs that is not the one that serves now. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { lxcfsBinds, lxcfsSource, parseMountTable } from '../kernel/lxcfs-mounts.ts';
import type { ExchangeTarget } from '../kernel/lxcfs-mend.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { readRunState, runFolder } from './run-folder.ts';

/** A VE to be mended. */
export interface StaleVe extends ExchangeTarget {
  uuid: string;
  name: string;
}

/**
 * Look at the mount tables of all inits; lxcfs itself is not asked.
 * @param device of the lxcfs that serves now
 * @param only looks at this VE alone
 */
export function staleVes({ settings, store, resources }: Pick<VeContext, 'settings' | 'store' | 'resources'>, device: string, only?: string): StaleVe[] {
  const ves = only === undefined ? store.listVes() : [store.veByUuid(only)];
  return ves.flatMap((ve) => {
    const init = ve && readRunState(settings, ve.number).init;
    if (!ve || !init) return [];
    try {
      const binds = lxcfsBinds(parseMountTable(readFileSync(`/proc/${init.pid}/mountinfo`, 'utf8')), lxcfsSource(settings.instance));
      const attach = binds.length === 0 && bootedWithoutLxcfs(settings, ve);
      if (!attach && binds.every((bind) => bind.device === device)) return [];
      return [{ ...init, uuid: ve.uuid, name: ve.name, group: resources.groups(ve.number).unified, attach }];
    } catch {
      return []; // it has just ended
    }
  });
}

/** Else a VE without binds has taken them off itself, and may have its way. */
function bootedWithoutLxcfs(settings: VeContext['settings'], ve: VeRecord): boolean {
  return !readFileSync(join(runFolder(settings, ve.number), 'config.json'), 'utf8').includes('/lxcfs/proc/');
}
