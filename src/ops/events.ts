/** What happens, told to whoever listens. Kept in memory: a ring of the last events, so that a listener who was away can catch up. */
import type { VeldEvent } from './types.ts';

/** How many events the ring holds. */
const KEPT = 1000;

/** A line to which parts of the daemon report, and from which others hear. */
export interface EventBus {
  /** Tell all listeners, in order, before it returns. A listener that throws hurts nobody. */
  emit(type: string, about?: { ve?: string; data?: Record<string, unknown> }): VeldEvent;
  /** @returns the way to stop listening */
  subscribe(listener: (event: VeldEvent) => void): () => void;
  /** Kept events with a higher `seq`, oldest first. Where the first one's is more than one higher, some are forgotten. */
  since(seq: number): VeldEvent[];
  /** `seq` of the newest event; 0 before the first. It begins anew with each daemon. */
  readonly last: number;
}

/**
 * Make an event bus.
 * @param onError told when a listener throws
 */
export function createEventBus(onError: (error: unknown) => void = () => {}): EventBus {
  const ring: VeldEvent[] = [];
  const listeners = new Set<{ call: (event: VeldEvent) => void }>();
  let last = 0;
  return {
    get last() {
      return last;
    },
    emit(type, about = {}) {
      last += 1;
      const event: VeldEvent = { seq: last, time: new Date().toISOString(), type, ...about };
      ring.push(event);
      if (ring.length > KEPT) ring.shift();
      for (const listener of Array.from(listeners)) {
        try {
          listener.call(event);
        } catch (error) {
          onError(error);
        }
      }
      return event;
    },
    subscribe(call) {
      const listener = { call };
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    since(seq) {
      return ring.filter((event) => event.seq > seq);
    },
  };
}
