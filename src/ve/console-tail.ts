/**
 * The console log as a stream that goes on: what was shown last, then what comes, byte for byte as the VE wrote it.
 *
 * Read from conmon's file and not from its attach socket: conmon waits for whoever does not read there, and the VE's console with it; the file
 * waits for nobody, outlasts reboots, and has what came before.
 */
import { closeSync, fstatSync, openSync, readSync, statSync, watch, type FSWatcher } from 'node:fs';
import { Readable } from 'node:stream';

/** Bytes of the log in which the last lines are looked for. */
const BEFORE = 1 << 18;
const CHUNK = 1 << 16;
/** Longest row that is believed; conmon's have 8 KiB at most. */
const ROW_LIMIT = 1 << 16;
/** `TIME STREAM F|P TEXT`, format `k8s-file`; P: the line goes on in the next row. */
const ROW = /^\S+ std(?:out|err) ([FP]) ?/;

export interface ConsoleTail extends Readable {
  /** Look for more; to be called now and then, because a log that is renewed or made anew tells no watch of it. */
  look(): void;
  /** Text of ours between what the VE wrote. */
  say(text: string): void;
  /** Nothing comes any more: end once all has been read. */
  finish(): void;
}

/** Begin to read. @param file conmon's log, which may not exist yet @param lines how many of those before to begin with */
export function tailConsole(file: string, lines: number): ConsoleTail {
  let fd: number | undefined;
  let watcher: FSWatcher | undefined;
  let position = 0;
  let rest: Buffer = Buffer.alloc(0);
  let wanted = false;
  let finishing = false;

  const close = (): void => {
    watcher?.close();
    watcher = undefined;
    if (fd !== undefined) closeSync(fd);
    fd = undefined;
  };
  const open = (): boolean => {
    try {
      fd = openSync(file, 'r');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return false;
      throw error;
    }
    position = 0;
    rest = Buffer.alloc(0);
    watcher = watch(file, () => stream.look());
    watcher.on('error', () => {}); // the looks now and then go on
    return true;
  };
  /** conmon begins a new file under the name when one has reached its size. */
  const renewed = (): boolean => {
    try {
      return fd !== undefined && statSync(file).ino !== fstatSync(fd).ino;
    } catch {
      return false; // none at the moment
    }
  };
  const pump = (): void => {
    while (wanted && !stream.destroyed) {
      if (fd === undefined && !open()) break;
      const buffer = Buffer.allocUnsafe(CHUNK);
      const count = readSync(fd!, buffer, 0, CHUNK, position);
      position += count;
      if (count > 0) {
        const text = takeRows(buffer.subarray(0, count));
        if (text.length > 0) wanted = stream.push(text);
      } else if (renewed()) close();
      else break;
    }
    // All that there is has been read, or there is nothing to read from.
    if (wanted && finishing) stream.push(null);
  };
  const takeRows = (chunk: Buffer): Buffer => {
    const bytes = rest.length > 0 ? Buffer.concat([rest, chunk]) : chunk;
    const parts: Buffer[] = [];
    let at = 0;
    for (let end = bytes.indexOf(10); end >= 0; end = bytes.indexOf(10, at)) {
      const match = ROW.exec(bytes.toString('latin1', at, Math.min(end, at + 64)));
      if (match) parts.push(bytes.subarray(at + match[0].length, match[1] === 'F' ? end + 1 : end));
      at = end + 1;
    }
    rest = bytes.length - at > ROW_LIMIT ? Buffer.alloc(0) : Buffer.from(bytes.subarray(at));
    return Buffer.concat(parts);
  };

  const stream: ConsoleTail = Object.assign(new Readable({
    read() {
      wanted = true;
      pump();
    },
    destroy(error, done) {
      close();
      done(error);
    },
  }), {
    look: () => {
      if (stream.destroyed) return;
      try {
        pump();
      } catch (error) {
        stream.destroy(error as Error);
      }
    },
    say: (text: string) => { if (!stream.readableEnded && !stream.destroyed && !finishing) stream.push(text); },
    finish: () => {
      finishing = true;
      stream.look();
    },
  });
  if (open()) position = startOf(fd!, lines);
  return stream;
}

/** Where the last `lines` lines begin. */
function startOf(fd: number, lines: number): number {
  const { size } = fstatSync(fd);
  if (lines === 0) return size;
  const from = Math.max(0, size - BEFORE);
  const buffer = Buffer.alloc(size - from);
  const bytes = buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, from));
  let left = lines;
  for (let end = bytes.lastIndexOf(10); end > 0;) {
    const before = bytes.lastIndexOf(10, end - 1);
    // One line more ends here: what follows is what was asked for. A row at the very end may be the beginning of a line that is still open.
    if (ROW.exec(bytes.toString('latin1', before + 1, Math.min(end, before + 65)))?.[1] === 'F' && left-- === 0) return from + end + 1;
    end = before;
  }
  // Fewer lines than that; the first row may be cut.
  return from === 0 ? 0 : from + bytes.indexOf(10) + 1;
}
