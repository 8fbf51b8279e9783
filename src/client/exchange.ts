/**
 * One HTTP/1.1 exchange over a unix socket, without node:http.
 *
 * Loading and using node:http takes 7 of the 35 ms that a command line needs from its start to its end; the daemon is the only server
 * that is ever talked to here. What is read: a status line, headers, and a body by Content-Length, by chunks, or until the end (RFC 9112).
 */
import { connect, type Socket } from 'node:net';
import { Readable } from 'node:stream';

/** Status, headers (lower case) and, as a stream, the body of an answer. */
export interface Answer extends Readable {
  statusCode: number;
  headers: Record<string, string>;
}

/** Most bytes of status line and headers, and of a chunk's size line. */
const HEAD_LIMIT = 64 << 10;
const LINE_LIMIT = 1024;

/**
 * Send a request; the connection ends with its answer.
 * @param socket path of a unix socket
 * @param path with query; must be escaped
 * @param payload JSON; undefined sends no body
 * @returns the answer once its headers have come
 * @throws Error of the socket; with the code `EPROTO` when the other side does not speak HTTP, `ECONNRESET` when it breaks off
 */
export function exchange(socket: string, method: string, path: string, payload?: Uint8Array): Promise<Answer> {
  const length = payload === undefined ? '' : `Content-Type: application/json\r\nContent-Length: ${payload.length}\r\n`;
  return talk(socket, `${method} ${path}`, `Connection: close\r\n${length}`, payload);
}

/** A connection that speaks another protocol from here on, and what has come of that already; or the answer of a server that did not want to. */
export type Upgraded = { connection: Socket; rest: Buffer; headers: Record<string, string> } | { answer: Answer };

/**
 * Ask for another protocol on the same connection (RFC 9110, "Upgrade").
 * @param headers lines of the request, each with its end
 * @param first bytes of the other protocol, sent without waiting for the answer. Few enough for the socket's buffer: a server that does not want to closes without
 *   reading them, and whoever still writes then never sees its answer.
 */
export function upgrade(socket: string, path: string, headers: string, first?: Uint8Array): Promise<Upgraded> {
  return new Promise((resolve, reject) => {
    talk(socket, `GET ${path}`, `Connection: Upgrade\r\n${headers}`, first, (connection, rest, answered) => resolve({ connection, rest, headers: answered }))
      .then((answer) => resolve({ answer }), reject);
  });
}

type OnUpgrade = (connection: Socket, rest: Buffer, headers: Record<string, string>) => void;

function talk(socket: string, request: string, headers: string, payload: Uint8Array | undefined, onUpgrade?: OnUpgrade): Promise<Answer> {
  if (/[^ -~]| .* /.test(request)) return Promise.reject(failure('EPROTO', 'the path holds characters that must be escaped'));
  return new Promise((resolve, reject) => {
    const connection = connect(socket);
    let pending: Buffer = Buffer.alloc(0);
    let body: Answer | undefined;
    let decode: Decoder | undefined;

    const fail = (error: Error): void => {
      connection.destroy();
      if (body) body.destroy(error);
      else reject(error);
    };
    const take = (chunk: Buffer): void => {
      try {
        if (!body) {
          pending = Buffer.concat([pending, chunk]);
          for (;;) {
            const end = pending.indexOf('\r\n\r\n');
            if (end > HEAD_LIMIT || (end === -1 && pending.length > HEAD_LIMIT)) throw failure('EPROTO', 'the headers of the answer are too long');
            if (end === -1) return;
            const head = readHead(pending.toString('latin1', 0, end));
            pending = pending.subarray(end + 4);
            if (head.statusCode === 101 && onUpgrade) {
              connection.pause();
              connection.removeAllListeners('data').removeAllListeners('error').removeAllListeners('end');
              onUpgrade(connection, pending, head.headers);
              return;
            }
            if (head.statusCode >= 200) {
              decode = decoder(head);
              body = bodyOf(head, connection);
              break;
            }
          }
          resolve(body);
          chunk = pending;
        }
        if (decode!(chunk, (part) => { if (!body!.push(part)) connection.pause(); })) {
          body.push(null);
          connection.destroy();
        }
      } catch (error) {
        fail(error as Error);
      }
    };
    connection.on('data', take);
    connection.on('error', fail);
    connection.on('end', () => {
      if (body && decode!(undefined, () => {})) body.push(null);
      else fail(failure('ECONNRESET', 'the connection broke off'));
    });
    connection.cork(); // one write, and one wake-up of the daemon
    connection.write(`${request} HTTP/1.1\r\nHost: veld\r\n${headers}\r\n`);
    if (payload !== undefined) connection.write(payload);
    connection.uncork();
  });
}

