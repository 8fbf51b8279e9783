/** Writes once a second what is counted of those VEs that read it inside (inside-beancounters.ts): nothing, where none does. */
import type { Logger } from '../lib/log.ts';

/** Time between two rounds, in milliseconds. */
const INTERVAL = 1000;

export interface BeancounterFilesOptions {
  /** Those that run and have the file. Cheap: asked once a second. */
  ves: () => readonly { uuid: string; name: string }[];
  /** Count, and write. @throws VeldError `ve.not_running` for one that has just ended */
  write: (uuid: string) => Promise<void>;
  log: Pick<Logger, 'error'>;
}

/**
 * Begin to write.
 * @returns ends it; settles when the round that was under way has
 */
export function writeBeancounterFiles({ ves, write, log }: BeancounterFilesOptions, interval = INTERVAL): () => Promise<void> {
  const failing = new Set<string>();
  let busy: Promise<void> | undefined;
  const round = async (): Promise<void> => {
    const all = ves();
    for (const { uuid, name } of all) {
      try {
        await write(uuid);
        failing.delete(uuid);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === 've.not_running' || code === 've.not_found' || code === 'ENOENT' || failing.has(uuid)) continue;
        log.error({ ve: uuid, name, err: error }, 'the beancounters that a VE reads inside cannot be written');
        failing.add(uuid); // said once, until it works again
      }
    }
    for (const uuid of failing) if (!all.some((one) => one.uuid === uuid)) failing.delete(uuid);
  };
  const timer = setInterval(() => {
    busy ??= round().catch((error: unknown) => log.error({ err: error }, 'it cannot be seen which VEs read beancounters inside')).finally(() => { busy = undefined; });
  }, interval);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await busy;
  };
}
