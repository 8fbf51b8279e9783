/** The API as any program sees it: plain HTTP and WebSocket on the unix socket, without Veld's own client. */
import { request } from 'node:http';
import { WebSocket } from 'ws';
import type { OperationRecord } from '../../src/store/types.ts';
import type { ErrorBody } from '../../src/lib/errors.ts';

export interface Answer<T = unknown> {
  status: number;
  /** Parsed JSON, or the text when it is none. */
  body: T;
  headers: Record<string, string | string[] | undefined>;
}

/** An answer that was not 2xx. */
export class ApiError extends Error {
  readonly status: number;
  readonly error: ErrorBody;
  constructor(status: number, error: ErrorBody) {
    super(`${status} ${error?.code}: ${error?.message}`);
    this.status = status;
    this.error = error;
  }
  get code(): string {
    return this.error.code;
  }
}

export interface Api {
  /** One request, whatever it answers. */
  raw(method: string, path: string, body?: unknown): Promise<Answer>;
  /** One request that must succeed. @throws ApiError */
  call<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /** A request that starts an operation, until it has ended. @throws ApiError also when the operation failed (status 0) */
  operate(method: string, path: string, body?: unknown): Promise<OperationRecord>;
  /** WebSocket to a path. */
  socket(path: string): WebSocket;
}

/** The API behind a unix socket. */
export function api(socketPath: string): Api {
  const raw = (method: string, path: string, body?: unknown): Promise<Answer> => new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const call = request({ socketPath, method, path, agent: false, headers: payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {} },
      (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          let parsed: unknown = text;
          if (String(response.headers['content-type']).includes('application/json') && text !== '') parsed = JSON.parse(text);
          resolve({ status: response.statusCode ?? 0, body: parsed, headers: response.headers });
        });
      });
    call.on('error', reject);
    call.end(payload);
  });
  const check = (answer: Answer): Answer => {
    if (answer.status >= 200 && answer.status < 300) return answer;
    throw new ApiError(answer.status, (answer.body as { error: ErrorBody }).error);
  };
  return {
    raw,
    call: async <T>(method: string, path: string, body?: unknown): Promise<T> => check(await raw(method, path, body)).body as T,
    operate: async (method, path, body) => {
      const answer = check(await raw(method, `${path}${path.includes('?') ? '&' : '?'}wait=1`, body));
      const lines = String(answer.body).trim().split('\n');
      const last = (typeof answer.body === 'string' ? JSON.parse(lines.at(-1) ?? '') : answer.body) as OperationRecord;
      if (last.state !== 'succeeded') throw new ApiError(0, (last.error ?? { code: 'internal', message: `operation ended as ${last.state}`, hint: '' }) as ErrorBody);
      return last;
    },
    socket: (path) => new WebSocket(`ws+unix:${socketPath}:${path}`),
  };
}
