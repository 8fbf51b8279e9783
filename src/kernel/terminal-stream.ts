/** A duplex stream over the master side of a pseudoterminal. */
import { closeSync, readSync, writeSync } from 'node:fs';
import { Duplex } from 'node:stream';
import { setWindowSize, watchDescriptor } from './syscalls.ts';

/** Bytes read at once; the kernel hands out at most 4096 of a terminal. */
const CHUNK = 16384;

export interface TerminalStream extends Duplex {
  /** Tell the terminal its size; the foreground processes get SIGWINCH. Does nothing once the terminal is gone. */
  readonly resize: (columns: number, rows: number) => void;
}

/**
 * Take over a terminal's master.
 *
 * It ends for the reader when the last process has closed the other side (the kernel says EIO then). Destroying the stream closes the
 * master: the session at the other side gets SIGHUP. What is written after the other side has gone is dropped, as with a real line.
 * @param fd the master; the stream owns it from now on
 */
export function terminalStream(fd: number): TerminalStream {
  let reading = false;
  let waiting: { rest: Buffer; done: (error?: Error | null) => void } | undefined;
  let gone = false;

  const wanted = (): void => watch.want({ readable: reading, writable: waiting !== undefined });
  const hangUp = (): void => {
    if (gone) return;
    gone = true;
    watch.close();
    const { done } = waiting ?? {};
    waiting = undefined;
    done?.();
    stream.push(null);
  };
  const read = (): void => {
    while (reading) {
      if (gone) return; // a listener may have destroyed the stream
      const buffer = Buffer.allocUnsafe(CHUNK);
      const count = attempt(() => readSync(fd, buffer, 0, CHUNK, null));
      if (count === 'again') return;
      if (count === 'gone' || count === 0) return hangUp();
      reading = stream.push(buffer.subarray(0, count));
    }
    wanted();
  };
  const write = (): void => {
    while (waiting !== undefined) {
      const { rest, done } = waiting;
      const count = attempt(() => writeSync(fd, rest));
      if (count === 'again') return;
      // Gone: dropped. The watch must not go on (it would fire all the time); the reader finds what is left to read, then the end.
      if (count !== 'gone' && count < rest.length) {
        waiting.rest = rest.subarray(count);
      } else {
        waiting = undefined;
        done();
      }
    }
    wanted();
  };

  const stream = new Duplex({
    allowHalfOpen: false, // the end of the line ends both directions
    read() {
      reading = true;
      wanted();
    },
    write(chunk: Buffer, _encoding, done) {
      if (gone) {
        done();
        return;
      }
      waiting = { rest: chunk, done };
      try {
        write();
      } catch (error) {
        waiting = undefined;
        done(error as Error);
      }
      wanted();
    },
    destroy(error, done) {
      gone = true;
      watch.close();
      closeSync(fd);
      done(error);
    },
  });
  const watch = watchDescriptor(fd, { readable: true, writable: false }, (now) => {
    try {
      if (now.writable) write();
      if (now.readable) read();
    } catch (error) {
      stream.destroy(error as Error); // an error of one terminal ends this terminal, not the process
    }
  });
  wanted();
  return Object.assign(stream, {
    resize(columns: number, rows: number): void {
      if (!gone) setWindowSize(fd, clamp(columns), clamp(rows));
    },
  });
}

/** Bytes moved, `again` when nothing is possible now, `gone` when the other side is closed. */
function attempt(io: () => number): number | 'again' | 'gone' {
  try {
    return io();
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === 'EAGAIN' || code === 'EINTR') return 'again';
    if (code === 'EIO') return 'gone';
    throw error;
  }
}

/** struct winsize has 16-bit words. */
function clamp(value: number): number {
  return Math.min(65535, Math.max(1, Math.trunc(value) || 1));
}
