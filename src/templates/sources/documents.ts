/** Small documents of a source, from the first of its addresses that has them. */
import { VeldError } from '../../lib/errors.ts';
import { cancelled, get, unreachable } from './http.ts';
import { checkSignature } from './signature.ts';
import type { Documents, Source } from './types.ts';

/** Milliseconds without a byte after which a server counts as gone. */
export const STALL = 30_000;

/** @param stall milliseconds, see {@link STALL} */
export function createDocuments(source: Source, { signal, stall = STALL }: { signal?: AbortSignal; stall?: number } = {}): Documents {
  const one = async (url: string, bytes: number): Promise<Buffer | undefined> => {
    const answer = await get(url, { ca: source.ca, stall, signal });
    try {
      if (answer.statusCode === 404 || answer.statusCode === 410) return undefined;
      if (answer.statusCode !== 200) throw new VeldError('source.unreachable', `${url} answers with status ${answer.statusCode}.`);
      const parts: Buffer[] = [];
      let length = 0;
      for await (const part of answer as AsyncIterable<Buffer>) {
        length += part.length;
        if (length > bytes) throw new VeldError('source.invalid', `${url} is longer than ${bytes} bytes.`);
        parts.push(part);
      }
      if (!answer.complete) throw new VeldError('source.unreachable', `${url} broke off.`);
      return Buffer.concat(parts);
    } catch (error) {
      throw signal?.aborted ? cancelled(signal) : unreachable(url, error);
    } finally {
      answer.destroy();
    }
  };
  const documents: Documents = {
    async get(path, bytes) {
      let last: unknown;
      for (const url of source.urls) {
        try {
          return await one(`${url}/${path}`, bytes);
        } catch (error) {
          if (signal?.aborted || !(error instanceof VeldError) || error.code !== 'source.unreachable') throw error;
          last = error;
        }
      }
      throw last;
    },
    async signed(signed, plain, bytes) {
      const [name] = source.urls;
      if (source.keyring === null) {
        const content = await documents.get(plain, bytes);
        if (content === undefined) throw new VeldError('source.invalid', `${name}/${plain} is not there.`);
        return { content, signedBy: null };
      }
      const message = signed === null ? undefined : await documents.get(signed, bytes);
      if (message !== undefined) {
        const { content, signedBy } = await checkSignature({ message }, source.keyring, `${name}/${signed}`, signal);
        return { content: content!, signedBy };
      }
      const [content, signature] = [await documents.get(plain, bytes), await documents.get(`${plain}.gpg`, bytes)];
      if (content === undefined) throw new VeldError('source.invalid', `${name}/${plain} is not there.`);
      if (signature === undefined) throw new VeldError('source.untrusted', `${name}/${plain} is not signed: there is neither ${signed ?? 'a signed message'} nor ${plain}.gpg.`);
      const { signedBy } = await checkSignature({ content, signature }, source.keyring, `${name}/${plain}`, signal);
      return { content, signedBy };
    },
  };
  return documents;
}
