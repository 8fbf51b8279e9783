/** The user's terminal in raw mode, and its way back. */
import type { ReadStream, WriteStream } from 'node:tty';

/** Signals that would end this process with the terminal still raw. SIGKILL cannot be met. */
const DEADLY: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];

/** Leave what a program that was cut off may have left on: alternate screen, hidden cursor, mouse reports, bracketed paste, colours. */
const RESET_SCREEN = '\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?2004l\x1b[0m';

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
    input.setRawMode(true);
  };
  process.on('exit', onExit);
  process.on('SIGCONT', onContinue);
  for (const signal of DEADLY) process.on(signal, onSignal);
  input.setRawMode(true);
  return restore;
}
