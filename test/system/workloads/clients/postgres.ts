/** PostgreSQL's protocol 3: a connection without a password, and simple queries. */
import type { Line } from './talk.ts';

/** Begin a session. */
export async function begin(line: Line, user: string, database: string): Promise<void> {
  const words = Buffer.from(`user\0${user}\0database\0${database}\0\0`);
  const head = Buffer.alloc(8);
  head.writeInt32BE(words.length + 8, 0);
  head.writeInt32BE(3 << 16, 4);
  line.send(Buffer.concat([head, words]));
  await ready(line);
}

/** Run statements, one transaction. @returns tags of what was done (`UPDATE 1`) */
export function query(line: Line, text: string): Promise<string[]> {
  const body = Buffer.from(`${text}\0`);
  const head = Buffer.alloc(5);
  head.write('Q');
  head.writeInt32BE(body.length + 4, 1);
  line.send(Buffer.concat([head, body]));
  return ready(line);
}

async function ready(line: Line): Promise<string[]> {
  const tags: string[] = [];
  for (;;) {
    const { kind, body } = await line.receive((data) => {
      if (data.length < 5 || data.length < 1 + data.readInt32BE(1)) return undefined;
      const length = 1 + data.readInt32BE(1);
      return { value: { kind: String.fromCharCode(data[0]!), body: data.subarray(5, length).toString('utf8') }, length };
    });
    if (kind === 'E') throw new Error(`the server says ${body.replaceAll('\0', ' ')}`);
    if (kind === 'C') tags.push(body.replace('\0', ''));
    if (kind === 'Z') return tags;
  }
}
