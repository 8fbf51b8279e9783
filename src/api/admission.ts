/** Who may begin a command or attach to a console, and how many there may be at a time. */
import { VeldError } from '../lib/errors.ts';
import type { VeView } from '../ve/types.ts';
import type { Metrics } from './metrics.ts';

const RUNNING_LIMIT = 512;

/** Errors of whatever runs a program in a VE. */
export const EXEC_ERRORS = ['ve.not_found', 've.not_running', 've.frozen', 've.busy', 'exec.not_found', 'exec.not_executable', 'exec.failed', 'engine.missing',
  'daemon.overloaded'] as const;

/**
 * Count one more.
 * @returns takes it off again; to be called once
 * @throws VeldError `daemon.overloaded`
 */
export function admitSession(metrics: Metrics): () => void {
  if (metrics.runningCommands >= RUNNING_LIMIT) throw new VeldError('daemon.overloaded', `${RUNNING_LIMIT} commands run already.`);
  metrics.runningCommands += 1;
  return () => { metrics.runningCommands -= 1; };
}

/** The same VE, if commands can run in it. @throws VeldError `ve.frozen`, `ve.not_running` */
export function checkEnterable(view: VeView): VeView {
  if (view.status === 'frozen') throw new VeldError('ve.frozen', `${view.name} is frozen.`);
  if (view.status !== 'running') throw new VeldError('ve.not_running', `${view.name} is ${view.status}.`);
  return view;
}

/** What the audit log says of a command: arguments and environment may hold secrets. */
export function describeCommand(request: { command: string[]; user?: string; tty?: unknown }): Record<string, unknown> {
  return { program: request.command[0]?.slice(0, 200), arguments: request.command.length - 1, user: request.user ?? 'root', terminal: request.tty != null };
}
