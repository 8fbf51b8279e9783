/** JSON requests on a unix socket, over one connection that is kept alive: the same client for Veld and for Incus. */
import { Agent, request } from 'node:http';

export interface JsonClient {
  /** One request. @throws Error with status and text when the answer is not 2xx */
  call<T = unknown>(method: string, path: string, body?: unknown): Promise<T>;
  /** The same without parsing: what a client does that hands the answer on. @returns bytes */
  bytes(method: string, path: string): Promise<number>;
  close(): void;
}

export function jsonClient(socketPath: string): JsonClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const raw = (method: string, path: string, body?: unknown): Promise<Buffer> => new Promise((resolve, reject) => {
    const payload = body === undefined ? undefined : Buffer.from(JSON.stringify(body));
    const headers = payload ? { 'content-type': 'application/json', 'content-length': payload.length } : {};
    const outgoing = request({ socketPath, agent, method, path, headers }, (answer) => {
      const chunks: Buffer[] = [];
      answer.on('data', (chunk: Buffer) => chunks.push(chunk));
      answer.on('error', reject);
      answer.on('end', () => {
        const all = Buffer.concat(chunks);
        const status = answer.statusCode ?? 0;
        if (status >= 200 && status < 300) resolve(all);
        else reject(new Error(`${method} ${path}: ${status} ${all.toString('utf8').slice(0, 500)}`));
      });
    });
    outgoing.on('error', reject);
    outgoing.end(payload);
  });
  return {
    call: async <T>(method: string, path: string, body?: unknown): Promise<T> => {
      const text = (await raw(method, path, body)).toString('utf8').trim();
      // An operation that is waited for answers with a line for each change; the last one says how it ended.
      return (text === '' ? null : JSON.parse(text.startsWith('{') && text.includes('\n{') ? text.slice(text.lastIndexOf('\n') + 1) : text)) as T;
    },
    bytes: async (method, path) => (await raw(method, path)).length,
    close: () => agent.destroy(),
  };
}
