/**
 * The client's end of a WebSocket over the daemon's socket (RFC 6455), without the package that serves it: loading that costs a command as much CPU as
 * all else that it does. The daemon is the only server that is ever talked to here; no extension is asked for.
 */
import type { Socket } from 'node:net';
import { VeldError } from '../lib/errors.ts';
import { upgrade } from './exchange.ts';
import { answerError, connectionError, readAll } from './http.ts';

/** Longest message that is taken, in bytes. */
const MESSAGE_LIMIT = 64 << 20;
/** The key guards against caches on the way, and there are none: so it is always this one, and its answer is known (the RFC's own example). */
const KEY = 'dGhlIHNhbXBsZSBub25jZQ==';
const ACCEPT = 's3pPLMBiTxaQ9kYGzzhZRbK+xOo=';

const CONTINUATION = 0, TEXT = 1, BINARY = 2, CLOSE = 8, PING = 9, PONG = 10;

export interface WebSocketClient {
  readonly open: boolean;
  /** Send one binary message. @param done called when the kernel has taken it, or the connection is gone */
  send(data: Uint8Array, done?: () => void): void;
  /** Stop taking what comes, and go on; what has arrived already still comes. */
  pause(): void;
  resume(): void;
  /** End without a goodbye. */
  terminate(): void;
}

export interface WebSocketEvents {
  message(data: Buffer): void;
  /** The end, whoever's it was; once. */
  close(): void;
}

/**
 * Connect, and wait until it is open.
 * @param prepare called before anything can arrive; gives what is to be called
 * @param first a message that goes out with the request itself; see {@link upgrade} for how long it may be
 * @throws VeldError the daemon's error, or `daemon.unreachable`
 */
export async function openWebSocket(socket: string, path: string, prepare: (ws: WebSocketClient) => WebSocketEvents, first?: Uint8Array): Promise<WebSocketClient> {
  const sent = first && Buffer.concat([header(BINARY, first.length), first]);
  const upgraded = await upgrade(socket, path, `Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${KEY}\r\n`, sent)
    .catch((error: unknown) => { throw connectionError(error as NodeJS.ErrnoException, socket); });
  if ('answer' in upgraded) throw answerError(upgraded.answer.statusCode, await readAll(upgraded.answer, socket));
  const { connection, rest, headers } = upgraded;
  if (headers['sec-websocket-accept'] !== ACCEPT) {
    connection.destroy();
    throw new VeldError('internal', 'The daemon does not speak WebSocket.');
  }
  return serve(connection, rest, prepare);
}

/** Of a whole message in one frame. */
function header(opcode: number, length: number): Buffer {
  // The mask, which clients must send, is zero: it hides bytes from proxies on the way, and there are none.
  const bytes = Buffer.alloc(length < 126 ? 6 : length < 65_536 ? 8 : 14);
  bytes[0] = 0x80 | opcode;
  bytes[1] = 0x80 | (length < 126 ? length : length < 65_536 ? 126 : 127);
  if (length >= 65_536) bytes.writeBigUInt64BE(BigInt(length), 2);
  else if (length >= 126) bytes.writeUInt16BE(length, 2);
  return bytes;
}

function serve(connection: Socket, first: Buffer, prepare: (ws: WebSocketClient) => WebSocketEvents): WebSocketClient {
  let pending: Buffer = Buffer.alloc(0);
  let message: Buffer[] = [];
  let size = 0;
  let open = true;

  const frame = (opcode: number, data: Uint8Array, done?: () => void): void => {
    connection.cork();
    connection.write(header(opcode, data.length));
    connection.write(data, () => done?.());
    connection.uncork();
  };
  const take = (chunk: Buffer): void => {
    pending = pending.length > 0 ? Buffer.concat([pending, chunk]) : chunk;
    for (;;) {
      if (pending.length < 2) return;
      const short = pending[1]! & 0x7f;
      const head = short < 126 ? 2 : short === 126 ? 4 : 10;
      if (pending.length < head) return;
      const length = short < 126 ? short : short === 126 ? pending.readUInt16BE(2) : Number(pending.readBigUInt64BE(2));
      // Reserved bits and masked frames are no server's; what comes would not be understood.
      if ((pending[0]! & 0x70) !== 0 || (pending[1]! & 0x80) !== 0 || size + length > MESSAGE_LIMIT) {
        connection.destroy();
        return;
      }
      if (pending.length < head + length) return;
      const opcode = pending[0]! & 0x0f;
      const final = (pending[0]! & 0x80) !== 0;
      const data = pending.subarray(head, head + length);
      pending = pending.subarray(head + length);
      if (opcode === PING) frame(PONG, data);
      else if (opcode === CLOSE) {
        open = false;
        frame(CLOSE, data.subarray(0, 2));
        connection.end();
      } else if (opcode === TEXT || opcode === BINARY || opcode === CONTINUATION) {
        message.push(data);
        size += length;
        if (!final) continue;
        const whole = message.length === 1 ? data : Buffer.concat(message);
        message = [];
        size = 0;
        events.message(whole);
      }
    }
  };

  const ws: WebSocketClient = {
    get open() { return open && !connection.destroyed; },
    send: (data, done) => {
      if (ws.open) frame(BINARY, data, done);
      else done?.();
    },
    pause: () => { connection.pause(); },
    resume: () => { connection.resume(); },
    terminate: () => { connection.destroy(); },
  };
  const events = prepare(ws);
  connection.on('data', take);
  connection.on('error', () => {}); // the end follows
  connection.on('end', () => { connection.destroy(); });
  connection.on('close', () => {
    open = false;
    events.close();
  });
  if (first.length > 0) take(first);
  connection.resume();
  return ws;
}
