/** What a VE's init wrote to its console, kept by conmon over all boots of the VE (bounded at 1 MiB). */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';

/** conmon's file; format `k8s-file`: `TIME STREAM F|P TEXT`, P for a part of a line. */
export function consoleLogFile(settings: Settings, uuid: string): string {
  return join(settings.stateDir, 'logs', `${uuid}.console`);
}

/** Makes lines of conmon's rows, as they come. */
export interface ConsoleRows {
  /** @param text more of the file @returns the lines that it completes, each with its time */
  read(text: string): string[];
  /** Whether a line has begun and not ended. */
  unfinished(): boolean;
  /** The line that has begun, as far as it goes; it counts as ended then. */
  flush(): string[];
}

/** A reader of the format; a row may come in pieces. */
export function consoleRows(): ConsoleRows {
  let rest = '';
  let open = '';
  return {
    read(text) {
      const rows = (rest + text).split('\n');
      rest = rows.pop() ?? '';
      const lines: string[] = [];
      for (const row of rows) {
        const match = /^(\S+) std(?:out|err) ([FP]) ?(.*?)\r?$/.exec(row);
        if (!match) continue;
        open += open === '' ? `${match[1]} ${match[3]}` : match[3];
        if (match[2] === 'P') continue;
        lines.push(open);
        open = '';
      }
      return lines;
    },
    unfinished: () => open !== '',
    flush() {
      const lines = open === '' ? [] : [open];
      open = '';
      return lines;
    },
  };
}

/** The last of them. @param tail how many; all without it */
export function lastLines(lines: readonly string[], tail?: number): readonly string[] {
  return tail === undefined ? lines : lines.slice(Math.max(0, lines.length - tail));
}

/** The console log as text, each line with its time. @param tail lines from the end; all without it */
export function consoleLog(settings: Settings, uuid: string, tail?: number): string {
  const rows = consoleRows();
  const lines = rows.read(`${readIfExists(consoleLogFile(settings, uuid)) ?? ''}\n`);
  const wanted = lastLines([...lines, ...rows.flush()], tail);
  return wanted.length ? `${wanted.join('\n')}\n` : '';
}

/** The end of the log in one line, for error messages. @param since leaves out what was said before */
export function lastWords(settings: Settings, uuid: string, since = new Date(0)): string {
  // eslint-disable-next-line no-control-regex -- escape sequences of a console are no help in a message
  return consoleLog(settings, uuid, 3).split('\n').filter((line) => !(Date.parse(line.split(' ', 1)[0]!) < since.getTime())).join('\n').replace(/^\S+ /gm, '').replace(/\x1b\[[0-9;]*[A-Za-z]/g, '').trim().replaceAll('\n', ' / ').slice(-400);
}

/** Forget the log of a destroyed VE. */
export function removeLogs(settings: Settings, uuid: string): void {
  rmSync(consoleLogFile(settings, uuid), { force: true });
}
