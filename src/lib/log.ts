/** The daemon's log: JSON lines by pino, in a file bounded in size, without secrets. */
import { chmodSync, closeSync, fstatSync, mkdirSync, openSync, renameSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { pino } from 'pino';

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

/** Keys whose values never reach the log, at any depth. */
const SECRET_KEY = /pass(word|wd|phrase)?$|secret|token|authori[sz]ation|cookie|credential|private_?key|^session$|^env$|^stdin$/i;

/** Longest text of one field, in characters: a line stays a line. */
const TEXT_LIMIT = 8192;
const DEPTH_LIMIT = 6;
const ENTRY_LIMIT = 200;

/**
 * A copy of `value` that may be logged: secrets replaced, errors as plain objects with stack and cause, long texts and deep trees cut.
 * @param value any value
 */
export function redact(value: unknown, depth = 0): unknown {
  if (typeof value === 'string') return value.length > TEXT_LIMIT ? `${value.slice(0, TEXT_LIMIT)}... (${value.length} characters)` : value;
  if (typeof value === 'bigint') return value.toString();
  if (typeof value !== 'object' || value === null) return value;
  if (depth >= DEPTH_LIMIT) return '[deep]';
  if (Array.isArray(value)) return value.slice(0, ENTRY_LIMIT).map((item) => redact(item, depth + 1));
  if (value instanceof Uint8Array) return `[${value.length} bytes]`;
  if (value instanceof Date) return value.toISOString();
  const copy: Record<string, unknown> = {};
  if (value instanceof Error) {
    copy.type = value.name;
    copy.message = redact(value.message, depth + 1);
    copy.stack = redact(value.stack, depth + 1);
    if (value.cause !== undefined) copy.cause = redact(value.cause, depth + 1);
  }
  for (const [key, item] of Object.entries(value).slice(0, ENTRY_LIMIT)) {
    // defineProperty: a key named __proto__ must stay a key
    const shown = SECRET_KEY.test(key) ? '[redacted]' : redact(item, depth + 1);
    Object.defineProperty(copy, key, { value: shown, enumerable: true, configurable: true, writable: true });
  }
  return copy;
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
