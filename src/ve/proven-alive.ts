/** Proves that the init of a VE lives: a start that only made a process has proven nothing. */
import { watch } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { LAST_WORDS } from '../lib/last-words.ts';
import { isAlive, type ProcessId } from '../kernel/process.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import { settled } from './clean-up.ts';
import type { VeContext } from './context.ts';
import { initKind, INITS } from './inits.ts';
import { lastWords } from './logs.ts';
import { readRunState } from './run-folder.ts';

/** A boot under way. */
export interface Boot {
  ve: VeRecord;
  properties: Properties;
  /** When it began. */
  since: Date;
}

/**
 * Wait until init has shown that it is up, in the way of its kind ({@link INITS}).
 * @throws VeldError `ve.init_died` with its last words, `ve.start_failed` when nothing came within boot.timeout, `exec.not_found` and
 *   `exec.not_executable` for the command of an application VE
 */
export async function provenAlive(context: VeContext, boot: Boot, init: ProcessId, signal: AbortSignal): Promise<void> {
  const { ve, properties } = boot;
  const group = context.resources.groups(ve.number).unified;
  const started = performance.now();
  const limit = properties['boot.timeout'] * 1000;
  await new Promise<void>((resolve, reject) => {
    const look = (): void => {
      const elapsed = performance.now() - started;
      const kind = initKind(init);
      if (signal.aborted) finish(signal.reason as Error);
      else if (!isAlive(init)) void initDied(context, boot).then(finish, finish);
      else if (kind !== undefined && INITS[kind].isUp(init, group, elapsed)) finish();
      else if (elapsed > limit) finish(new VeldError('ve.start_failed', `The init of ${ve.name} has not come up within ${limit / 1000} s.`));
    };
    const watchers = [watch(group, look), watch(join(context.settings.runDir, 'events'), look)];
    const timer = setInterval(look, 25); // only for what no watch tells: signals, descriptors, the time that passes
    const finish = (error?: Error): void => {
      for (const watcher of watchers) watcher.close();
      clearInterval(timer);
      if (error) reject(error);
      else resolve();
    };
    look();
  });
}

/** Why the start of a VE whose init has ended failed; undefined when it did not: the command of an application VE has done its work. */
export async function initDied(context: VeContext, { ve, properties, since }: Boot): Promise<VeldError | undefined> {
  await settled(context, ve.number); // veld-exit writes its status only after conmon has seen the end
  const code = readRunState(context.settings, ve.number).exited?.code;
  const words = lastWords(context.settings, ve.uuid, since);
  const command = properties['boot.command'];
  if (command !== null && code === 0) return undefined;
  const ended = `${code === undefined ? '' : ` with status ${code}`}${words ? `; ${LAST_WORDS} ${words}` : ' without a word.'}`;
  if (command === null) return new VeldError('ve.init_died', `The init of ${ve.name} died at boot${ended}`, { details: { exit: code ?? null } });
  // How the init of application VEs says that there was nothing that it could run.
  const reason = /\(catatonit:\d+\): failed to exec pid1: (.*)/.exec(words)?.[1];
  if (reason === undefined) return new VeldError('ve.init_died', `The command of ${ve.name} ended at once${ended}`, { details: { exit: code ?? null } });
  const text = `The command of ${ve.name}, ${JSON.stringify(command[0]?.slice(0, 200))}, cannot be run: ${reason}.`;
  return /No such file/.test(reason) ? new VeldError('exec.not_found', text) : new VeldError('exec.not_executable', text);
}
