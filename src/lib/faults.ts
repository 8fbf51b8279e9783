/**
 * Fault points: named places where a test can make the daemon die, fail or wait.
 *
 * `VELD_FAULT` holds `kill:NAME` (SIGKILL to this process), `fail:NAME` (an error is thrown), `stop:NAME` (SIGSTOP to this process: it goes on with SIGCONT) or
 * `skip:NAME` (a check is left out), all but the last optionally followed by `#N` for the N-th time that the point is reached (default: the first). `VELD_FAULT_LOG` names a file to which every
 * point that is reached is appended, so that a test can first list the points of an operation and then hit each one.
 * `VELD_FAULT=@FILE` has the same looked up in a file at each point, for as long as there is one: who runs for many trials need not be started anew for each. It is removed when it is hit.
 * Without these variables a fault point is one comparison.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { appendFileSync, readFileSync, rmSync } from 'node:fs';

const spec = process.env.VELD_FAULT;
const log = process.env.VELD_FAULT_LOG;
const file = spec?.startsWith('@') ? spec.slice(1) : undefined;
const parse = (text: string | undefined): RegExpExecArray | null => (text === undefined ? null : /^(kill|fail|stop|skip):([^#]+)(?:#(\d+))?$/.exec(text));
const fixed = parse(spec);
let seen = 0;
const background = new AsyncLocalStorage<true>();

/** Reach the fault point `name`. Throws, kills or stops only when a test asked for it. */
export function faultPoint(name: string): void {
  if ((log === undefined && spec === undefined) || background.getStore() === true) return;
  if (log !== undefined) appendFileSync(log, `${name}\n`);
  const wanted = file === undefined ? fixed : parse(lookUp(file));
  if (!wanted || wanted[1] === 'skip' || wanted[2] !== name) return;
  if (file === undefined) {
    seen += 1;
    if (seen !== Number(wanted[3] ?? 1)) return;
  } else {
    rmSync(file);
  }
  if (wanted[1] === 'kill') process.kill(process.pid, 'SIGKILL');
  if (wanted[1] === 'stop') {
    process.kill(process.pid, 'SIGSTOP');
    return;
  }
  throw new Error(`injected failure at ${name}`);
}

function lookUp(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** Whether a test wants the check `name` left out, to see what it protects from. */
export function isSkipped(name: string): boolean {
  return fixed?.[1] === 'skip' && fixed[2] === name;
}

/** Do work whose fault points do not count: what runs by the clock would take the faults that are meant for operations. */
export function withoutFaults<T>(work: () => T): T {
  return background.run(true, work);
}
