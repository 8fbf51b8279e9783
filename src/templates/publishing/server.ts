/**
 * The server of images: files by GET and HEAD, and nothing besides. A path is looked up in the list of all that is served, as it is spelled: no path of the file system is made of one.
 * Anybody may ask, so connections, and the time that each may take for nothing, have limits.
 */
import { open } from 'node:fs/promises';
import { createServer as createPlain, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTls, type Server as TlsServer } from 'node:https';
import type { Socket } from 'node:net';
import { pipeline } from 'node:stream/promises';
import { linger } from '../../lib/linger.ts';
import type { Logger } from '../../lib/log.ts';
import type { Resource } from './types.ts';

/** Connections at a time, and of one address. */
const [CONNECTION_LIMIT, ADDRESS_LIMIT] = [512, 64];
/** How long the headers of a request may take, and how long a connection may rest: while nothing of a file is taken, and between requests. Milliseconds. */
const [HEADERS, REST, IDLE] = [10_000, 60_000, 15_000];
const HEADER_BYTES = 8 << 10;
const REQUESTS = 1000;

export interface FileServerOptions {
  resources: () => ReadonlyMap<string, Resource>;
  /** Certificate and key, PEM; null: no TLS. */
  tls: { cert: string; key: string } | null;
  log: Logger;
  /** Told of each answer that has ended. @param bytes of its body that were sent */
  onAnswer?: (bytes: number) => void;
}

export interface FileServer {
  /** @throws Error of listen(2) */
  listen(host: string, port: number): Promise<void>;
  /** Use another certificate for new connections. */
  renew(tls: { cert: string; key: string }): void;
  /** Of the address at which it listens. */
  port(): number;
  close(): Promise<void>;
}

/** A server that does not listen yet. */
export function createFileServer({ resources, tls, log, onAnswer }: FileServerOptions): FileServer {
  const limits = { maxHeaderSize: HEADER_BYTES, headersTimeout: HEADERS, requestTimeout: HEADERS, keepAliveTimeout: IDLE, noDelay: true };
  const handle = (request: IncomingMessage, response: ServerResponse): void => void answer(request, response, resources(), log).then((bytes) => onAnswer?.(bytes));
  const server: Server | TlsServer = tls ? createTls({ ...limits, ...tls, minVersion: 'TLSv1.2', handshakeTimeout: HEADERS }, handle) : createPlain(limits, handle);
  const sockets = new Set<Socket>();
  const perAddress = new Map<string, number>();
  server.maxConnections = CONNECTION_LIMIT;
  server.maxRequestsPerSocket = REQUESTS;
  server.timeout = REST;
  server.on('connection', (socket: Socket) => {
    const from = socket.remoteAddress ?? '';
    const count = (perAddress.get(from) ?? 0) + 1;
    perAddress.set(from, count);
    sockets.add(socket);
    socket.once('close', () => {
      sockets.delete(socket);
      const left = perAddress.get(from)! - 1;
      if (left === 0) perAddress.delete(from);
      else perAddress.set(from, left);
    });
    if (count > ADDRESS_LIMIT) socket.destroy();
  });
  server.on('clientError', (_error, socket) => socket.destroy());
  server.on('upgrade', (_request: IncomingMessage, socket: Socket) => socket.destroy());
  if (tls) server.on('tlsClientError', (error: Error) => log.debug({ err: error.message }, 'a client of images did not get through TLS'));
  return {
    async listen(host, port) {
      await new Promise<void>((resolve, reject) => {
        server.once('error', reject);
        server.listen(port, host, () => {
          server.off('error', reject);
          resolve();
        });
      });
      server.on('error', (error) => log.error({ err: error }, 'the server of images'));
    },
    renew: (next) => (server as TlsServer).setSecureContext({ ...next, minVersion: 'TLSv1.2' }),
    port: () => (server.address() as { port: number }).port,
    close: () => new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of sockets) socket.destroy();
    }),
  };
}

