/** The client's end of a command in a VE: streams over one WebSocket, back-pressure both ways. Frames: see /v1/sessions in the API document. */
import { Readable, Writable } from 'node:stream';
import { VeldError, type ErrorBody } from '../lib/errors.ts';
import { openWebSocket, type WebSocketClient } from './web-socket.ts';

const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const CONTROL = 3;
/** Most bytes of standard input in a frame. */
const CHUNK = 256 << 10;
/** Longest request, in bytes of JSON, that goes out with the WebSocket's own: it fits into the buffer of a unix socket (net.core.wmem_default, 208 KiB). */
export const REQUEST_LIMIT = 64 << 10;

/** A command that runs in a VE. Both outputs must be read (or destroyed): one that nobody reads holds up the other. */
export interface ExecSession {
  stdin: Writable;
  stdout: Readable;
  /** Null with a terminal. */
  stderr: Readable | null;
  resize(columns: number, rows: number): void;
  kill(signal: NodeJS.Signals): void;
  /** Exit status, once all output has been read. Rejects with a VeldError. */
  exit: Promise<number>;
}

/** An output that is given up when what it was piped into has broken (`veld exec web -- yes | head`). */
class Output extends Readable {
  override unpipe(destination?: NodeJS.WritableStream): this {
    super.unpipe(destination);
    const to = destination as Writable | undefined;
    if (to && (to.destroyed || to.errored !== null || to.closed)) this.destroy();
    return this;
  }
}

/**
 * Open a session.
 * @param socket path of the daemon's socket
 * @param path of the WebSocket
 * @param tty whether the command has a terminal
 * @param asked the request, where the WebSocket itself carries it; its JSON has {@link REQUEST_LIMIT} bytes at most
 * @throws VeldError
 */
export async function openExecSession(socket: string, path: string, tty: boolean, asked?: string): Promise<ExecSession> {
  let ws: WebSocketClient | undefined;
  const full = new Set<Readable>();
  const output = (): Readable => {
    const stream: Readable = new Output({
      read: () => release(stream),
      destroy: (error, done) => {
        release(stream);
        done(error);
      },
    });
    return stream;
  };
  const release = (stream: Readable): void => {
    if (full.delete(stream) && full.size === 0) ws?.resume();
  };
  const stdout = output();
  const stderr = tty ? null : output();
  const outputs = stderr ? [stdout, stderr] : [stdout];
  const { promise: exit, resolve, reject } = Promise.withResolvers<number>();
  exit.catch(() => {}); // whoever waits hears of it; nobody has to

  const push = (stream: Readable | null, data: Buffer): void => {
    if (!stream || stream.destroyed || stream.push(data)) return;
    full.add(stream);
    ws?.pause();
  };
  // Everything may have come, the end too, before the caller has the session and can begin to read.
  const given = Promise.withResolvers<void>();
  let ended = false;
  const end = async (settle: () => void): Promise<void> => {
    if (ended) return;
    ended = true;
    await Promise.all(outputs.map((stream) => new Promise<void>((done) => {
      if (stream.destroyed || stream.readableEnded) done();
      stream.once('close', done);
      stream.push(null);
      void given.promise.then(() => {
        if (stream.readableFlowing === null && stream.listenerCount('readable') === 0) stream.resume(); // nobody reads it
      });
    })));
    settle();
  };
  const onFrame = (data: Buffer): void => {
    const payload = data.subarray(1);
    if (data[0] === STDOUT) push(stdout, payload);
    else if (data[0] === STDERR) push(stderr, payload);
    else if (data[0] === CONTROL) {
      const message = JSON.parse(payload.toString('utf8')) as { type: 'exit'; code: number } | { type: 'error'; error: ErrorBody };
      if (message.type === 'exit') void end(() => resolve(message.code));
      else void end(() => reject(VeldError.fromBody(message.error)));
    }
  };
  const opened = await openWebSocket(socket, path, (opening) => {
    ws = opening;
    return {
      message: onFrame,
      close: () => void end(() => reject(new VeldError('daemon.unreachable', `The connection to the daemon at ${socket} broke before the command ended.`))),
    };
  }, asked === undefined ? undefined : Buffer.concat([Buffer.of(CONTROL), Buffer.from(asked)]));

  setImmediate(given.resolve);

  const transmit = (channel: number, payload: Uint8Array, done: (error?: Error) => void = () => {}): void => {
    opened.send(Buffer.concat([Buffer.of(channel), payload]), () => done()); // when the command is gone, so is its input
  };
  const control = (message: object): void => transmit(CONTROL, Buffer.from(JSON.stringify(message)));
  const stdin = new Writable({
    write(chunk: Buffer, _encoding, done) {
      let rest = chunk;
      while (rest.length > CHUNK) {
        transmit(STDIN, rest.subarray(0, CHUNK));
        rest = rest.subarray(CHUNK);
      }
      transmit(STDIN, rest, done);
    },
    final(done) {
      control({ type: 'eof' });
      done();
    },
  });
  return {
    stdin, stdout, stderr, exit,
    resize: (columns, rows) => control({ type: 'resize', columns, rows }),
    kill: (signal) => control({ type: 'signal', signal }),
  };
}
