/** Clients that each keep one TCP connection for all their questions, and ask one after another. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../../../lib/wait.ts';
import type { Load, LoadReport } from '../types.ts';

/** How long an answer may take before the client gives up, in milliseconds: a suspend and a resume on a busy machine are in it. */
const PATIENCE = 300_000;

/** One end of a TCP connection, read in pieces that a protocol defines. */
export interface Line {
  send(data: string | Uint8Array): void;
  /**
   * Wait for the next piece.
   * @param take finds it at the beginning of what has come; undefined when more must come
   */
  receive<T>(take: (data: Buffer) => { value: T; length: number } | undefined): Promise<T>;
  /** What has come and was not asked for. */
  rest(): Buffer;
  end(): void;
}

/** Connect. @throws when nobody listens */
export async function openLine(host: string, port: number): Promise<Line> {
  const socket = connect({ host, port, noDelay: true });
  let data: Buffer = Buffer.alloc(0);
  let broken: Error | undefined;
  let wake = (): void => {};
  const breaks = (error: Error): void => {
    broken ??= error;
    wake();
  };
  socket.on('error', (error) => breaks(new Error(`the connection broke: ${error.message}`)));
  socket.on('close', () => breaks(new Error('the connection was closed')));
  await connected(socket);
  socket.on('data', (chunk) => {
    data = data.length === 0 ? chunk : Buffer.concat([data, chunk]);
    wake();
  });
  return {
    send: (bytes) => { socket.write(bytes); },
    async receive(take) {
      const end = performance.now() + PATIENCE;
      for (;;) {
        const piece = take(data);
        if (piece !== undefined) {
          data = data.subarray(piece.length);
          return piece.value;
        }
        if (broken) throw broken;
        if (performance.now() > end) throw new Error(`no answer within ${PATIENCE / 1000} s`);
        await new Promise<void>((resolve) => {
          const timer = setTimeout(resolve, 5000);
          wake = (): void => {
            clearTimeout(timer);
            resolve();
          };
        });
      }
    },
    rest: () => data,
    end: () => { socket.destroy(); },
  };
}

function connected(socket: Socket): Promise<void> {
  return new Promise((resolve, reject) => {
    socket.once('connect', () => resolve());
    socket.once('error', reject);
  });
}

/** A line that ends with `end`. */
export function untilText(end: string): (data: Buffer) => { value: string; length: number } | undefined {
  return (data) => {
    const at = data.indexOf(end);
    return at < 0 ? undefined : { value: data.subarray(0, at).toString('latin1'), length: at + end.length };
  };
}

export interface TalkOptions {
  host: string;
  port: number;
  /** Connections. */
  clients: number;
  /** Milliseconds from an answer to the next question. */
  pause: number;
  /** What is said once, at the beginning of a connection. */
  begin?(line: Line, client: number): Promise<void>;
  /** Ask, and look at the answer. @param n number of this client's question, from 1 @throws for a wrong answer */
  ask(line: Line, n: number, client: number): Promise<void>;
}

/** Connect all clients and let them ask until they are stopped. */
export async function talk({ host, port, clients, pause, begin, ask }: TalkOptions): Promise<Load & { asked(): number[] }> {
  const lines: Line[] = [];
  for (let client = 0; client < clients; client++) {
    const line = await openLine(host, port);
    lines.push(line);
    await begin?.(line, client);
  }
  const report: LoadReport = { questions: 0, answers: 0, longestGap: 0, problems: [] };
  const asked = lines.map(() => 0);
  const end = new AbortController();
  const work = lines.map(async (line, client) => {
    try {
      for (let n = 1; !end.signal.aborted; n++) {
        const since = performance.now();
        report.questions += 1;
        asked[client] = n;
        await ask(line, n, client);
        report.answers += 1;
        report.longestGap = Math.max(report.longestGap, performance.now() - since);
        await sleep(pause);
      }
      if (line.rest().length > 0) throw new Error(`${line.rest().length} bytes that nobody asked for`);
    } catch (error) {
      report.problems.push(`client ${client}, question ${asked[client]}: ${(error as Error).message}`);
    } finally {
      line.end();
    }
  });
  return {
    asked: () => asked,
    answers: () => report.answers,
    async answered() {
      const before = [...asked];
      await until('all clients to have an answer', () => report.problems.length > 0 || asked.every((n, client) => n > before[client]!), PATIENCE, 10);
    },
    problems: () => report.problems,
    async stop() {
      end.abort();
      await Promise.all(work);
      return report;
    },
  };
}
