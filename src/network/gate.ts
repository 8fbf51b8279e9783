/** Changes that go together, and one that goes alone: the table is not made anew while somebody changes it. */
export interface Gate {
  share<T>(work: () => Promise<T>): Promise<T>;
  /** After all that is under way; what comes meanwhile waits. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

export function createGate(): Gate {
  const shared = new Set<Promise<unknown>>();
  let last: Promise<unknown> = Promise.resolve();
  const settled = (promise: Promise<unknown>): Promise<unknown> => promise.then(() => {}, () => {});

  return {
    async share(work) {
      for (let seen; seen !== last;) {
        seen = last;
        await settled(seen);
      }
      const running = work();
      const entry = settled(running);
      shared.add(entry);
      try {
        return await running;
      } finally {
        shared.delete(entry);
      }
    },
    alone(work) {
      const before = last;
      const running = settled(before).then(() => Promise.all(shared)).then(work);
      last = settled(running);
      return running;
    },
  };
}
