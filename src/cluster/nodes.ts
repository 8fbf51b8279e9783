/** The nodes that this one is paired with: puts the parts of this folder together. */
import { hostname } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { Settings } from '../lib/settings.ts';
import type { EventBus } from '../ops/events.ts';
import { checkName } from '../spec/names.ts';
import type { NodeRecord, Store } from '../store/types.ts';
import { ownAddress, requireEndpoint } from './addresses.ts';
import { createGreeter, factsOf, type OwnFacts } from './hello.ts';
import { keepIdentity } from './identity.ts';
import { createNodeClient } from './node-client.ts';
import { answerJson, createNodeServer, readMessage } from './node-server.ts';
import { createPairing, type PairingDeps } from './pairing.ts';
import { apiRoute, createPassing } from './passing.ts';
import { createPeers } from './peers.ts';
import { CALLS } from './rights.ts';
import { createRotation } from './rotation.ts';
import type { ApiDoor, NodeManager } from './types.ts';
import { viewOf } from './view.ts';

/** How often certificates and rotations under way are looked after, in milliseconds. */
const CARE_INTERVAL = 60_000;
/** How often listening is tried again where it was not possible, in milliseconds. */
const LISTEN_INTERVAL = 2000;
/** How long telling a node of the end of its pairing may take, in milliseconds. */
const FAREWELL_TIMEOUT = 3000;

export interface NodesDeps {
  settings: Settings;
  store: Store;
  events: EventBus;
  log: Logger;
  /** What this node says of itself, but for its capabilities. */
  own: Omit<OwnFacts, 'capabilities'>;
  /** For tests: the clock of tokens, and how often strangers may try. */
  pairing?: Pick<PairingDeps, 'now' | 'attempts'>;
}

