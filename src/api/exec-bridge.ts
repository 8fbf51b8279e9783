/**
 * Ties a running command to a WebSocket. Binary frames, the first byte names the channel; back-pressure is passed on both ways:
 * a client that does not read stops the command's output, a command that does not read stops the client.
 */
import { finished } from 'node:stream/promises';
import type { RawData, WebSocket } from 'ws';
import { Compile } from 'typebox/compile';
import { toApiError } from './errors.ts';
import { ControlMessage } from './schemas.ts';
import { VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { ExecSession } from '../ve/types.ts';

/** First byte of each frame. */
export const CHANNEL = { stdin: 0, stdout: 1, stderr: 2, control: 3 } as const;
/** Largest frame that a client may send, in bytes. */
export const FRAME_LIMIT = (1 << 20) + 1;
/** Bytes that may wait for a slow client before the command's output is paused, and how few of them let it go on. */
const HIGH_WATER = 1 << 20;
const LOW_WATER = 1 << 18;
/** A paused socket does not show that its peer is gone; writing to it does. */
const PROBE_INTERVAL = 5_000;
/** Output ends before `exit` settles, so nothing is lost by not waiting for ever. */
const SILENCE_AFTER_EXIT = 1_000;

const controlMessage = Compile(ControlMessage);

/** A frame: channel, then payload. */
export function frame(channel: number, payload: Uint8Array | string): Buffer {
  return Buffer.concat([Buffer.of(channel), typeof payload === 'string' ? Buffer.from(payload) : payload]);
}

/** A message of ws in one piece. */
export function toBuffer(data: RawData): Buffer {
  if (Array.isArray(data)) return Buffer.concat(data);
  return Buffer.isBuffer(data) ? data : Buffer.from(data);
}

/**
 * Serve one session until the command has ended or the client has gone (then the command gets SIGHUP).
 * Must be called at once when the socket opens.
 * @param ws the client
 * @param start begins the command
 * @param stop aborted when the daemon stops: as if the client went away
 * @returns exit status of the command, or undefined when the client went first or the command could not be begun
 */
export async function bridgeSession(ws: WebSocket, start: () => Promise<ExecSession>, log: Logger, stop: AbortSignal): Promise<number | undefined> {
  const open = (): boolean => ws.readyState === ws.OPEN;
  const control = (message: object): void => { if (open()) ws.send(frame(CHANNEL.control, JSON.stringify(message)), { binary: true }); };
  const early: Buffer[] = [];
  let session: ExecSession | undefined;
  let gone = false;
  let over = false;
  let hungUp = false;

  const hangUp = (): void => {
    gone = true;
    if (!session || over || hungUp) return;
    hungUp = true;
    log.debug('the client went away: SIGHUP to its command');
    session.kill('SIGHUP');
    session.stdin.end();
    resumeOutput();
  };
  const fail = (error: unknown, code: number): void => {
    control({ type: 'error', error: toApiError(error).toBody() });
    ws.close(code);
  };

  let probe: NodeJS.Timeout | undefined;
  const pauseInput = (): void => {
    ws.pause();
    probe ??= setInterval(() => { if (open()) ws.ping(); }, PROBE_INTERVAL);
  };
  const resumeInput = (): void => {
    clearInterval(probe);
    probe = undefined;
    ws.resume();
  };
  const onFrame = (data: Buffer): void => {
    if (!session || gone || over) return;
    const payload = data.subarray(1);
    if (data[0] === CHANNEL.stdin) {
      if (session.stdin.writable && !session.stdin.write(payload)) pauseInput();
      return;
    }
    const message: unknown = data[0] === CHANNEL.control ? parse(payload) : undefined;
    if (!controlMessage.Check(message)) {
      fail(new VeldError('request.invalid', 'A frame of the session is not valid.'), 1008);
      hangUp();
      return;
    }
    if (message.type === 'eof') session.stdin.end();
    else if (message.type === 'resize') session.resize(message.columns, message.rows);
    else session.kill(message.signal);
  };
  ws.on('message', (data, isBinary) => {
    const buffer = isBinary ? toBuffer(data) : Buffer.of(255);
    if (session) onFrame(buffer);
    else early.push(buffer); // what had arrived with the handshake; the socket is paused, so it is little
  });
  ws.on('close', hangUp);
  ws.on('error', hangUp);
  stop.addEventListener('abort', hangUp, { once: true });

  let outputPaused = false;
  let lastOutput = performance.now();
  const outputs: NodeJS.ReadableStream[] = [];
  const resumeOutput = (): void => {
    outputPaused = false;
    for (const stream of outputs) stream.resume();
  };
  const sent = (): void => { if (outputPaused && ws.bufferedAmount <= LOW_WATER) resumeOutput(); };
  const pump = (channel: number, stream: NodeJS.ReadableStream): Promise<void> => {
    outputs.push(stream);
    stream.on('data', (chunk: Buffer) => {
      lastOutput = performance.now();
      if (!open()) return; // nobody listens: the command shall not hang on a full pipe
      ws.send(frame(channel, chunk), { binary: true }, sent);
      if (ws.bufferedAmount > HIGH_WATER && !outputPaused) {
        outputPaused = true;
        for (const each of outputs) each.pause();
      }
    });
    return finished(stream, { writable: false }).catch((error: unknown) => log.debug({ err: error }, 'output of a session ended oddly'));
  };

  pauseInput();
  try {
    session = await start();
  } catch (error) {
    stop.removeEventListener('abort', hangUp);
    resumeInput();
    fail(error, 1000);
    return undefined;
  }
  session.stdin.on('error', () => resumeInput()); // the command ended without reading everything
  session.stdin.on('drain', resumeInput);
  session.stdin.on('close', resumeInput);
  const streams = [pump(CHANNEL.stdout, session.stdout)];
  if (session.stderr) streams.push(pump(CHANNEL.stderr, session.stderr));
  resumeInput();
  for (const data of early.splice(0)) onFrame(data);
  if (gone || !open()) hangUp();

  try {
    const code = await session.exit;
    const silence = setInterval(() => {
      if (outputPaused || performance.now() - lastOutput < SILENCE_AFTER_EXIT) return;
      for (const stream of outputs) (stream as NodeJS.ReadableStream & { destroy?: () => void }).destroy?.();
    }, SILENCE_AFTER_EXIT / 4);
    await Promise.all(streams);
    clearInterval(silence);
    over = true;
    control({ type: 'exit', code });
    ws.close(1000);
    return gone ? undefined : code;
  } catch (error) {
    over = true;
    fail(error, 1000);
    return undefined;
  } finally {
    stop.removeEventListener('abort', hangUp);
    resumeInput();
  }
}

function parse(payload: Uint8Array): unknown {
  try {
    return JSON.parse(Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength).toString('utf8'));
  } catch {
    return undefined;
  }
}
