/** A node without a daemon: it is paired with real ones, and says to them whatever a test wants. */
import assert from 'node:assert/strict';
import { randomBytes, randomUUID } from 'node:crypto';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { acceptStream } from '../../src/cluster/node-server.ts';
import { openNode, type NodeBench } from '../../src/cluster/testing.ts';
import { FrameStream, type Patience } from '../../src/migration/frames.ts';
import type { Offer, Refuse } from '../../src/migration/types.ts';
import { streamOf, type HeaderFields } from '../../src/storage/testing/trees.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import type { Instance } from './instance.ts';

/** A range that no installation picks: below all blocks. */
export const STRANGE_BASE = 0x10000000;

export interface Liar {
  bench: NodeBench;
  name: string;
  /** A new connection for a migration. */
  open(node: Instance, patience?: Patience): Promise<FrameStream>;
  /** Pair it with a node. @param there its rights on that */
  pair(node: Instance, there?: string): Promise<void>;
  /** What it does with the next connections to it, until it is told otherwise. */
  serve(handler: (link: FrameStream) => Promise<void>): void;
  close(): Promise<void>;
}

export async function makeLiar(name: string): Promise<Liar> {
  const bench = await openNode(name);
  let handler: (link: FrameStream) => Promise<void> = async () => {};
  bench.nodes.register({ path: 'migrate', needs: 'migrate', upgrade(call, head) {
    const link = new FrameStream(acceptStream(call, head));
    handler(link).catch(() => {}).finally(() => link.close());
  } }, 'migrate');
  return {
    bench, name,
    open: async (node, patience) => new FrameStream(await bench.nodes.client.stream(bench.nodes.find(node.settings.nodes.name), 'migrate'), patience),
    async pair(node, there = 'migrate') {
      const { token } = await node.json<{ token: string }>('node', 'token', '--allow', there);
      await bench.nodes.add({ name: node.settings.nodes.name, token, allow: ['migrate'] });
    },
    serve: (next) => { handler = next; },
    close: () => bench.close(),
  };
}

/** Say something, and hear the refusal. */
export async function refusalTo(liar: Liar, node: Instance, ...messages: unknown[]): Promise<Refuse['error']> {
  const link = await liar.open(node);
  try {
    for (const message of messages) link.send(message as Offer);
    const { error } = await link.receive<Refuse>('refuse');
    return error;
  } finally {
    link.close();
  }
}

/** An offer of a stopped VE in which nothing is wrong. */
export async function goodOffer(node: Instance, changes: Record<string, unknown> = {}, ve: Record<string, unknown> = {}): Promise<Offer> {
  const [template] = await node.api.call<TemplateView[]>('GET', '/v1/templates');
  const { name, fingerprint } = template!;
  const createdAt = new Date().toISOString();
  return {
    type: 'offer', protocol: 1, id: randomBytes(16).toString('hex'), epoch: 1, dryRun: false, kind: 'stopped', needs: null,
    ve: { uuid: randomUUID(), name: 'guest', template: fingerprint, properties: {}, addresses: [], mac: '02:00:5e:00:53:77', uidBase: STRANGE_BASE, createdAt, guestDirty: false, resolvers: '', ...ve },
    template: { fingerprint, name, os: 'debian', release: '12', architecture: 'amd64', size: 1000, createdAt, source: {} }, templateLayers: 1, layers: [], snapshots: [], snapshotLayers: [], diskBase: STRANGE_BASE, disk: 1000,
    ...changes,
  };
}

/** A tree by hand, which begins with its root. @param more what comes behind it */
export function treeOf(entries: readonly HeaderFields[], base = STRANGE_BASE, more: Iterable<Buffer> = []): Readable {
  return Readable.from((function* () {
    yield streamOf([{ path: './', type: '5', uid: base }, ...entries]);
    yield* more;
  })());
}

/** Nothing, without end. */
export function* zeros(): Generator<Buffer> {
  for (;;) yield Buffer.alloc(64 << 10);
}

/** What of migrations lies on a node's disk, and in its records. */
export function holdings(node: Instance): string[] {
  const { stateDir } = node.settings;
  const below = (folder: string): string[] => (existsSync(join(stateDir, folder)) ? readdirSync(join(stateDir, folder)).map((name) => `${folder}/${name}`) : []);
  return ['incoming', 'layers', 'volumes', 'states', 'ves', 'snapshots'].flatMap(below).sort();
}

/** The daemon is the same as before, and answers. */
export async function isWell(node: Instance, pid: number | undefined): Promise<void> {
  assert.equal(node.pid, pid, 'the daemon runs on');
  assert.equal((await node.api.raw('GET', '/v1')).status, 200);
}
