/**
 * Looks every few seconds whether somebody took the network away from under the VEs, and puts it back.
 *
 * Restarts of nftables or systemd-networkd remove what they do not know and tell nobody. A look is three or four short programs, some
 * 15 ms of CPU time; the kernel's own notices would come at once, but also at each change that anybody makes, Veld itself included.
 */
import { withoutFaults } from '../lib/faults.ts';
import type { Logger } from '../lib/log.ts';

/** Time between two looks, in milliseconds: as long as VEs may be without their walls. */
const INTERVAL = 5000;

/** Puts back what is missing. @returns what that was, in words */
export type Mender = () => Promise<string[]>;

/**
 * Begin to look.
 * @param menders each fails for itself
 * @returns how to end it; settles when the look that was under way has
 */
export function mendNetwork(menders: readonly Mender[], log: Logger, interval = INTERVAL): () => Promise<void> {
  const failing = new Set<Mender>();
  let busy: Promise<void> | undefined;
  const look = async (): Promise<void> => {
    for (const mend of menders) {
      try {
        const lost = await withoutFaults(mend);
        if (lost.length > 0) log.warn({ lost }, 'parts of the network of VEs were gone; they are back');
        failing.delete(mend);
      } catch (error) {
        if (!failing.has(mend)) log.error({ err: error }, 'the network of VEs is not whole, and cannot be mended');
        failing.add(mend); // said once, until it works again
      }
    }
  };
  const timer = setInterval(() => {
    busy ??= look().finally(() => { busy = undefined; });
  }, interval);
  timer.unref();
  return async () => {
    clearInterval(timer);
    await busy;
  };
}
