/** The daemon's log: JSON lines by pino, in a file bounded in size, without secrets. */
import { chmodSync, closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { pino } from 'pino';
import { redact } from './redact.ts';

/** Write one line: fields for programs, then a sentence for people. */
export interface LogMethod {
  (fields: object, message?: string): void;
  (message: string): void;
}

/** What the floors below the service need of a log; pino's own loggers fit it. */
export interface Logger {
  trace: LogMethod;
  debug: LogMethod;
  info: LogMethod;
  warn: LogMethod;
  error: LogMethod;
  fatal: LogMethod;
  /** A logger that adds `bindings` (e.g. `{ requestId }`) to each line. @param options a level of its own */
  child(bindings: Record<string, unknown>, options?: { level?: string }): Logger;
}

/** A log that can be handed a new file after an outside rotation, and closed. */
export interface LogFile {
  logger: Logger;
  /** Open the file anew (SIGHUP). */
  reopen(): void;
  close(): void;
}

/** Where lines go; lines are whole, with their newline. */
export interface LogDestination {
  write(line: string): void;
}

/**
 * A logger with Veld's field names and redaction.
 * @param destination receives whole lines
 * @param level lowest level that is written
 */
export function createLogger(destination: LogDestination, level = 'info'): Logger {
  return pino({
    level,
    base: null,
    timestamp: () => `,"time":"${new Date().toISOString()}"`,
    formatters: {
      level: (label) => ({ level: label }),
      log: (fields) => redact(fields) as Record<string, unknown>,
    },
    // redact() has made plain objects of errors already
    serializers: { err: (error: unknown) => error },
  }, destination);
}

/** A logger that writes nothing. */
export function silentLogger(): Logger {
  return pino({ level: 'silent' });
}

/**
 * Append to `file`; when it would grow beyond `maxBytes` it becomes `file.1` (replacing an older one) and a new file is begun.
 * Writes are synchronous: a line is on its way to disk before the daemon acts on, and the last words before a crash are there.
 * @param maxBytes size of one file in bytes; at most twice that is on disk
 */
export function rotatingFile(file: string, maxBytes: number): LogDestination & { reopen(): void; close(): void } {
  let fd: number | undefined;
  let size = 0;
  const open = (): void => {
    mkdirSync(dirname(file), { recursive: true, mode: 0o750 });
    fd = openSync(file, 'a', 0o640);
    size = fstatSync(fd).size;
  };
  const close = (): void => {
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  open();
  chmodSync(file, 0o640);
  return {
    write(line) {
      // A log that cannot be written (disk full) must not take the daemon with it.
      try {
        const length = Buffer.byteLength(line);
        if (size > 0 && size + length > maxBytes) {
          close();
          renameSync(file, `${file}.1`);
        }
        if (fd === undefined) open();
        size += writeSync(fd as number, line);
      } catch { /* nowhere left to say it */ }
    },
    reopen() {
      close();
      open();
    },
    close,
  };
}

/**
 * Open the daemon's log.
 * @param settings `log` of the settings: file, bytes after which it is rotated, lowest level
 */
export function openLog(settings: { file: string; maxBytes: number; level: string }): LogFile {
  const destination = rotatingFile(settings.file, settings.maxBytes);
  return { logger: createLogger(destination, settings.level), reopen: () => destination.reopen(), close: () => destination.close() };
}
