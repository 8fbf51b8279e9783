/** HTTP with connections that are kept alive: each request carries a number, and the answer must be that number. */
import type { Load } from '../types.ts';
import { talk, type Line } from './talk.ts';

/** @param path of the request; what it is answered with must be `CLIENT-N` */
export function httpLoad(host: string, port: number, path: (word: string) => string): Promise<Load> {
  return talk({
    host, port, clients: 8, pause: 20,
    async ask(line, n, client) {
      const word = `${client}-${n}`;
      line.send(`GET ${path(word)} HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
      const body = await httpAnswer(line);
      if (body.trim() !== word) throw new Error(`asked for ${word}, was given ${JSON.stringify(body.slice(0, 200))}`);
    },
  });
}

/** An answer with its length said, or in chunks. @returns its body @throws when its status is not 200 */
async function httpAnswer(line: Line): Promise<string> {
  return line.receive((data) => {
    const end = data.indexOf('\r\n\r\n');
    if (end < 0) return undefined;
    const head = data.subarray(0, end).toString('latin1');
    if (!head.startsWith('HTTP/1.1 200')) throw new Error(`answered ${head.split('\r\n')[0]}`);
    if (/^connection: close/im.test(head)) throw new Error('the server does not keep the connection');
    const length = /^content-length: *(\d+)/im.exec(head)?.[1];
    if (length !== undefined) {
      const whole = end + 4 + Number(length);
      return data.length < whole ? undefined : { value: data.subarray(end + 4, whole).toString('utf8'), length: whole };
    }
    let body = '';
    for (let at = end + 4; ;) {
      const eol = data.indexOf('\r\n', at);
      if (eol < 0) return undefined;
      const size = Number.parseInt(data.subarray(at, eol).toString('latin1'), 16);
      if (data.length < eol + 2 + size + 2) return undefined;
      body += data.subarray(eol + 2, eol + 2 + size).toString('utf8');
      at = eol + 2 + size + 2;
      if (size === 0) return { value: body, length: at };
    }
  });
}
