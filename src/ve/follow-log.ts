/** A console as it grows: woken by the kernel (inotify) when conmon writes, not by a clock. */
import { closeSync, fstatSync, openSync, readSync, statSync, watch, type FSWatcher } from 'node:fs';
import { basename, dirname } from 'node:path';
import { StringDecoder } from 'node:string_decoder';
import type { Settings } from '../lib/settings.ts';
import { consoleLogFile, consoleRows, lastLines } from './logs.ts';

/** A line that stays unfinished for this long is told as far as it goes: a prompt never ends. Milliseconds. */
const UNFINISHED = 1000;
/** Where the kernel has no more watches to give. Milliseconds. */
const POLL = 500;
const CHUNK = 64 << 10;

/**
 * Lines of the console, first those that are there, then each as it comes, until `signal` is aborted or the log is removed with its VE.
 * @param tail how many of those that are there; all without it
 */
export async function* followConsole(settings: Settings, uuid: string, { tail, signal }: { tail?: number; signal: AbortSignal }): AsyncGenerator<string> {
  const file = consoleLogFile(settings, uuid);
  const waker = wakeOn(file, signal);
  let log: OpenLog | undefined;
  const rows = consoleRows();
  try {
    log = openLog(file);
    yield* lastLines(log ? rows.read(log.read()) : [], tail);
    while (!signal.aborted) {
      const woken = await waker.wait(rows.unfinished() ? UNFINISHED : undefined);
      if (signal.aborted) return;
      const lines = log ? rows.read(log.read()) : [];
      if (!log || log.isReplaced()) {
        const next = openLog(file);
        if (log && !next) return; // destroyed
        log?.close();
        log = next;
        if (log) lines.push(...rows.read(log.read()));
      }
      yield* lines;
      if (!woken && lines.length === 0) yield* rows.flush();
    }
  } finally {
    log?.close();
    waker.close();
  }
}

interface OpenLog {
  /** What came since the last read. */
  read(): string;
  /** conmon begins a new file under the same name when this one has become too large. */
  isReplaced(): boolean;
  close(): void;
}

function openLog(file: string): OpenLog | undefined {
  let fd: number;
  try {
    fd = openSync(file, 'r');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  const { ino } = fstatSync(fd);
  const decoder = new StringDecoder('utf8');
  const buffer = Buffer.alloc(CHUNK);
  return {
    read() {
      let text = '';
      for (let count = readSync(fd, buffer); count > 0; count = readSync(fd, buffer)) text += decoder.write(buffer.subarray(0, count));
      return text;
    },
    isReplaced: () => statSync(file, { throwIfNoEntry: false })?.ino !== ino,
    close: () => closeSync(fd),
  };
}

interface Waker {
  /** Wait for a change. @param timeout milliseconds @returns whether there was one */
  wait(timeout: number | undefined): Promise<boolean>;
  close(): void;
}

/** The folder is watched, because the file may not be there yet and is replaced now and then. A change between two waits is not lost. */
function wakeOn(file: string, signal: AbortSignal): Waker {
  let changed = false;
  let wake = (): void => {};
  const change = (): void => {
    changed = true;
    wake();
  };
  let watcher: FSWatcher | undefined;
  let poll: NodeJS.Timeout | undefined;
  try {
    watcher = watch(dirname(file), (_, name) => { if (name === null || name === basename(file)) change(); });
    watcher.on('error', change);
  } catch {
    poll = setInterval(change, POLL);
  }
  signal.addEventListener('abort', change, { once: true });
  return {
    async wait(timeout) {
      let timer: NodeJS.Timeout | undefined;
      if (!changed) {
        await new Promise<void>((resolve) => {
          wake = resolve;
          if (timeout !== undefined) timer = setTimeout(resolve, timeout);
        });
        clearTimeout(timer);
      }
      const was = changed;
      changed = false;
      return was;
    },
    close() {
      watcher?.close();
      clearInterval(poll);
      signal.removeEventListener('abort', change);
    },
  };
}
