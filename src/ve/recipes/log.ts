/** The log of a build: what its lines have said. Kept for the last build of each name, whether that came to something or not. */
import { closeSync, mkdirSync, openSync, readdirSync, rmSync, statSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { readIfExists } from '../../lib/files.ts';
import type { Settings } from '../../lib/settings.ts';

/** Most bytes of one log: the rest is left out, and said to be. */
const MOST = 4 << 20;
/** How many logs are kept, the newest. */
const KEPT = 50;
/** How many of the last lines are told with a failure, and how long each may be there. */
const LAST = { lines: 12, characters: 300 };

export interface BuildLog {
  /** A line of Veld's own. */
  say(text: string): void;
  /** What a program has said, as it comes. */
  write(chunk: Buffer): void;
  /** The last lines that programs have said since the last line of Veld's own. */
  last(): string[];
  close(): void;
}

const folderOf = (settings: Pick<Settings, 'stateDir'>): string => join(settings.stateDir, 'builds');

/** Begin the log of a build, in the place of an earlier one. @param name of the template, checked */
export function openBuildLog(settings: Pick<Settings, 'stateDir'>, name: string): BuildLog {
  const folder = folderOf(settings);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const fd = openSync(join(folder, `${name}.log`), 'w', 0o600);
  forgetOld(folder);
  let written = 0;
  let lines: string[] = [];
  let rest = '';
  const put = (data: Buffer): void => {
    if (written >= MOST) return;
    writeSync(fd, data.subarray(0, MOST - written));
    written += data.length;
    if (written >= MOST) writeSync(fd, '\n(The rest was left out.)\n');
  };
  return {
    say(text) {
      put(Buffer.from(`${rest === '' ? '' : '\n'}== ${new Date().toISOString()} ${text}\n`));
      [lines, rest] = [[], ''];
    },
    write(chunk) {
      put(chunk);
      const parts = (rest + chunk.toString('utf8')).split(/[\r\n]+/);
      rest = parts.pop()!.slice(-LAST.characters);
      lines = [...lines, ...parts.filter((line) => line.trim() !== '').map((line) => line.slice(0, LAST.characters))].slice(-LAST.lines);
    },
    last: () => [...lines, ...rest.trim() === '' ? [] : [rest]].slice(-LAST.lines),
    close: () => closeSync(fd),
  };
}

/** @returns the log of the last build of a template of that name @throws VeldError `recipe.not_found` */
export function readBuildLog(settings: Pick<Settings, 'stateDir'>, name: string): string {
  const text = /^[a-z][a-z0-9.+-]{0,62}$/.test(name) ? readIfExists(join(folderOf(settings), `${name}.log`)) : undefined;
  if (text === undefined) throw new VeldError('recipe.not_found', `No build of ${JSON.stringify(name.slice(0, 80))} from a recipe has left a log.`, { hint: 'Logs are called as the templates that were to be.' });
  return text;
}

function forgetOld(folder: string): void {
  const logs = readdirSync(folder).map((name) => ({ path: join(folder, name), time: statSync(join(folder, name)).mtimeMs })).toSorted((a, b) => b.time - a.time);
  for (const { path } of logs.slice(KEPT)) rmSync(path, { force: true });
}
