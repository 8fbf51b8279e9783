/** Standard streams of a command in a VE. */
import { closeSync, fchownSync } from 'node:fs';
import { Socket } from 'node:net';
import { Transform, type Readable } from 'node:stream';
import { makePipe } from '../kernel/syscalls.ts';

/** After the command has ended, output of what it left in the background is taken for this long after the last byte, in milliseconds. */
const LINGER = 200;

export interface CommandPipes {
  stdin: Socket;
  stdout: Socket;
  stderr: Socket;
  /** The command's ends, for spawn. */
  childEnds: [number, number, number];
  /** To be called once spawn has its copies. */
  closeChildEnds(): void;
  /** The command has ended. Settles when its output has been read; a daemon that it left behind and that holds the pipes does not delay that. */
  drained(): Promise<void>;
  destroy(): void;
}

/**
 * Real pipes that belong to the command's user: Node's own are sockets, and `echo >/dev/stderr` cannot open a socket.
 * @param uid host uid of the command's user @param gid host gid
 */
export function makeCommandPipes(uid: number, gid: number): CommandPipes {
  const pipes = [makePipe(), makePipe(), makePipe()] as const;
  for (const { read, write } of pipes) for (const fd of [read, write]) fchownSync(fd, uid, gid);
  const childEnds: [number, number, number] = [pipes[0].read, pipes[1].write, pipes[2].write];
  const stdin = new Socket({ fd: pipes[0].write, readable: false, writable: true });
  const outputs = [pipes[1].read, pipes[2].read].map((fd) => new Socket({ fd, readable: true, writable: false })) as [Socket, Socket];
  const closed = outputs.map((stream) => new Promise<void>((done) => stream.once('close', () => done())));
  stdin.on('error', () => {}); // the command may end without reading everything
  return {
    stdin,
    stdout: outputs[0],
    stderr: outputs[1],
    childEnds,
    closeChildEnds: () => childEnds.forEach((fd) => closeSync(fd)),
    async drained() {
      const timers = outputs.map((stream) => {
        let before = -1;
        return setInterval(() => {
          // Unread bytes mean that the reader is slow, not that nothing comes.
          if (stream.bytesRead === before && stream.readableLength === 0) stream.push(null);
          before = stream.bytesRead;
        }, LINGER);
      });
      await Promise.all(closed);
      timers.forEach((timer) => clearInterval(timer));
      stdin.destroy();
    },
    destroy: () => [stdin, ...outputs].forEach((stream) => stream.destroy()),
  };
}

/** What a runtime says that could not run the command: one line with a name in backquotes, the first and only one. */
const COMPLAINT = /^[^\n]*`[^\n]*\n$/;
/** How long such a line is kept back for the end that would follow it at once, in milliseconds. A command's own pays this once. */
const DOUBT = 100;

/**
 * Standard error without the line by which crun says that it cannot run the command, which comes as an error anyway.
 * @param isComplaint asked once the stream is over, about a line that was all of it
 * @returns the stream; emits `looked` after that question, whether anybody reads it or not
 */
export function withoutComplaint(stderr: Readable, isComplaint: (line: string) => boolean): Readable {
  let held: Buffer | undefined;
  let timer: NodeJS.Timeout | undefined;
  /** The first chunk, while it is the only one. */
  let only: Buffer | undefined;
  let first = true;
  const release = (): void => {
    clearTimeout(timer);
    if (held) cleaned.push(held);
    held = undefined;
  };
  const cleaned = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      release();
      const suspicious = first && chunk.length < 1000 && COMPLAINT.test(chunk.toString('utf8'));
      only = suspicious ? chunk : undefined;
      first = false;
      if (suspicious) {
        held = chunk;
        timer = setTimeout(release, DOUBT);
        done();
      } else done(null, chunk);
    },
    flush(done) {
      if (only !== undefined && isComplaint(only.toString('utf8').trim())) held = undefined; // on a slow machine it may have gone out already
      release();
      done();
      cleaned.emit('looked');
    },
  });
  stderr.pipe(cleaned);
  // Whoever breaks the one breaks the other: a stream that is destroyed has no end to wait for.
  stderr.on('close', () => { if (!stderr.readableEnded) cleaned.destroy(); });
  cleaned.on('close', () => { if (!stderr.readableEnded) stderr.destroy(); });
  return cleaned;
}
