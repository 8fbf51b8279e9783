/**
 * Fault points: named places where a test can make the daemon die, fail or wait.
 *
 * `VELD_FAULT` holds `kill:NAME` (SIGKILL to this process), `fail:NAME` (an error is thrown), `stop:NAME` (SIGSTOP to this process: it goes on with SIGCONT) or
 * `skip:NAME` (a check is left out), all but the last optionally followed by `#N` for the N-th time that the point is reached (default: the first). `VELD_FAULT_LOG` names a file to which every
 * point that is reached is appended, so that a test can first list the points of an operation and then hit each one.
 * Without these variables a fault point is one comparison.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { appendFileSync } from 'node:fs';

const spec = process.env.VELD_FAULT;
const log = process.env.VELD_FAULT_LOG;
const wanted = spec === undefined ? undefined : /^(kill|fail|stop|skip):([^#]+)(?:#(\d+))?$/.exec(spec);
let seen = 0;
const background = new AsyncLocalStorage<true>();

/** Reach the fault point `name`. Throws, kills or stops only when a test asked for it. */
export function faultPoint(name: string): void {
  if ((log === undefined && !wanted) || background.getStore() === true) return;
  if (log !== undefined) appendFileSync(log, `${name}\n`);
  if (!wanted || wanted[1] === 'skip' || wanted[2] !== name) return;
  seen += 1;
  if (seen !== Number(wanted[3] ?? 1)) return;
  if (wanted[1] === 'kill') process.kill(process.pid, 'SIGKILL');
  if (wanted[1] === 'stop') {
    process.kill(process.pid, 'SIGSTOP');
    return;
  }
  throw new Error(`injected failure at ${name}`);
}

/** Whether a test wants the check `name` left out, to see what it protects from. */
export function isSkipped(name: string): boolean {
  return wanted?.[1] === 'skip' && wanted[2] === name;
}

/** Do work whose fault points do not count: what runs by the clock would take the faults that are meant for operations. */
export function withoutFaults<T>(work: () => T): T {
  return background.run(true, work);
}
