/** MariaDB's protocol: a user without a password, and statements that return no rows. */
import type { Line } from './talk.ts';

/** CLIENT_PROTOCOL_41, _TRANSACTIONS, _SECURE_CONNECTION, _CONNECT_WITH_DB, _PLUGIN_AUTH. */
const CAPABILITIES = 0x200 | 0x2000 | 0x8000 | 0x8 | 0x80000;

/** Begin a session. */
export async function begin(line: Line, user: string, database: string): Promise<void> {
  await packet(line); // what server it is, and a salt for passwords
  const head = Buffer.alloc(32);
  head.writeUInt32LE(CAPABILITIES, 0);
  head.writeUInt32LE(1 << 24, 4);
  head[8] = 45; // utf8mb4
  send(line, Buffer.concat([head, Buffer.from(`${user}\0\0${database}\0mysql_native_password\0`)]), 1);
  done(await packet(line));
}

/** Run a statement. @returns how many rows it changed */
export async function execute(line: Line, text: string): Promise<number> {
  send(line, Buffer.from(`\x03${text}`), 0);
  return done(await packet(line));
}

function send(line: Line, body: Buffer, sequence: number): void {
  const head = Buffer.alloc(4);
  head.writeUIntLE(body.length, 0, 3);
  head[3] = sequence;
  line.send(Buffer.concat([head, body]));
}

function packet(line: Line): Promise<Buffer> {
  return line.receive((data) => {
    if (data.length < 4 || data.length < 4 + data.readUIntLE(0, 3)) return undefined;
    const length = 4 + data.readUIntLE(0, 3);
    return { value: data.subarray(4, length), length };
  });
}

/** @throws unless it is an OK packet */
function done(body: Buffer): number {
  if (body[0] === 0xff) throw new Error(`the server says ${body.subarray(9).toString('utf8')}`);
  if (body[0] !== 0) throw new Error(`the server sent a packet ${body[0]}`);
  return body[1]!;
}
