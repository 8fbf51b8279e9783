/** Redis' protocol (RESP 2): as much as a few commands and a subscription need. */
import type { Line } from './talk.ts';

export type Reply = string | number | null | Reply[];

/** Say a command, do not wait. */
export function command(line: Line, ...words: string[]): void {
  line.send(`*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`);
}

/** The next reply or message. @throws for an error of the server's */
export function reply(line: Line): Promise<Reply> {
  return line.receive((data) => {
    const parsed = parse(data, 0);
    return parsed && { value: parsed.value, length: parsed.end };
  });
}

function parse(data: Buffer, at: number): { value: Reply; end: number } | undefined {
  const eol = data.indexOf('\r\n', at);
  if (eol < 0) return undefined;
  const [kind, rest, end] = [String.fromCharCode(data[at]!), data.subarray(at + 1, eol).toString('utf8'), eol + 2];
  switch (kind) {
    case '+': return { value: rest, end };
    case ':': return { value: Number(rest), end };
    case '$': {
      const size = Number(rest);
      if (size < 0) return { value: null, end };
      return data.length < end + size + 2 ? undefined : { value: data.subarray(end, end + size).toString('utf8'), end: end + size + 2 };
    }
    case '*': {
      const list: Reply[] = [];
      let next = end;
      for (let i = 0; i < Number(rest); i++) {
        const item = parse(data, next);
        if (!item) return undefined;
        list.push(item.value);
        next = item.end;
      }
      return { value: list, end: next };
    }
    default: throw new Error(`the server says ${kind}${rest}`);
  }
}
