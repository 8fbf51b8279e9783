/** A VE that stands for a moment, so that what is read of its disk is of one instant. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readControl } from '../../kernel/cgroup.ts';
import type { VeRecord } from '../../store/types.ts';
import type { VeContext } from '../context.ts';

/** $1: group, $2: seconds. Lets it go on at the end of standard input, so also when whoever has frozen it dies, and after that time, should he do nothing any more. */
const GUARD = 'trap "" TERM INT HUP; word=$(timeout -s KILL "$2" head -n 1); [ "$word" = done ] || echo 0 >"$1/cgroup.freeze"';

/** How long a VE may stand, in milliseconds; and when it goes on by itself. */
export const LONGEST = 60_000;

/**
 * Do work while all processes of a running VE stand. It goes on afterwards, whatever happens, also when this daemon is killed. One that stands already is left as it is.
 * @returns what the work came to, and for how long the VE stood, in milliseconds
 * @throws VeldError `timeout` when it does not stand within 5 s; it runs then
 */
export async function whileStanding<T>({ resources }: Pick<VeContext, 'resources'>, ve: VeRecord, work: () => Promise<T>): Promise<{ result: T; stood: number }> {
  const group = resources.groups(ve.number).unified;
  if (readControl(group, 'cgroup.freeze') === '1') return { result: await work(), stood: 0 };
  const guard = spawn('/bin/sh', ['-c', GUARD, 'sh', group, String(2 * LONGEST / 1000)], { cwd: '/', stdio: ['pipe', 'ignore', 'ignore'], detached: true });
  const ended = once(guard, 'exit');
  ended.catch(() => {}); // said by the next but one
  guard.stdin.on('error', () => {}); // killed: the work goes on, and thaws below
  await once(guard, 'spawn');
  try {
    const began = performance.now();
    await resources.freeze(ve.number);
    let result: T;
    let stood: number;
    try {
      result = await work();
    } finally {
      stood = performance.now() - began;
      await resources.thaw(ve.number);
    }
    return { result, stood };
  } finally {
    guard.stdin.end('done\n');
    await ended;
  }
}
