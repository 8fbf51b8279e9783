/** Commands from outside that run in VEs, so that a verb which must end them can tell why. */
export interface SessionRegistry {
  /**
   * A command has begun.
   * @param onInterrupt called at most once, with the reason, when it is to end
   * @returns to be called at its end
   */
  enter(ve: string, onInterrupt: (why: string) => void): () => void;
  /** End all commands of a VE. */
  interrupt(ve: string, why: string): void;
}

/** Make an empty registry. */
export function createSessionRegistry(): SessionRegistry {
  const running = new Map<string, Set<(why: string) => void>>();
  return {
    enter(ve, onInterrupt) {
      const all = running.get(ve) ?? new Set();
      running.set(ve, all.add(onInterrupt));
      return () => {
        all.delete(onInterrupt);
        if (all.size === 0 && running.get(ve) === all) running.delete(ve);
      };
    },
    interrupt(ve, why) {
      const all = running.get(ve);
      running.delete(ve);
      for (const onInterrupt of all ?? []) onInterrupt(why);
    },
  };
}
