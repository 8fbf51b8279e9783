/** A command with streams in a VE, over the API's WebSocket as it is documented. */
import { once } from 'node:events';
import type { ErrorBody } from '../../src/lib/errors.ts';
import type { ExecRequest } from '../../src/ve/types.ts';
import type { Api } from './http.ts';

/** Channels of the frames: first byte of each. */
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;
const CONTROL = 3;

export interface Session {
  write(data: string | Uint8Array): void;
  eof(): void;
  resize(columns: number, rows: number): void;
  signal(name: NodeJS.Signals): void;
  /** Output so far. */
  stdout(): string;
  stderr(): string;
  /** Exit status. Rejects with the daemon's error code. */
  exit: Promise<number>;
  /** Break the connection without a goodbye. */
  terminate(): void;
}

/** Open a session and wait until it is connected. */
export async function openSession(api: Api, ve: string, request: ExecRequest): Promise<Session> {
  const { session } = await api.call<{ session: string }>('POST', `/v1/ves/${ve}/sessions`, request);
  const socket = api.socket(`/v1/sessions/${session}`);
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  const exit = new Promise<number>((resolve, reject) => {
    socket.on('message', (data: Buffer) => {
      const body = data.subarray(1);
      if (data[0] === STDOUT) out.push(body);
      else if (data[0] === STDERR) err.push(body);
      else if (data[0] === CONTROL) {
        const message = JSON.parse(body.toString('utf8')) as { type: string; code: number; error: ErrorBody };
        if (message.type === 'exit') resolve(message.code);
        else reject(Object.assign(new Error(message.error.message), { code: message.error.code }));
      }
    });
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('the session was closed without an exit status')));
  });
  exit.catch(() => {});
  await once(socket, 'open');
  const control = (message: object): void => socket.send(Buffer.concat([Buffer.of(CONTROL), Buffer.from(JSON.stringify(message))]));
  return {
    write: (data) => socket.send(Buffer.concat([Buffer.of(STDIN), Buffer.from(data as string)])),
    eof: () => control({ type: 'eof' }),
    resize: (columns, rows) => control({ type: 'resize', columns, rows }),
    signal: (signal) => control({ type: 'signal', signal }),
    stdout: () => Buffer.concat(out).toString('utf8'),
    stderr: () => Buffer.concat(err).toString('utf8'),
    exit,
    terminate: () => socket.terminate(),
  };
}
