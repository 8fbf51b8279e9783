/** A shell line on a terminal of its own, for what only happens to people: raw mode, keys, sizes. The terminal is that of script(1). */
import { spawn, spawnSync } from 'node:child_process';
import { CLI } from './program.ts';
import { until } from './wait.ts';

export interface UserTerminal {
  /** Everything shown so far. */
  shown(): string;
  /** Press keys. */
  type(keys: string): void;
  /** Wait until something is shown. */
  shows(what: string | RegExp): Promise<unknown>;
  /** Change the terminal's size; the program in the foreground gets SIGWINCH. */
  resize(columns: number, rows: number): void;
  /** Settings as `stty -g` printed them before the line and after it. */
  settings(): string[];
  /** Settles when the line has ended and the terminal is gone. */
  ended: Promise<void>;
  /** Close the terminal, as a closed window does. */
  hangUp(): void;
}

/**
 * Open a terminal with 80 columns and 24 rows and run a line of sh in it; `veld` is the command line of this tree.
 * After the line it shows `status=N`.
 */
export function openTerminal(line: string, settingsFile: string): UserTerminal {
  const all = `stty rows 24 cols 80; echo "tty=$(tty)"; stty -g; veld() { "$NODE" $CLI "$@"; }; ${line}\necho "status=$?"; stty -g`;
  const child = spawn('script', ['-qec', all, '/dev/null'], {
    env: { PATH: process.env.PATH, SHELL: '/bin/sh', TERM: 'xterm', VELD_SETTINGS: settingsFile, NODE: process.execPath, CLI: CLI.join(' ') },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let shown = '';
  child.stdout.on('data', (chunk: Buffer) => { shown += chunk.toString('utf8'); });
  child.stdin.on('error', () => {}); // it may have ended
  return {
    shown: () => shown,
    type: (keys) => { child.stdin.write(keys); },
    shows: (what) => until(`the terminal to show ${String(what)}`, () => {
      if (typeof what !== 'string') return shown.match(what);
      return shown.includes(what);
    }, 20_000).catch((error: unknown) => { throw new Error(`${String(error)}; it shows:\n${shown}`, { cause: error }); }),
    resize(columns, rows) {
      const tty = /tty=(\/dev\/\S+)/.exec(shown)?.[1] ?? '';
      const done = spawnSync('stty', ['-F', tty, 'rows', String(rows), 'cols', String(columns)], { encoding: 'utf8' });
      if (done.status !== 0) throw new Error(done.stderr);
    },
    settings: () => shown.split(/\r?\n/).filter((text) => /^[0-9a-f]+(:[0-9a-f]+){10,}$/.test(text)),
    ended: new Promise((resolve) => { child.on('close', () => resolve()); }),
    hangUp: () => { child.kill('SIGKILL'); },
  };
}
