/** For tests: a small HTTP server on a unix socket that answers in the API's shapes, and a way to run the real `veld` against it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { WebSocketServer } from 'ws';
import type { WebSocket } from 'ws';
import type { OperationRecord } from '../store/types.ts';
import type { VeDetail } from '../ve/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import { VeldError } from '../lib/errors.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

export interface Asked {
  method: string;
  /** With its query. */
  url: string;
  body: unknown;
}

export interface TestDaemon {
  socket: string;
  /** Every request so far. */
  asked: Asked[];
  /** Every frame of sessions so far: channel and text. */
  frames: [channel: number, text: string][];
  /** Run `veld` to its end. */
  veld(words: readonly string[], options?: RunOptions): Promise<Ended>;
}

export interface RunOptions {
  /** What is on its standard input. */
  input?: string;
  /** Whether that goes on after the input, with nothing more in it. */
  silent?: boolean;
  env?: Record<string, string>;
}

export interface Ended {
  status: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** What a route answers: a value is sent as JSON with status 200, a VeldError as the API sends it; undefined: the handler has answered itself. */
export type Handler = (request: Asked, reply: ServerResponse, raw: IncomingMessage) => unknown;
export type SessionHandler = (ws: WebSocket, frames: [number, string][]) => void;

/** Start the server; it ends with the test. @param routes by `METHOD /path`, query not compared */
export async function startTestDaemon(t: TestContext, routes: Record<string, Handler>, session?: SessionHandler): Promise<TestDaemon> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-cli-'));
  const socket = join(folder, 'veld.sock');
  const asked: Asked[] = [];
  const frames: [number, string][] = [];
  const serve = async (raw: IncomingMessage, reply: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of raw) chunks.push(chunk as Buffer);
    const text = Buffer.concat(chunks).toString('utf8');
    const request: Asked = { method: raw.method ?? '', url: raw.url ?? '', body: text === '' ? undefined : JSON.parse(text) };
    asked.push(request);
    const handler = routes[`${request.method} ${request.url.split('?')[0]}`];
    let answer: unknown;
    try {
      answer = handler ? await handler(request, reply, raw) : new VeldError('route.not_found', `There is no ${request.method} ${request.url}.`);
    } catch (error) {
      answer = error;
    }
    if (answer === undefined) return;
    if (answer instanceof VeldError) reply.writeHead(answer.http, { 'content-type': 'application/json' }).end(JSON.stringify({ error: answer.toBody() }));
    else reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(answer));
  };
  const server = createServer((raw, reply) => { void serve(raw, reply); });
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (ws, request) => {
    if (request.url?.startsWith('/v1/sessions/')) {
      ws.on('message', (data: Buffer) => frames.push([data[0]!, data.subarray(1).toString('utf8')]));
      session?.(ws, frames);
    } else if (request.url?.endsWith('/exec')) {
      ws.once('message', (data: Buffer) => {
        asked.push({ method: 'GET', url: request.url ?? '', body: JSON.parse(data.toString('utf8', 1)) });
        ws.on('message', (frame: Buffer) => frames.push([frame[0]!, frame.toString('utf8', 1)]));
        session?.(ws, frames);
      });
    } else {
      const handler = routes[`EVENTS ${request.url?.split('?')[0]}`];
      const events = (handler?.({ method: 'GET', url: request.url ?? '', body: undefined }, undefined as never, request) ?? []) as unknown[];
      // null ends the connection.
      for (const event of events) {
        if (event === null) ws.close();
        else ws.send(JSON.stringify(event));
      }
    }
  });
  await new Promise<void>((resolve) => { server.listen(socket, resolve); });
  t.after(() => {
    for (const ws of sockets.clients) ws.terminate();
    server.closeAllConnections();
    server.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { socket, asked, frames, veld: (words, options) => runVeld([...words], { ...options, env: { VELD_SOCKET: socket, ...options?.env } }) };
}

/** Where Node keeps what it has compiled, for the many that tests start one after the other. */
export const COMPILED: Readonly<Record<string, string>> = process.env.NODE_COMPILE_CACHE === undefined ? {} : { NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE };

/** Run `veld` from its sources with nothing of this process's environment but what is given. */
export function runVeld(words: readonly string[], options: RunOptions = {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [MAIN, ...words], { env: { PATH: process.env.PATH, VELD_SETTINGS: '/nonexistent', ...COMPILED, ...options.env }, stdio: 'pipe' });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (status, signal) => resolve({ status, signal, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') }));
    child.stdin.on('error', () => {});
    if (options.silent) child.stdin.write(options.input ?? '');
    else child.stdin.end(options.input ?? '');
  });
}

/** Answer a request for an operation as the API does: lines of records with `wait`, else 202 and the first. */
export function operation(records: readonly Partial<OperationRecord>[]): Handler {
  return ({ url }, reply) => {
    const all = records.map(operationRecord);
    if (!url.includes('wait=')) {
      reply.writeHead(202, { 'content-type': 'application/json' }).end(JSON.stringify(all[0]));
      return undefined;
    }
    reply.writeHead(200, { 'content-type': 'application/x-ndjson' });
    for (const record of all) reply.write(`${JSON.stringify(record)}\n`);
    reply.end();
    return undefined;
  };
}

/** An operation's record with defaults. */
export function operationRecord(given: Partial<OperationRecord>): OperationRecord {
  return {
    id: 'op1', kind: 'start', ve: null, state: 'succeeded', percent: 100, message: 'done', result: null, error: null,
    createdAt: '2026-11-23T12:00:00.000Z', endedAt: '2026-11-23T12:00:01.000Z', requestId: null, ...given,
  };
}

/** A VE with defaults. */
export function ve(given: Partial<VeDetail> = {}): VeDetail {
  return {
    uuid: '6f4c3f5e-0000-4000-8000-000000000101', number: 101, name: 'web', status: 'running', template: { fingerprint: 'ab'.repeat(32), name: 'debian-12' },
    addresses: ['10.187.0.2', 'fd5e:1d00:187::2'], mac: '02:00:00:00:00:01', uidBase: 1_000_000, pid: 4711, startedAt: new Date(Date.now() - 65_000).toISOString(),
    createdAt: '2026-11-23T12:00:00.000Z', set: { 'memory.limit': 1 << 30 }, lastExit: null, suspendedAt: null, deployed: 'cold', notStarted: null, health: 'ok', properties: resolveProperties({ 'memory.limit': 1 << 30 }),
    pending: [], grantedTo: null, usage: { cpuSeconds: 12.5, memoryBytes: 50 << 20, tasks: 23 }, traffic: { rxBytes: 2048, txBytes: 1024, rxPackets: 20, txPackets: 10 }, link: 'vmain-101',
    links: [{ name: 'eth0', link: 'vmain-101', mac: '02:00:00:00:00:01', hostMac: '02:76:65:6c:64:01', mtu: 1500, bridge: null, addresses: ['10.187.0.2'], prefixes: [], setup: 'host' }], ...given,
  };
}