interface Head {
  statusCode: number;
  headers: Record<string, string>;
}

function readHead(text: string): Head {
  const [status, ...lines] = text.split('\r\n');
  const statusCode = Number(/^HTTP\/1\.[01] ([1-5]\d\d)(?: |$)/.exec(status!)?.[1]);
  if (Number.isNaN(statusCode)) throw failure('EPROTO', 'the answer is not HTTP');
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const at = line.indexOf(':');
    if (at < 1) throw failure('EPROTO', 'a header of the answer is not one');
    headers[line.slice(0, at).toLowerCase()] = line.slice(at + 1).trim();
  }
  return { statusCode, headers };
}

function bodyOf(head: Head, connection: ReturnType<typeof connect>): Answer {
  const body = new Readable({
    read: () => { connection.resume(); },
    destroy: (error, done) => {
      connection.destroy();
      done(error);
    },
  });
  body.on('error', () => {}); // may come before the reader does; whoever reads meets it all the same
  return Object.assign(body, head);
}

/** Takes bytes as they come (undefined: their end), hands on those of the body, and says whether the body is complete. */
type Decoder = (chunk: Buffer | undefined, emit: (part: Buffer) => void) => boolean;

function decoder({ statusCode, headers }: Head): Decoder {
  if (statusCode === 204 || statusCode === 304) return () => true;
  if (/\bchunked$/i.test(headers['transfer-encoding'] ?? '')) return chunkedDecoder();
  const length = headers['content-length'];
  if (length === undefined) {
    return (chunk, emit) => {
      if (chunk?.length) emit(chunk);
      return chunk === undefined;
    };
  }
  if (!/^\d{1,15}$/.test(length)) throw failure('EPROTO', 'the length of the answer is not a number');
  let left = Number(length);
  return (chunk, emit) => {
    const part = chunk?.subarray(0, left);
    left -= part?.length ?? 0;
    if (part?.length) emit(part);
    return left === 0;
  };
}

function chunkedDecoder(): Decoder {
  let line = '';
  /** Bytes of the chunk that are still to come; -1: a size line is read; -2: the line end behind a chunk; -3: trailers. */
  let left = -1;
  let done = false;
  return (chunk, emit) => {
    const bytes = chunk ?? Buffer.alloc(0);
    let at = 0;
    while (at < bytes.length && !done) {
      if (left > 0) {
        const part = bytes.subarray(at, at + left);
        at += part.length;
        left -= part.length;
        emit(part);
        if (left === 0) left = -2;
        continue;
      }
      const end = bytes.indexOf(10, at);
      line += bytes.toString('latin1', at, end === -1 ? bytes.length : end);
      if (line.length > LINE_LIMIT) throw failure('EPROTO', 'a line of the answer is too long');
      if (end === -1) break;
      at = end + 1;
      const text = line.replace(/\r$/, '');
      line = '';
      if (left === -2) {
        if (text !== '') throw failure('EPROTO', 'a chunk of the answer has a wrong length');
        left = -1;
      } else if (left === -3) done = text === '';
      else {
        const size = /^([0-9a-f]{1,8})\s*(?:;.*)?$/i.exec(text)?.[1];
        if (size === undefined) throw failure('EPROTO', 'a chunk of the answer has no length');
        left = Number.parseInt(size, 16) || -3;
      }
    }
    return done;
  };
}

function failure(code: string, message: string): NodeJS.ErrnoException {
  return Object.assign(new Error(message), { code });
}
