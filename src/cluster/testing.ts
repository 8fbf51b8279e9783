/** Nodes in one process, each with a store, a folder and a port of its own, and no VEs below. For unit tests only. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createLogger } from '../lib/log.ts';
import { defaultSettings } from '../lib/settings.ts';
import { createEventBus, type EventBus } from '../ops/events.ts';
import { openStore } from '../store/sqlite.ts';
import type { Store } from '../store/types.ts';
import { createNodes } from './nodes.ts';
import type { ApiDoor, NodeManager, RemoteUser } from './types.ts';

/** What a test has of a node. */
export interface NodeBench {
  nodes: NodeManager;
  store: Store;
  events: EventBus;
  /** Log, one object a line. */
  lines: Record<string, unknown>[];
  port: number;
  stateDir: string;
  /** Requests of other nodes to the API, in order. */
  asked: { method: string; url: string; from: RemoteUser }[];
  /** Clock of tokens, milliseconds since 1970. */
  clock: { now: number };
  close(): Promise<void>;
}

/** A port that was free a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** @param options `listen`: whether it hears others (default true); `uids`: first uid of its block; `tries`: strangers may try as often as they like; `door`: the API, instead of one that says what it hears */
export async function openNode(name: string, { listen = true, uids = 1_000_000_000, tries = false, door }: { listen?: boolean; uids?: number; tries?: boolean; door?: ApiDoor } = {}): Promise<NodeBench> {
  const stateDir = mkdtempSync(join(tmpdir(), 'veld-nodes-'));
  const port = await freePort();
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({ write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>) }, 'debug');
  const store = openStore(':memory:');
  const events = createEventBus();
  const settings = { ...defaultSettings(), stateDir, nodes: { listen: listen ? `127.0.0.1:${port}` : '', name, address: '' } };
  const clock = { now: Date.now() };
  const nodes = createNodes({ settings, store, events, log, own: { cgroup: () => 2, engine: () => 'e'.repeat(64), uids: { base: uids, count: 1000 } }, pairing: { now: () => clock.now, ...tries && { attempts: { allow: () => true } } } });
  const asked: NodeBench['asked'] = [];
  const echo: ApiDoor = {
    request(request, response, from) {
      asked.push({ method: request.method!, url: request.url!, from });
      response.writeHead(200, { 'content-type': 'application/json', 'x-there': name });
      request.pipe(response);
    },
    upgrade(request, socket, head, from) {
      asked.push({ method: 'UPGRADE', url: request.url!, from });
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.write(head);
      socket.pipe(socket);
    },
  };
  await nodes.start(door ?? echo);
  return {
    nodes, store, events, lines, port, stateDir, asked, clock,
    async close() {
      await nodes.close();
      store.close();
      rmSync(stateDir, { recursive: true });
    },
  };
}

/** Pair `a` with `b` by a token of `b`. */
export async function pairNodes(a: NodeBench, b: NodeBench, name: string, { there = [], here = [] }: { there?: ('manage' | 'migrate')[]; here?: ('manage' | 'migrate')[] } = {}): Promise<void> {
  const { token } = b.nodes.token({ allow: there });
  await a.nodes.add({ name, token, allow: here });
}
