/** The disk of a VE on its way: first all of it, then what has changed since, until that is little; the rest when the VE stands. */
import { Readable } from 'node:stream';
import type { TreeRoot } from '../kernel/mounts.ts';
import { isEnough } from '../storage/rounds.ts';
import { packTree, prepareScan, scanTree, syncTree, treeChanges, type PreparedScan, type Tree, type TreeChanges, type TreePack } from '../storage/transfer.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { FrameStream } from './frames.ts';
import { refusal } from './refusal.ts';
import type { Done, Refuse, TreeMessage } from './types.ts';

export interface DiskTask {
  signal: AbortSignal;
  /** Told of each part that has gone: bytes, of how many, and in which round. */
  progress: (sent: number, total: number, round: number) => void;
}

/** Programs that wait for a round, so that it does not wait for them. */
export interface PreparedRound {
  scan: PreparedScan;
  pack: TreePack;
  cancel(): void;
}

export function prepareRound(path: string): PreparedRound {
  const [scan, pack] = [prepareScan(path), packTree(path)];
  pack.ended.catch(() => {}); // also when it is never used
  return {
    scan, pack,
    cancel() {
      scan.cancel();
      pack.cancel();
    },
  };
}

/** A whole tree that nobody changes. @throws VeldError `migration.link`, and what the target says */
export async function sendTree(link: FrameStream, type: TreeMessage['type'], path: TreeRoot, { signal, progress }: DiskTask): Promise<void> {
  const pack = packTree(path, { signal }); // while it is scanned
  const tree = await scanTree(path, { signal });
  await send(link, { type, ...type === 'round' && { last: true } }, tree, treeChanges(new Map(), tree), pack, (sent, total) => progress(sent, total, 1));
}

/** Rounds while the VE runs. @param have what the target has already @returns what it has now */
export async function sendRounds(link: FrameStream, path: string, { signal, progress }: DiskTask, have: Tree = new Map()): Promise<Tree> {
  for (let round = 1, before = Infinity; ; round++) {
    const pack = packTree(path, { signal });
    pack.ended.catch(() => {}); // also when it is not used
    const now = await scanTree(path, { signal });
    const changes = treeChanges(have, now);
    const bytes = bytesOf(now, changes);
    if (have.size > 0 && isEnough(bytes, before, round)) {
      pack.cancel();
      return have;
    }
    faultPoint('migrate.disk');
    await syncTree(path, { signal }); // between scan and reading: see storage/transfer.ts
    await send(link, { type: 'round' }, now, changes, pack, (sent, total) => progress(sent, total, round));
    have = now;
    before = bytes;
  }
}

/** What has changed since, of a VE that stands. @param have what the target has @param last whether that is all @returns what it has now */
export async function sendRest(link: FrameStream, have: Tree, { scan, pack }: PreparedRound, last: boolean): Promise<Tree> {
  const now = await scan.run();
  await send(link, { type: 'round', last }, now, treeChanges(have, now), pack, () => {});
  return now;
}

/** The target has all of it. */
export async function sendNothing(link: FrameStream, { pack }: PreparedRound): Promise<void> {
  await send(link, { type: 'round', last: true }, new Map(), { send: [], remove: [] }, pack, () => {});
}

async function send(link: FrameStream, message: Pick<TreeMessage, 'type' | 'last'>, tree: Tree, changes: TreeChanges, pack: TreePack, progress: (sent: number, total: number) => void): Promise<void> {
  const names = Buffer.from(changes.remove.map((name) => `${name}\0`).join(''), 'latin1');
  const bytes = bytesOf(tree, changes);
  link.send({ ...message, bytes, removes: names.length } as TreeMessage);
  const told = async (): Promise<void> => {
    const reply = await link.receive<Done | Refuse>('done', 'refuse');
    if (reply.type === 'refuse') throw refusal(reply);
    if (!whole) throw new VeldError('migration.stream', 'The other node says that it has all of it, and it was not sent yet.');
  };
  let whole = names.length === 0 || await link.sendBulk(Readable.from([names]));
  if (!whole) return told();
  let sent = 0;
  // Names go in while data comes out.
  const asked = pack.send(changes.send);
  asked.catch(() => {}); // `ended` tells
  try {
    whole = await link.sendBulk(pack.output, (part) => progress(sent += part, bytes));
    if (whole) await Promise.all([asked, pack.ended]);
  } finally {
    pack.cancel();
  }
  await told();
}

function bytesOf(tree: Tree, { send: names }: TreeChanges): number {
  return names.reduce((sum, { path, type }) => sum + (type === 'file' ? tree.get(path)?.size ?? 0 : 0), 0);
}
