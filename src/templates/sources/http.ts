/** HTTP as sources need it: bounded, patient for so long, and never led from TLS to none. */
import { readFileSync } from 'node:fs';
import { request as plainRequest, type IncomingMessage } from 'node:http';
import { request as tlsRequest } from 'node:https';
import { VeldError } from '../../lib/errors.ts';
import { VERSION } from '../../lib/version.ts';

/** Most redirects that are followed. */
const REDIRECTS = 5;

export interface GetOptions {
  headers?: Record<string, string>;
  /** File with the certificates to check TLS against; null: those of the host. */
  ca: string | null;
  /** Milliseconds without a byte after which the server counts as gone. */
  stall: number;
  signal: AbortSignal | undefined;
}

/**
 * Ask for a resource.
 * @returns the answer, whose body the caller reads to its end or destroys; it is destroyed when nothing comes for so long
 * @throws VeldError `source.unreachable`, `operation.cancelled`
 */
export async function get(url: string, options: GetOptions): Promise<IncomingMessage> {
  let at = new URL(url);
  for (let left = REDIRECTS; ; left -= 1) {
    const answer = await once(at, options);
    const { location } = answer.headers;
    if (![301, 302, 303, 307, 308].includes(answer.statusCode ?? 0) || location === undefined) return answer;
    answer.destroy();
    const next = URL.canParse(location, at.href) ? new URL(location, at) : undefined;
    if (!next || !/^https?:$/.test(next.protocol) || at.protocol === 'https:' && next.protocol !== 'https:') throw new VeldError('source.unreachable', `${at.href} leads to ${JSON.stringify(location.slice(0, 200))}, which is not gone to.`);
    if (left === 0) throw new VeldError('source.unreachable', `${url} leads on and on.`);
    at = next;
  }
}

function once(url: URL, { headers, ca, stall, signal }: GetOptions): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(cancelled(signal));
    const wanted = { headers: { 'user-agent': `veld/${VERSION}`, ...headers }, agent: false as const, ...signal && { signal } };
    const request = url.protocol === 'https:' ? tlsRequest(url, { ...wanted, ...ca !== null && { ca: readFileSync(ca) } }, resolve) : plainRequest(url, wanted, resolve);
    // Of the socket: while the answer is read, too.
    request.setTimeout(stall, () => request.destroy(new Error(`nothing came for ${stall / 1000} seconds`)));
    request.on('error', (error) => reject(signal?.aborted ? cancelled(signal) : unreachable(url.href, error)));
    request.end();
  });
}

/** @throws always */
export function unreachable(url: string, error: unknown): VeldError {
  if (error instanceof VeldError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  return new VeldError('source.unreachable', `${url} cannot be read: ${message || code || String(error)}.`, { cause: error });
}

export function cancelled(signal: AbortSignal): VeldError {
  return new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: signal.reason });
}
