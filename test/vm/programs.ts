/** Programs of this host that machines are driven by. */
import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';

export interface RunOutcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** A port that nobody listens on now. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo;
      server.close(() => resolve(port));
    });
  });
}

/** Run a program to its end, whatever that is. @param timeout milliseconds until it is killed */
export function program(file: string, args: string[], { input, timeout }: { input?: string | Uint8Array; timeout: number }): Promise<RunOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, { stdio: [input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, timeout);
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.stdin?.on('error', () => {});
    child.stdin?.end(input);
    child.on('error', reject);
    // `exit`: the master connection of ssh stays behind and holds the pipes. Everything is read when a turn of the loop brought nothing new.
    const finish = (code: number | null, before: number): void => {
      setTimeout(() => setImmediate(() => {
        const now = out.length + err.length;
        if (now !== before) {
          finish(code, now);
          return;
        }
        clearTimeout(timer);
        const said = late ? `\n(killed after ${timeout} ms)` : '';
        resolve({ code: code ?? 255, stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') + said });
      }), 10);
    };
    child.on('exit', (code) => finish(code, -1));
  });
}
