/** What a VE's init wrote to its console, kept by conmon over all boots of the VE (bounded at 1 MiB). */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';

/** conmon's file; format `k8s-file`: `TIME STREAM F|P TEXT`, P for a part of a line. */
export function consoleLogFile(settings: Settings, uuid: string): string {
  return join(settings.stateDir, 'logs', `${uuid}.console`);
}

/** The console log as text, each line with its time. @param tail lines from the end; all without it */
export function consoleLog(settings: Settings, uuid: string, tail?: number): string {
  const lines: string[] = [];
  let open = '';
  for (const row of (readIfExists(consoleLogFile(settings, uuid)) ?? '').split('\n')) {
    const match = /^(\S+) std(?:out|err) ([FP]) ?(.*?)\r?$/.exec(row);
    if (!match) continue;
    open += open === '' ? `${match[1]} ${match[3]}` : match[3];
    if (match[2] === 'P') continue;
    lines.push(open);
    open = '';
  }
  if (open) lines.push(open);
  const wanted = tail === undefined ? lines : lines.slice(Math.max(0, lines.length - tail));
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