/** @returns bytes of the body that were sent */
async function answer(request: IncomingMessage, response: ServerResponse, resources: ReadonlyMap<string, Resource>, log: Logger): Promise<number> {
  const { method, headers } = request;
  // Bodies are for nobody: what comes is thrown away with the connection.
  linger(request);
  const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
  if (hasBody) response.setHeader('connection', 'close');
  response.setHeader('x-content-type-options', 'nosniff');
  const say = (status: number, text: string): number => {
    const body = Buffer.from(`${text}\n`);
    response.writeHead(status, { 'content-type': 'text/plain; charset=utf-8', 'content-length': body.length, 'cache-control': 'no-store' }).end(method === 'HEAD' ? undefined : body);
    return body.length;
  };
  try {
    if (method !== 'GET' && method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      response.setHeader('connection', 'close');
      return say(405, 'Only GET and HEAD.');
    }
    // Some clients (lxc-download) begin with two slashes. A query means nothing here.
    const path = (request.url ?? '').split('?')[0]!.replace(/^\/+/, '');
    const resource = resources.get(path);
    if (!resource) return say(404, 'Not found.');
    const size = 'file' in resource ? resource.size : resource.content.length;
    const { etag, modified, type } = resource;
    response.setHeader('etag', etag);
    response.setHeader('last-modified', modified.toUTCString());
    response.setHeader('accept-ranges', 'bytes');
    response.setHeader('cache-control', 'file' in resource && path.startsWith('images/') ? 'public, max-age=31536000, immutable' : 'no-cache');
    if (isKnown(headers, etag, modified)) {
      response.writeHead(304).end();
      return 0;
    }
    const range = rangeOf(headers, size, etag, modified);
    if (range === 'none') {
      response.setHeader('content-range', `bytes */${size}`);
      return say(416, 'There is no such part.');
    }
    const [from, to] = range ?? [0, size - 1];
    const head = { 'content-type': type, 'content-length': to - from + 1, ...range && { 'content-range': `bytes ${from}-${to}/${size}` } };
    const status = range ? 206 : 200;
    if (method === 'HEAD' || 'content' in resource) {
      response.writeHead(status, head).end(method === 'HEAD' || !('content' in resource) ? undefined : resource.content.subarray(from, to + 1));
      return method === 'HEAD' ? 0 : to - from + 1;
    }
    return await sendFile(resource.file, from, to, response, () => response.writeHead(status, head));
  } catch (error) {
    log.warn({ err: error, url: request.url?.slice(0, 200) }, 'a file could not be served');
    if (response.headersSent) response.destroy();
    else say(500, 'That did not work.');
    return 0;
  }
}

async function sendFile(file: string, from: number, to: number, response: ServerResponse, begin: () => void): Promise<number> {
  // Opened before the answer begins: one that was taken away meanwhile goes on being sent to whoever began.
  const handle = await open(file, 'r');
  try {
    begin();
    const stream = handle.createReadStream({ start: from, end: to, highWaterMark: 256 << 10, autoClose: false });
    await pipeline(stream, response).catch((error: NodeJS.ErrnoException) => {
      // Whoever asked is gone, or took nothing for too long.
      if (!['ERR_STREAM_PREMATURE_CLOSE', 'ECONNRESET', 'EPIPE', 'ERR_STREAM_DESTROYED'].includes(error.code ?? '')) throw error;
    });
    return stream.bytesRead;
  } finally {
    await handle.close();
  }
}

/** Whether the client has it already (RFC 9110, 13.1): by its tag, or by its time where it names none. */
function isKnown(headers: IncomingMessage['headers'], etag: string, modified: Date): boolean {
  const tags = headers['if-none-match'];
  if (tags !== undefined) return tags.trim() === '*' || tags.split(',').some((tag) => tag.trim().replace(/^W\//, '') === etag);
  const since = Date.parse(headers['if-modified-since'] ?? '');
  return !Number.isNaN(since) && Math.floor(modified.getTime() / 1000) * 1000 <= since;
}

/**
 * The part that is asked for (RFC 9110, 14).
 * @returns first and last byte; undefined: all of it, also for several parts in one and units that are not known; `none`: there is no such part
 */
export function rangeOf(headers: IncomingMessage['headers'], size: number, etag: string, modified: Date): [from: number, to: number] | 'none' | undefined {
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(headers.range?.trim() ?? '') ?? [];
  if (first === '' && last === '') return undefined;
  const only = headers['if-range'];
  if (typeof only === 'string' && only.trim() !== etag && Date.parse(only) !== Math.floor(modified.getTime() / 1000) * 1000) return undefined;
  if (first === '') return Number(last) === 0 || size === 0 ? 'none' : [Math.max(0, size - Number(last)), size - 1];
  if (last !== '' && Number(last) < Number(first)) return undefined;
  return Number(first) >= size ? 'none' : [Number(first), Math.min(size - 1, last === '' ? size - 1 : Number(last))];
}
