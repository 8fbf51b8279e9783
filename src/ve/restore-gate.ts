/**
 * A restore that stops in its last moment: everything of the VE is there, nothing of it runs, and libexec/veld-criu-hook waits for a word. Without one, also when
 * this process ends, the restore is given up.
 */
import { closeSync, openSync, statSync, watch } from 'node:fs';
import { join } from 'node:path';
import { flockNow } from '../kernel/syscalls.ts';
import { putFile } from './run-folder.ts';

export interface RestoreGate {
  /** Why it stays shut; undefined while nothing says that it will. */
  failure(): unknown;
  /** Leave it as it is: shut, unless the word was given. */
  close(): void;
}

/**
 * Shut the gate before a restore begins.
 * @param folder the VE's run folder
 * @param decide called once, when the restore waits at the gate: it opens when this resolves, and stays shut when it rejects
 */
export function shutGate(folder: string, decide: () => Promise<void>): RestoreGate {
  putFile(folder, 'gate', '');
  const fd = openSync(join(folder, 'gate'), 'r+');
  let open = true;
  let failure: unknown;
  const close = (): void => {
    if (!open) return;
    open = false;
    watcher.close();
    closeSync(fd);
  };
  let asked = false;
  const watcher = watch(folder, (_event, name) => {
    if (asked || name !== 'at-gate' || !statSync(join(folder, name), { throwIfNoEntry: false })) return;
    asked = true;
    decide().then(() => putFile(folder, 'go', '')).catch((error: unknown) => { failure = error; }).finally(close);
  });
  flockNow(fd);
  return { failure: () => failure, close };
}
