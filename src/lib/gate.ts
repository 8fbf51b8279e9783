/** A gate for work of which much may go on side by side, and some only alone: the latter waits for the former, and holds up what comes after. */
export interface Gate {
  /** Run beside other shared work. */
  shared<T>(work: () => Promise<T>): Promise<T>;
  /** Run when nothing else runs. In the order of calls. */
  alone<T>(work: () => Promise<T>): Promise<T>;
}

/** Make a gate that is open. */
export function createGate(): Gate {
  const going = new Set<Promise<unknown>>();
  /** Settles when the last that was asked to run alone has ended. */
  let closed: Promise<unknown> = Promise.resolve();
  return {
    async shared(work) {
      for (let now; now !== closed;) await (now = closed);
      const run = work();
      const ended = run.catch(() => {}).finally(() => going.delete(ended));
      going.add(ended);
      return run;
    },
    alone(work) {
      const run = closed.then(() => Promise.all(going)).then(work);
      closed = run.catch(() => {});
      return run;
    },
  };
}
