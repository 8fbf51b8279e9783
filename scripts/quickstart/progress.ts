/** Shows how far quickstart is: one line per step and change, percentages over all of them, also where steps run side by side. */

/** A step of the whole. */
export interface Step {
  /** @param share 0 to 1 of this step @param message what is being done */
  at(share: number, message: string): void;
  /** The step is over. @param message what is there now */
  done(message: string): void;
}

export interface Progress {
  /** @param weight share of the whole, in percent @param name as shown */
  step(weight: number, name: string): Step;
  /** A line that must be seen. */
  loud(message: string): void;
  /** Steps with their seconds, longest last. */
  timings(): { name: string; seconds: number }[];
}

/** @param from percent that is already done */
export function createProgress(from: number, write: (line: string) => void = (line) => void process.stdout.write(`${line}\n`)): Progress {
  const shares: { weight: number; share: number; name: string; begun: number; ended?: number }[] = [];
  const total = (): number => Math.min(99, Math.floor(from + shares.reduce((sum, { weight, share }) => sum + weight * share, 0)));
  const show = (text: string): void => write(`[${String(total()).padStart(3)} %] ${text}`);
  return {
    step(weight, name) {
      const mine: (typeof shares)[number] = { weight, share: 0, name, begun: performance.now() };
      shares.push(mine);
      let last = '';
      return {
        at(share, message) {
          mine.share = Math.max(mine.share, Math.min(1, share));
          if (message === last) return;
          last = message;
          show(`${name}: ${message}`);
        },
        done(message) {
          mine.share = 1;
          mine.ended = performance.now();
          const seconds = (mine.ended - mine.begun) / 1000;
          show(`${name}: ${message}${seconds >= 0.1 ? ` (${seconds.toFixed(1)} s)` : ''}`);
        },
      };
    },
    loud(message) {
      write(`\n  !!  ${message}\n`);
    },
    timings: () => shares.filter(({ ended }) => ended !== undefined).map(({ name, begun, ended = begun }) => ({ name, seconds: (ended - begun) / 1000 }))
      .toSorted((a, b) => a.seconds - b.seconds),
  };
}
