/**
 * Large files of a source: written to a file while their hash is taken, gone on with where they broke off, from whichever address has them.
 * Nothing is believed before size and hash are what the source's list says; what is not is not kept.
 */
import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../../lib/errors.ts';
import { cancelled, get, unreachable } from './http.ts';
import { STALL } from './documents.ts';
import type { ImageFile, Source } from './types.ts';

/** Attempts in a row that bring nothing, until it is given up. */
const ATTEMPTS = 5;
/** Milliseconds before the second attempt; twice as many before each further one. */
const PAUSE = 500;
/** Most of a file whose size nobody says, bytes. */
const UNSAID = 8 * 2 ** 30;

export interface DownloadOptions {
  signal?: AbortSignal;
  /** Told of the bytes that are there. */
  progress?: (bytes: number) => void;
  stall?: number;
  pause?: number;
}

/**
 * Bring a file of an image to the disk.
 * @param target its path; what is there is gone on with
 * @returns sha256 of its content
 * @throws VeldError `source.unreachable` (what has come stays, for the next attempt), `source.corrupt` (nothing stays), `disk.full`, `operation.cancelled`
 */
export async function download(source: Pick<Source, 'name' | 'urls' | 'ca'>, file: Pick<ImageFile, 'path' | 'size' | 'sha256'>, target: string, { signal, progress, stall = STALL, pause = PAUSE }: DownloadOptions = {}): Promise<string> {
  const most = file.size ?? UNSAID;
  const corrupt = async (url: string, why: string): Promise<VeldError> => {
    await rm(target, { force: true });
    return new VeldError('source.corrupt', `${url} is not what the list of ${source.name} says: ${why}.`);
  };
  // Without a size nobody can tell whether what is there is all of it.
  let [hash, have] = file.size === null ? [createHash('sha256'), 0] : await soFar(target, most);
  /** Times that all of it had come, and was something else. What an earlier call left may have been the fault of that. */
  let wrong = have > 0 ? -1 : 0;
  for (let [attempt, left] = [0, ATTEMPTS]; ; attempt += 1) {
    const url = `${source.urls[attempt % source.urls.length]}/${file.path}`;
    const before = have;
    let problem: VeldError | undefined;
    if (file.size === null || have < file.size) {
      try {
        const answer = await get(url, { ca: source.ca, stall, signal, ...have > 0 && { headers: { range: `bytes=${have}-` } } });
        try {
          if (have > 0 && answer.statusCode === 200) [hash, have] = [createHash('sha256'), 0]; // it cannot go on in the middle
          else if (answer.statusCode !== (have > 0 ? 206 : 200)) throw new VeldError('source.unreachable', `${url} answers with status ${answer.statusCode}.`);
          else if (have > 0 && !answer.headers['content-range']?.startsWith(`bytes ${have}-`)) throw new VeldError('source.unreachable', `${url} answers with another part than the one that was asked for.`);
          const output = await open(target, have > 0 ? 'r+' : 'w', 0o600);
          try {
            for await (const chunk of answer as AsyncIterable<Buffer>) {
              if (have + chunk.length > most) throw await corrupt(url, `it is longer than ${most} bytes`);
              hash.update(chunk);
              for (let done = 0; done < chunk.length;) done += (await output.write(chunk, done, chunk.length - done, have + done)).bytesWritten;
              have += chunk.length;
              progress?.(have);
            }
            if (!answer.complete) throw new VeldError('source.unreachable', `${url} broke off after ${have} bytes.`);
          } finally {
            await output.close();
          }
        } finally {
          answer.destroy();
        }
        if (file.size !== null && have < file.size) problem = new VeldError('source.unreachable', `${url} broke off: it has ${have} of ${file.size} bytes.`);
      } catch (error) {
        if (signal?.aborted) throw cancelled(signal);
        const code = (error as NodeJS.ErrnoException).code;
        if (code === 'ENOSPC' || code === 'EDQUOT') throw new VeldError('disk.full', `No space left for ${target}.`, { cause: error });
        problem = unreachable(url, error);
        if (problem.code !== 'source.unreachable') throw problem;
      }
    }
    if (!problem) {
      const sha256 = hash.copy().digest('hex');
      if (file.sha256 === null || sha256 === file.sha256) return sha256;
      const mismatch = await corrupt(url, `its sha256 is ${sha256}, not ${file.sha256}`);
      wrong += 1;
      if (wrong >= source.urls.length) throw mismatch;
      [hash, have] = [createHash('sha256'), 0];
      continue;
    }
    left = have > before ? ATTEMPTS : left - 1;
    if (left <= 0) throw problem;
    await sleep(pause * 2 ** (ATTEMPTS - left), undefined, { signal }).catch(() => { throw cancelled(signal!); });
  }
}

/** What an earlier attempt has left. */
async function soFar(target: string, most: number): Promise<[hash: Hash, bytes: number]> {
  const hash = createHash('sha256');
  const there = await stat(target).catch(() => undefined);
  if (!there?.isFile() || there.size > most) return [hash, 0];
  for await (const chunk of createReadStream(target, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  return [hash, there.size];
}
