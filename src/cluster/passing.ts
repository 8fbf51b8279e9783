/**
 * The API of another node, reached through this one: what `veld --node` does.
 *
 * The asking node passes requests on as they are, bodies and WebSockets as raw streams; the asked node hands them to its own API as if they had come by its socket,
 * with the name of the node and of the user in the audit log. Routes about nodes are not served that way: nobody reaches a third node through a second.
 */
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import type { Duplex, Readable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { unreachable } from './dial.ts';
import type { NodeClient } from './node-client.ts';
import type { NodeCall, NodeRoute } from './node-server.ts';
import type { Peers } from './peers.ts';
import { CALLS } from './rights.ts';
import type { ApiDoor, PassedRequest, RemoteUser } from './types.ts';

/** How often a node that has not begun to answer is asked whether it lives, in milliseconds, and how often in vain before it is given up. */
const PULSE = 5000;
const PULSES = 2;

const USER_HEADER = 'veld-user';
const REQUEST_HEADER = 'veld-request-id';

/** Where the API of a node is, for other nodes. */
const API = 'api/';

/** Headers that are about one connection only (RFC 9110, 7.6.1), and those that this file writes itself. */
const NOT_PASSED = new Set(['connection', 'keep-alive', 'proxy-connection', 'transfer-encoding', 'te', 'trailer', 'upgrade', 'host', 'expect']);

/** Headers that go on to the other side. */
export function passedHeaders(headers: OutgoingHttpHeaders): OutgoingHttpHeaders {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !NOT_PASSED.has(name) && !name.startsWith('veld-')));
}

export interface Passing {
  pass(request: PassedRequest, body: Readable | undefined): Promise<IncomingMessage>;
  passUpgrade(request: PassedRequest): Promise<{ answer: IncomingMessage; stream?: Duplex }>;
}

/** The asking side. */
export function createPassing({ peers, client }: { peers: Peers; client: NodeClient }): Passing {
  /** Do the work, and give it up when the other node lives no more: an answer may take as long as it takes, so its time says nothing. */
  const whileAlive = async <T>(request: PassedRequest, work: (signal: AbortSignal) => Promise<T>): Promise<T> => {
    const node = peers.byName(request.node);
    const dead = new AbortController();
    let failed = 0;
    let asking = false;
    const pulse = setInterval(() => {
      if (asking) return;
      asking = true;
      client.line(node, PULSE - 1000).then((line) => {
        line.close();
        failed = 0;
      }, () => {
        failed += 1;
        if (failed >= PULSES) dead.abort();
      }).finally(() => { asking = false; });
    }, PULSE);
    try {
      return await work(request.signal ? AbortSignal.any([dead.signal, request.signal]) : dead.signal);
    } catch (error) {
      if (dead.signal.aborted) throw unreachable(node.name, node.address ?? 'no address', 'it does not answer any more', error);
      throw error;
    } finally {
      clearInterval(pulse);
    }
  };
  const headersOf = (request: PassedRequest): OutgoingHttpHeaders => ({
    ...passedHeaders(request.headers), ...request.uid !== null && { [USER_HEADER]: String(request.uid) }, [REQUEST_HEADER]: request.requestId,
  });
  const pathOf = ({ path }: PassedRequest): string => API + path.replace(/^\/+/, '');
  return {
    pass: (request, body) => whileAlive(request, (signal) => client.send(peers.byName(request.node), request.method, pathOf(request), body, { headers: headersOf(request), signal })),
    passUpgrade: (request) => whileAlive(request, (signal) => client.upgrade(peers.byName(request.node), pathOf(request), {
      headers: { ...headersOf(request), upgrade: request.headers.upgrade }, signal,
    })),
  };
}

/** The asked side. @param door the API, once there is one */
export function apiRoute(door: () => ApiDoor | undefined): NodeRoute {
  const open = (): ApiDoor => {
    const api = door();
    if (!api) throw new VeldError('daemon.stopping', 'The daemon is not ready.');
    return api;
  };
  return {
    path: API, method: '*', needs: CALLS[API],
    handle(call: NodeCall, response: ServerResponse) {
      const api = open();
      api.request(rewritten(call), response, userOf(call));
    },
    upgrade(call: NodeCall, head: Buffer) {
      const api = open();
      api.upgrade(rewritten(call), call.socket, head, userOf(call));
    },
  };
}

function rewritten({ request, rest }: NodeCall): IncomingMessage {
  request.url = `/${rest}`;
  return request;
}

function userOf({ node, request }: NodeCall): RemoteUser {
  const [uid, id] = [request.headers[USER_HEADER], request.headers[REQUEST_HEADER]];
  return {
    node: node!.name, uid: typeof uid === 'string' && /^\d{1,10}$/.test(uid) ? Number(uid) : null, requestId: typeof id === 'string' && /^[A-Za-z0-9-]{1,64}$/.test(id) ? id : null,
  };
}