export function createNodes({ settings, store, events, log, own, pairing: replaced }: NodesDeps): NodeManager {
  const { nodes: wanted } = settings;
  const identity = keepIdentity(settings.stateDir);
  const peers = createPeers(store, () => [identity.current().fingerprint, identity.next()?.fingerprint]);
  const capabilities = new Set<string>(['manage']);
  const facts: OwnFacts = { ...own, capabilities: () => [...capabilities].sort() };
  const address = (): string | undefined => ownAddress({ ...wanted, pools: settings.network.pools });
  const name = wanted.name || nameOfHost();
  let door: ApiDoor | undefined;
  let timer: NodeJS.Timeout | undefined;
  let again: NodeJS.Timeout | undefined;
  let trying = false;

  const endConnections = (id: string): void => {
    server.endConnections(id);
    client.endConnections(id);
  };
  const end = (id: string, reason: string): void => {
    const node = peers.byId(id);
    if (!node || node.ended) return;
    peers.save({ ...node, ended: { at: new Date().toISOString(), reason } });
    log.warn({ node: node.name, reason }, 'a pairing has ended');
    events.emit('node.ended', { data: { node: node.name, reason } });
  };
  const client = createNodeClient({ identity, peers, onUnpaired: ({ id }) => end(id, 'it says that it knows of no pairing with this node') });
  const server = createNodeServer({ identity, peers, log });
  const greeter = createGreeter({ own: facts, peers, identity, client, log, onKnown: () => setImmediate(settle) });
  const rotation = createRotation({ identity, peers, greeter, events, log, refresh: () => server.refresh() });
  const settle = (): void => {
    try {
      rotation.settle();
    } catch (error) {
      log.error({ err: error }, 'a new authority could not take over yet');
    }
  };
  const pairing = createPairing({ store, peers, identity, events, log, name, address, facts: (allow) => factsOf(facts, allow), ...replaced });
  const passing = createPassing({ peers, client });

  server.register({ path: 'pair', needs: CALLS.pair, handle: (call, response) => pairing.answer(call, response) });
  server.register({ path: 'hello', needs: CALLS.hello, async handle({ node, request }, response) {
    answerJson(response, 200, greeter.answer(node!, await readMessage(request)));
  } });
  server.register({ path: 'unpair', needs: CALLS.unpair, handle({ node }, response) {
    end(node!.id, 'the other side has removed it');
    response.once('close', () => endConnections(node!.id));
    answerJson(response, 200, {});
  } });
  server.register(apiRoute(() => door));

  const view = async (node: NodeRecord, look: boolean) => {
    const seen = look && !node.ended && node.address !== null ? await greeter.look(node) : undefined;
    return viewOf(peers.byId(node.id) ?? node, seen, own.uids);
  };
  const care = (): void => {
    if (peers.list().length === 0 && wanted.listen === '') return;
    rotation.care().catch((error: unknown) => log.error({ err: error }, 'certificates of this node could not be looked after'));
  };

  return {
    self() {
      const { fingerprint, ends } = identity.current();
      return {
        name, address: address() ?? null, fingerprint, certificateEnds: new Date(ends.certificate).toISOString(), authorityEnds: new Date(ends.authority).toISOString(),
        rotating: identity.next() ? rotation.missing().map((node) => node.name) : null,
      };
    },
    find: (key) => peers.byId(key) ?? peers.byName(key),
    list: (look) => Promise.all(peers.list().map((node) => view(node, look))),
    view: (key) => view(peers.byName(key), true),
    token(request) {
      if (request.name !== undefined) checkName(request.name, 'a node');
      if (wanted.listen === '') throw new VeldError('node.not_listening', 'This node does not listen for other nodes.');
      return pairing.token(request);
    },
    async add(request) {
      checkName(request.name, 'a node');
      return view(await pairing.add(request), true);
    },
    async set(key, changes) {
      const node = peers.byName(key);
      if (changes.name !== undefined) checkName(changes.name, 'a node');
      if (changes.address !== undefined) requireEndpoint(changes.address);
      const changed = { ...node, ...changes };
      peers.save(changed);
      // What it had begun with a right that it has no more is over, too.
      if (node.allow.some((right) => !changed.allow.includes(right))) server.endConnections(node.id);
      events.emit('node.changed', { data: { node: changed.name, address: changed.address, allow: changed.allow.join(',') } });
      return view(changed, false);
    },
    async remove(key) {
      const node = peers.byName(key);
      peers.remove(node.id);
      endConnections(node.id);
      events.emit('node.removed', { data: { node: node.name } });
      if (node.ended) return { told: false, reason: 'it had ended the pairing already' };
      try {
        await client.call(node, 'unpair', {}, { timeout: FAREWELL_TIMEOUT, farewell: true });
        return { told: true, reason: null };
      } catch (error) {
        return { told: false, reason: (error as Error).message };
      }
    },
    rotate: (options) => rotation.rotate(options),
    ...passing,
    client,
    register(route, capability) {
      server.register(route);
      if (capability !== undefined) capabilities.add(capability);
    },
    async start(api, heard) {
      door = api;
      timer = setInterval(care, CARE_INTERVAL);
      timer.unref();
      care();
      if (wanted.listen === '') return;
      const endpoint = requireEndpoint(wanted.listen);
      try {
        await server.listen(endpoint);
      } catch (error) {
        // The address may come later than the daemon: after a boot of the host, say.
        again = setInterval(() => {
          if (trying) return;
          trying = true;
          void server.listen(endpoint).then(() => {
            clearInterval(again);
            heard?.();
          }, () => {}).finally(() => { trying = false; });
        }, LISTEN_INTERVAL);
        again.unref();
        throw new VeldError('node.failed', `This node cannot listen at ${wanted.listen}: ${(error as Error).message}.`, { cause: error, hint: 'Correct nodes.listen in the settings, or free the port.' });
      }
    },
    async close() {
      clearInterval(timer);
      clearInterval(again);
      door = undefined;
      await server.close();
      for (const { id } of peers.list()) client.endConnections(id);
    },
  };
}

/** The host's name as that of a node. */
function nameOfHost(): string {
  const short = hostname().toLowerCase().split('.')[0]!.replaceAll(/[^a-z0-9-]/g, '-').replace(/^[^a-z]+/, '').slice(0, 63);
  return short === '' ? 'node' : short;
}
