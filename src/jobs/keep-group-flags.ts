/** Keeps the options of cgroup2 (src/kernel/group-flags.ts): after each operation, since criu takes them away, and every few seconds for whoever else does. */
import { withoutFaults } from '../lib/faults.ts';
import type { Logger } from '../lib/log.ts';

/** Time between two looks without an operation, in milliseconds. */
const INTERVAL = 5000;

export interface GroupFlags {
  /** Look now. */
  look(): Promise<void>;
  /** Settles when the look that was under way has. */
  close(): Promise<void>;
}

/** Begin to look. @param mend sets what is missing, and says what that was */
export function keepGroupFlags(mend: () => Promise<string[]>, log: Logger, interval = INTERVAL): GroupFlags {
  let failing = false;
  let busy: Promise<void> | undefined;
  let again = false;
  const once = async (): Promise<void> => {
    try {
      const missing = await withoutFaults(mend);
      if (missing.length > 0) log.debug({ missing }, 'options of cgroup2 were taken away; they are back');
      failing = false;
    } catch (error) {
      if (!failing) log.error({ err: error }, 'options of cgroup2 were taken away, and cannot be set: what VEs are guaranteed of memory is not kept');
      failing = true; // said once, until it works again
    }
  };
  const look = (): Promise<void> => {
    again = true; // what is taken away during a look is seen by another one
    busy ??= (async () => {
      while (again) {
        again = false;
        await once();
      }
    })().finally(() => { busy = undefined; });
    return busy;
  };
  const timer = setInterval(() => void look(), interval);
  timer.unref();
  return {
    look,
    async close() {
      clearInterval(timer);
      await busy;
    },
  };
}
