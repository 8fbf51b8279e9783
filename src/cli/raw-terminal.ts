/** The user's terminal in raw mode, and its way back. */
import { spawnSync } from 'node:child_process';
import type { ReadStream, WriteStream } from 'node:tty';

/** Signals that would end this process with the terminal still raw. SIGKILL cannot be met. */
const DEADLY: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** Leave what a program that was cut off may have left on: alternate screen, hidden cursor, no wrapping, mouse reports, bracketed paste, colours. */
const RESET_SCREEN = '\x1b[?7h\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m';

/**
 * Put the terminal into raw mode: every key goes to the VE, Ctrl-C too. It is restored when the returned function is called,
 * when this process exits in whatever way, and when a signal ends it. Does nothing when `input` is no terminal.
 * @returns restores; may be called more than once
 */
export function rawTerminal(input: ReadStream & { isRaw?: boolean }, output: WriteStream): () => void {
  if (!input.isTTY) return () => {};
  const before = input.isRaw ?? false;
  let raw = true;
  const restore = (): void => {
    if (!raw) return;
    raw = false;
    process.off('exit', onExit);
    process.off('SIGCONT', onContinue);
    for (const signal of DEADLY) process.off(signal, onSignal);
    try {
      input.setRawMode(before);
    } catch {
      // The terminal is gone (hang-up): there is nothing to restore.
    }
  };
  const onExit = (): void => {
    if (output.isTTY) output.write(RESET_SCREEN);
    restore();
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    onExit();
    process.kill(process.pid, signal); // our handler is off: now it does what it does to everybody
  };
  // The shell that had the terminal meanwhile put it back into its own mode.
  const onContinue = (): void => {
    input.setRawMode(false);
    makeRaw(input);
  };
  process.on('exit', onExit);
  process.on('SIGCONT', onContinue);
  for (const signal of DEADLY) process.on(signal, onSignal);
  makeRaw(input);
  return restore;
}

/**
 * Node's raw mode still turns each line feed that is put out into carriage return and line feed. The VE's terminal has done that where it is
 * wanted; a full-screen program that moves the cursor down by a line feed would find it at the left edge. Without stty it stays so.
 * The way back needs nothing more: Node restores all settings that it found.
 */
function makeRaw(input: ReadStream): void {
  input.setRawMode(true);
  spawnSync('/usr/bin/stty', ['-opost'], { stdio: ['inherit', 'ignore', 'ignore'], env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } });
}
