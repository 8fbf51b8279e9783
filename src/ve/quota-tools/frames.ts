/** What goes between a quota tool in a VE and the daemon. Format: src/kernel/quota-client.c. */
import type { ToolAnswer } from './types.ts';

/** Most that one frame holds, in bytes. */
export const MOST = 1 << 20;
/** Most that a whole request holds: what was edited, and words. */
const MOST_REQUEST = MOST + (1 << 17);
const HEAD = 5;

export interface AskedTool {
  tool: string;
  words: string[];
  text: string | undefined;
}

/** Reads a request as it comes. Nothing of it is trusted. */
export interface RequestReader {
  /** @returns the request, once it is whole @throws Error for one that is not of the format, or too long */
  add(chunk: Buffer): AskedTool | undefined;
}

export function readRequest(): RequestReader {
  let pending: Buffer[] = [];
  /** Bytes that are pending, that have come, and that must be pending before there is another frame: what comes is joined no more often than that. */
  let size = 0, total = 0, needed = HEAD;
  let words: string[] | undefined;
  let text: string | undefined;
  return {
    add(chunk) {
      pending.push(chunk);
      size += chunk.length;
      total += chunk.length;
      if (total > MOST_REQUEST) throw new Error('the request is too long');
      if (size < needed) return undefined;
      const bytes = Buffer.concat(pending);
      let at = 0;
      for (needed = HEAD; bytes.length - at >= needed; needed = HEAD) {
        const length = bytes.readUInt32LE(at + 1);
        if (length > MOST) throw new Error('a frame is too long');
        needed = HEAD + length;
        if (bytes.length - at < needed) break;
        const type = String.fromCodePoint(bytes[at]!);
        const content = bytes.toString('utf8', at + HEAD, at + needed);
        at += needed;
        if (type === 'A') words = content.split('\0').slice(0, -1);
        else if (type === 'T') text = (text ?? '') + content;
        else if (type !== 'G') throw new Error('a frame of an unknown type');
        else if (words?.[0] === undefined) throw new Error('there are no words');
        else return { tool: words[0].split('/').at(-1)!, words: words.slice(1), text };
      }
      pending = [bytes.subarray(at)];
      size = bytes.length - at;
      return undefined;
    },
  };
}

/** The whole answer, as it is sent. */
export function answerFrames({ status, out = '', err = '', edit, input, mails = [] }: ToolAnswer): Buffer {
  const frames: Buffer[] = [];
  const put = (type: string, content: Buffer): void => {
    for (let at = 0; at === 0 || at < content.length; at += MOST) {
      const piece = content.subarray(at, at + MOST);
      const head = Buffer.alloc(HEAD);
      head.write(type, 'latin1');
      head.writeUInt32LE(piece.length, 1);
      frames.push(head, piece);
    }
  };
  if (out !== '') put('O', Buffer.from(out));
  if (err !== '') put('R', Buffer.from(err));
  for (const mail of mails) put('M', Buffer.from(mail));
  if (edit !== undefined) put('E', Buffer.from(edit).subarray(0, MOST));
  if (input) put('S', Buffer.alloc(0));
  put('X', Buffer.from([status]));
  return Buffer.concat(frames);
}
