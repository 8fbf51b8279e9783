/** A dump or a restore has no end of its own that could be told beforehand: it is ended when nothing goes on in it any more. */
import { watchCriu, type CriuWatch } from '../kernel/criu-watch.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { runFolder } from './run-folder.ts';

/** Watch over the criu that is about to work on a VE. */
export function superviseCriu({ settings, log }: VeContext, ve: VeRecord): CriuWatch {
  return watchCriu(runFolder(settings, ve.number), settings.checkpoint.stallTimeout * 1000, (processes) => {
    log.error({ ve: ve.uuid, name: ve.name, processes: processes.map(({ pid, comm, state }) => `${pid} ${comm} ${state}`) }, 'criu does nothing any more, and is ended');
  });
}
