/** How two nodes become a pair: one makes a token, the other uses it, once. */
import { X509Certificate, randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { request as httpRequest } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { VeldError, type ErrorBody } from '../lib/errors.ts';
import { areTimely, isIssuedBy } from '../lib/certificates.ts';
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import type { NodeRecord, Store } from '../store/types.ts';
import { formatEndpoint, parseEndpoint, requireEndpoint } from './addresses.ts';
import { createAttempts, type Attempts } from './attempts.ts';
import { dial, fetchAuthority } from './dial.ts';
import type { IdentityKeeper } from './identity.ts';
import { PairAnswer, PairRequest, knownFacts, reader, type Facts } from './messages.ts';
import { answerJson, readMessage, type NodeCall } from './node-server.ts';
import { readAuthority, type Peers } from './peers.ts';
import { PROTOCOL_HEADER, SPOKEN, chooseProtocol } from './protocol.ts';
import { TOKEN_LIFETIME, isProof, keyOf, makeToken, proofOf, tokenFromWord, tokenToWord } from './tokens.ts';
import type { Right } from './rights.ts';
import type { AddRequest } from './types.ts';

/** Tokens that may wait to be used at a time. */
const TOKEN_LIMIT = 64;
/** Label of the keying material that binds a proof to its connection, and its length in bytes. */
const CHANNEL_LABEL = 'EXPORTER-veld-pairing';
const CHANNEL_BYTES = 32;
const CHANNEL_CONTEXT = Buffer.alloc(0);
/** How long the whole exchange may take, in milliseconds. */
const PAIR_TIMEOUT = 15_000;
const ANSWER_LIMIT = 64 << 10;

const readRequest = reader(PairRequest);
const readAnswer = reader(PairAnswer);

export interface PairingDeps {
  store: Pick<Store, 'insertNodeToken' | 'takeNodeToken' | 'pruneNodeTokens'>;
  peers: Peers;
  identity: IdentityKeeper;
  events: EventBus;
  log: Logger;
  /** What this node calls itself. */
  name: string;
  /** `host:port` that others are told; undefined for a node that does not listen. */
  address: () => string | undefined;
  facts: (allow: readonly string[]) => Facts;
  /** Clock in milliseconds since 1970, and how often strangers may try; for tests. */
  now?: () => number;
  attempts?: Attempts;
}

export interface Pairing {
  /** See NodeManager. */
  token(request: { name?: string; allow: Right[]; address?: string }): { token: string; address: string; expiresAt: string };
  add(request: AddRequest): Promise<NodeRecord>;
  /** Answers who asks to be paired. */
  answer(call: NodeCall, response: ServerResponse): Promise<void>;
}

export function createPairing({ store, peers, identity, events, log, name: ownName, address: ownAddress, facts, now = Date.now, attempts = createAttempts() }: PairingDeps): Pairing {
  const audit = log.child({ audit: true }, { level: 'info' });

  const paired = (node: NodeRecord, asked: boolean): void => {
    peers.save(node);
    events.emit('node.paired', { data: { node: node.name, address: node.address, allow: node.allow.join(',') } });
    audit.info({ node: node.name, address: node.address, allow: node.allow, fingerprint: node.authorities.at(-1)?.fingerprint, asked }, 'node paired');
  };

  /** Take the token out and hold the request against it. Whatever is wrong, the answer is the same, and the token is gone. */
  const redeem = (request: PairRequest, { socket, certificate: leaf }: NodeCall): NodeRecord => {
    const refused = (why: string): VeldError => {
      audit.warn({ from: socket.remoteAddress, name: request.name, token: request.token, why }, 'pairing refused');
      return new VeldError('node.token_invalid', 'The token is not known here, was used already, or has expired.');
    };
    const time = new Date(now()).toISOString();
    const token = store.takeNodeToken(request.token);
    if (!token) throw refused('no such token');
    if (token.expiresAt < time || token.createdAt > time) throw refused('expired');
    const authority = readAuthority(request.authority);
    const own = identity.current().fingerprint;
    const channel = socket.exportKeyingMaterial(CHANNEL_BYTES, CHANNEL_LABEL, CHANNEL_CONTEXT);
    if (!isProof(request.proof, token.key, { asking: authority.fingerprint, asked: own, channel })) throw refused('wrong proof');
    if (!leaf || !areTimely([leaf]) || !isIssuedBy(leaf, new X509Certificate(authority.certificate))) throw refused('the certificate is not of the authority');
    if (authority.fingerprint === own) throw refused('itself');
    chooseProtocol(request.protocol, request.name);
    const address = request.address !== null && parseEndpoint(request.address) ? request.address : null;
    // Somebody who was paired before, by the same authority, comes back under the same name.
    const before = peers.byAuthority(authority.fingerprint);
    return {
      id: before?.id ?? randomUUID(), name: before?.name ?? freeName(token.name ?? request.name), address, allow: token.allow, authorities: [authority], facts: { ...knownFacts(request.facts) },
      ended: null, createdAt: time,
    };
  };

  const freeName = (wanted: string): string => {
    const taken = new Set(peers.list().map(({ name }) => name));
    for (let n = 1; ; n += 1) {
      const name = n === 1 ? wanted : `${wanted.slice(0, 58)}-${n}`;
      if (!taken.has(name)) return name;
    }
  };

  return {
    token({ name, allow, address }) {
      const where = address ?? ownAddress();
      if (where === undefined) throw new VeldError('node.not_listening', 'This node does not listen for other nodes, or does not know its address.');
      requireEndpoint(where);
      const time = now();
      if (store.pruneNodeTokens(new Date(time).toISOString()) >= TOKEN_LIMIT) throw new VeldError('daemon.overloaded', `${TOKEN_LIMIT} tokens wait to be used already.`);
      const token = makeToken(where, identity.current().fingerprint);
      const expiresAt = new Date(time + TOKEN_LIFETIME).toISOString();
      store.insertNodeToken({ id: token.id, key: keyOf(token.secret), name: name ?? null, allow, createdAt: new Date(time).toISOString(), expiresAt });
      audit.info({ token: token.id, allow, name: name ?? null, expiresAt }, 'token for a node made');
      return { token: tokenToWord(token), address: where, expiresAt };
    },

    async add({ name, token: word, address, allow }) {
      const token = tokenFromWord(word);
      const endpoint = requireEndpoint(address ?? token.address);
      const own = identity.current();
      if (token.fingerprint === own.fingerprint) throw new VeldError('node.paired', 'The token is of this node itself.', { hint: 'Use it on the other node.' });
      const known = peers.byAuthority(token.fingerprint);
      if (known && known.name !== name) throw new VeldError('node.paired', `That node is paired already: as ${known.name}.`, { hint: `Remove it first (\`veld node remove ${known.name}\`), or use that name.` });
      const namesake = peers.list().find((each) => each.name === name);
      if (namesake && namesake.id !== known?.id && !namesake.ended) throw new VeldError('node.name_taken', `There is a node named ${name} already.`);
      const authority = await fetchAuthority(endpoint, token.fingerprint);
      const { socket } = await dial({ name, endpoint, identity: own, authorities: [authority] });
      let answer: PairAnswer;
      try {
        const channel = socket.exportKeyingMaterial(CHANNEL_BYTES, CHANNEL_LABEL, CHANNEL_CONTEXT);
        const proof = proofOf(keyOf(token.secret), { asking: own.fingerprint, asked: token.fingerprint, channel });
        const message: PairRequest = { protocol: SPOKEN, token: token.id, proof, authority: own.authority, name: ownName, address: ownAddress() ?? null, facts: facts(allow) };
        answer = readAnswer(await ask(socket, message));
      } finally {
        socket.destroy();
      }
      chooseProtocol(answer.facts.protocol, name);
      const before = known ?? namesake;
      const node: NodeRecord = {
        id: before?.id ?? randomUUID(), name, address: formatEndpoint(endpoint), allow, authorities: [authority], facts: { ...knownFacts(answer.facts) }, ended: null,
        createdAt: new Date(now()).toISOString(),
      };
      paired(node, true);
      return node;
    },

    async answer(call, response) {
      const from = call.socket.remoteAddress ?? 'unknown';
      if (!attempts.allow(from)) {
        log.debug({ from }, 'too many attempts to pair');
        throw new VeldError('daemon.overloaded', 'Too many attempts to pair from there: wait a minute.');
      }
      const request = readRequest(await readMessage(call.request));
      const node = redeem(request, call);
      paired(node, false);
      const answer: PairAnswer = { name: ownName, facts: facts(node.allow) };
      answerJson(response, 200, answer);
    },
  };
}

/** One question on a connection that is verified already. */
async function ask(socket: TLSSocket, message: PairRequest): Promise<unknown> {
  const payload = Buffer.from(JSON.stringify(message));
  const broken = (why: string): VeldError => new VeldError('node.unreachable', `The other node did not answer: ${why}.`, { hint: 'The token may be used up: look at `veld node list` on both nodes, and make a new one.' });
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      method: 'POST', path: '/node/v1/pair', createConnection: () => socket, timeout: PAIR_TIMEOUT,
      headers: { host: 'veld', connection: 'close', 'content-type': 'application/json', 'content-length': payload.length, [PROTOCOL_HEADER]: SPOKEN.max },
    }, (answer) => {
      const chunks: Buffer[] = [];
      let size = 0;
      answer.on('data', (chunk: Buffer) => {
        size += chunk.length;
        if (size > ANSWER_LIMIT) answer.destroy();
        else chunks.push(chunk);
      });
      answer.on('error', (error) => reject(broken(error.message)));
      answer.on('end', () => {
        try {
          const body = JSON.parse(Buffer.concat(chunks).toString('utf8')) as { error?: ErrorBody };
          if (answer.statusCode === 200) resolve(body);
          else if (typeof body.error?.code === 'string') reject(VeldError.fromBody(body.error));
          else reject(broken(`HTTP status ${answer.statusCode}`));
        } catch {
          reject(broken('its answer is not JSON'));
        }
      });
    });
    request.on('timeout', () => request.destroy(new Error(`nothing within ${PAIR_TIMEOUT / 1000} s`)));
    request.on('error', (error) => reject(broken(error.message)));
    request.end(payload);
  });
}
