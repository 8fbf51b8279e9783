/** For tests: entries of tar archives, the impossible ones included. */
export interface Member {
  name: string;
  type?: string;
  mode?: number;
  link?: string;
  content?: string;
}

/** One entry: header, content, padding. */
export function member({ name, type = '0', mode = 0o644, link = '', content = '' }: Member): Buffer {
  const data = Buffer.from(content);
  const block = Buffer.alloc(512);
  block.write(name, 0, 100);
  block.write(`${mode.toString(8).padStart(7, '0')}\0`, 100);
  block.write('0000000\0', 108);
  block.write('0000000\0', 116);
  block.write(`${data.length.toString(8).padStart(11, '0')}\0`, 124);
  block.write('00000000000\0', 136);
  block.write(type, 156);
  block.write(link, 157, 100);
  block.write('ustar\x0000', 257, 'latin1');
  let sum = 256;
  for (let i = 0; i < 512; i++) if (i < 148 || i >= 156) sum += block[i]!;
  block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return Buffer.concat([block, data, Buffer.alloc((512 - (data.length % 512)) % 512)]);
}

/** An extended header for the next entry. */
export function pax(records: Record<string, string>, type = 'x'): Buffer {
  const content = Object.entries(records).map(([key, value]) => {
    const rest = ` ${key}=${value}\n`;
    let length = rest.length + 1;
    while (`${length}`.length + rest.length !== length) length = `${length}`.length + rest.length;
    return `${length}${rest}`;
  }).join('');
  return member({ name: 'PaxHeader', type, content });
}
