/** Trees as a node has sent them, to be sent to another by a node that lies. */
import { Readable, Writable } from 'node:stream';
import type { FrameStream } from '../../src/migration/frames.ts';
import type { Done, Refuse, TreeMessage } from '../../src/migration/types.ts';

export interface RecordedTree {
  message: TreeMessage;
  /** What is to be removed before it; empty for nothing. */
  names: Buffer;
  tree: Buffer;
}

/** Take the tree of which a message has told, and say that it has come. */
export async function recordTree(link: FrameStream, message: TreeMessage): Promise<RecordedTree> {
  const names = (message.removes ?? 0) > 0 ? await bulk(link) : Buffer.alloc(0);
  const tree = await bulk(link);
  link.send({ type: 'done' });
  return { message, names, tree };
}

/** Send one. @throws Error with the words of whoever does not want it */
export async function playTree(link: FrameStream, { message, names, tree }: RecordedTree): Promise<void> {
  link.send(message);
  if (names.length > 0) await link.sendBulk(Readable.from([names]));
  await link.sendBulk(Readable.from([tree])).catch(() => {});
  const said = await link.receive<Done | Refuse>('done', 'refuse');
  if (said.type === 'refuse') throw new Error(said.error.message);
}

/** Say that it is not wanted after all: whoever sends it keeps it. */
export async function sayNo(link: FrameStream): Promise<void> {
  link.send({ type: 'refuse', error: { code: 'migration.refused', message: 'no', hint: '' } } as { type: string });
  await link.finish();
}

async function bulk(link: FrameStream): Promise<Buffer> {
  const parts: Buffer[] = [];
  await link.receiveBulk(new Writable({ write: (chunk: Buffer, _encoding, done) => { parts.push(Buffer.from(chunk)); done(); } }));
  return Buffer.concat(parts);
}
