/** What nodes tell each other of themselves, how far away they are, and how far their clocks are apart. */
import { machine, release } from 'node:os';
import { processorExtensions } from '../kernel/processor.ts';
import { VERSION } from '../lib/version.ts';
import type { NodeRecord } from '../store/types.ts';
import { toVeldError, type VeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { IdentityKeeper } from './identity.ts';
import { Hello, knownFacts, reader, type Facts } from './messages.ts';
import type { NodeClient } from './node-client.ts';
import type { Peers } from './peers.ts';
import { SPOKEN, chooseProtocol } from './protocol.ts';

/** Questions of a look; the first warms the connection up and is not counted. */
const QUESTIONS = 5;
/** How long a look may take, in milliseconds. */
const LOOK_TIMEOUT = 4000;

const readHello = reader(Hello);

/** What this node knows of itself. */
export interface OwnFacts {
  cgroup: () => number;
  /** Fingerprint, null where there is none. */
  engine: () => string | null;
  /** First uid and number of uids. */
  uids: { base: number; count: number };
  capabilities: () => string[];
}

/** The facts of this node for a node with these rights. */
export function factsOf(own: OwnFacts, allow: readonly string[]): Facts {
  return {
    protocol: SPOKEN, version: VERSION, kernel: release(), architecture: machine(), cgroup: own.cgroup(), engine: own.engine(), processor: processorExtensions(), uids: own.uids, capabilities: own.capabilities(),
    allow: [...allow], time: Date.now(),
  };
}

/** One question and its answer. Times are milliseconds. */
export interface Sample {
  /** On a clock that only goes forward. */
  rtt: number;
  /** How far the other clock was ahead in the middle of it. */
  offset: number;
}

/** Median of the times, and the offset of the quickest question, which had the least room for error (RFC 5905, 10). */
export function summarise(samples: readonly Sample[]): Sample {
  const sorted = samples.toSorted((a, b) => a.rtt - b.rtt);
  return { rtt: sorted[Math.floor(sorted.length / 2)]!.rtt, offset: sorted[0]!.offset };
}

/** What came of looking at a node. */
export type Look = Sample | { error: VeldError };

export interface Greeter {
  /** Ask a node how it is. Never throws. */
  look(node: NodeRecord): Promise<Look>;
  /** Answer a node that asks. @throws VeldError `request.invalid` */
  answer(node: NodeRecord, message: unknown): Hello;
  /** Nodes that take the authority that is to follow, by id. */
  knowNext(id: string): boolean;
}

export interface GreeterDeps {
  own: OwnFacts;
  peers: Peers;
  identity: IdentityKeeper;
  client: NodeClient;
  log: Logger;
  /** Called whenever a node has said which authorities of this one it takes. */
  onKnown: () => void;
}

export function createGreeter({ own, peers, identity, client, log, onKnown }: GreeterDeps): Greeter {
  /** Fingerprint of the next authority and the ids of nodes that take it. */
  let known: { fingerprint: string; ids: Set<string> } | undefined;

  const hello = (node: NodeRecord): Hello => {
    const next = identity.next();
    return { facts: factsOf(own, node.allow), knows: node.authorities.map(({ fingerprint }) => fingerprint), ...next && { next: next.authority } };
  };

  /** Keep what a node said. */
  const keep = (id: string, { facts, next, knows }: Hello): void => {
    const node = peers.byId(id);
    if (!node || node.ended) return;
    const { time: _, ...lasting } = knownFacts(facts);
    const { time: __, ...before } = (node.facts ?? {}) as Partial<Facts>;
    if (JSON.stringify(before) !== JSON.stringify(lasting)) peers.save({ ...node, facts: { ...lasting } });
    if (next !== undefined) peers.announce(peers.byId(id)!, next);
    const mine = identity.next()?.fingerprint;
    if (mine === undefined || !knows.includes(mine)) return;
    if (known?.fingerprint !== mine) known = { fingerprint: mine, ids: new Set() };
    if (known.ids.has(id)) return;
    known.ids.add(id);
    onKnown();
  };

  return {
    async look(node) {
      try {
        const line = await client.line(node, LOOK_TIMEOUT);
        try {
          const samples: Sample[] = [];
          for (let n = 0; n < QUESTIONS; n += 1) {
            const [clock, begun] = [Date.now(), performance.now()];
            // Asked anew each time: the first answer may have brought another authority, which the second question says is known.
            const answer = readHello(await line.call('hello', hello(peers.byId(node.id) ?? node)));
            const rtt = performance.now() - begun;
            keep(node.id, answer);
            chooseProtocol(answer.facts.protocol, node.name);
            if (n > 0) samples.push({ rtt, offset: answer.facts.time - (clock + rtt / 2) });
          }
          return summarise(samples);
        } finally {
          line.close();
        }
      } catch (error) {
        log.debug({ node: node.name, err: toVeldError(error).message }, 'a node was not reached');
        return { error: toVeldError(error) };
      }
    },
    answer(node, message) {
      const said = readHello(message);
      keep(node.id, said);
      return hello(peers.byId(node.id) ?? node);
    },
    knowNext: (id) => known !== undefined && known.fingerprint === identity.next()?.fingerprint && known.ids.has(id),
  };
}
