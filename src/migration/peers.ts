/** Streams between paired nodes, as the cluster's doors give them. */
import { acceptStream } from '../cluster/node-server.ts';
import type { NodeManager } from '../cluster/types.ts';
import type { Peers } from './types.ts';

/** Path of the streams of migrations, below `/node/v1/`. */
const PATH = 'migrate';

export function peersOf(nodes: Pick<NodeManager, 'client' | 'find' | 'register'>): Peers {
  return {
    find: (key) => nodes.find(key),
    open: ({ id }) => nodes.client.stream(nodes.find(id), PATH),
    serve: (handler) => nodes.register({ path: PATH, needs: 'migrate', upgrade: (call, head) => handler(acceptStream(call, head), call.node!) }, 'migrate'),
  };
}
