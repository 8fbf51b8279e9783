/**
 * New certificates of this node, by itself and on demand.
 *
 * A certificate is replaced at once: others know the authority. A new authority is told first to each node that is paired, over connections of the old
 * one, and takes over when all of them have said that they take it; until then the old one is used, so that nobody is cut off. Others drop the old one when they see
 * the new one used. With force it takes over at once: nodes that have not heard of it refuse this one from then on, and have to be paired anew.
 */
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import type { NodeRecord } from '../store/types.ts';
import type { Greeter } from './hello.ts';
import type { IdentityKeeper } from './identity.ts';
import type { Peers } from './peers.ts';
import type { Rotation } from './types.ts';

export interface RotationDeps {
  identity: IdentityKeeper;
  peers: Peers;
  greeter: Greeter;
  events: EventBus;
  log: Logger;
  /** Makes the door use the identity as it is now. */
  refresh: () => void;
}

export interface Rotator {
  /** See NodeManager. */
  rotate(options: { authority: boolean; force: boolean }): Promise<Rotation>;
  /** Nodes that have not said that they take the authority that is to follow. */
  missing(): NodeRecord[];
  /** Let the prepared authority take over if everybody takes it. */
  settle(): void;
  /** Renew what is due, and go on with what waits. */
  care(): Promise<void>;
}

export function createRotation({ identity, peers, greeter, events, log, refresh }: RotationDeps): Rotator {
  const active = (): NodeRecord[] => peers.list().filter((node) => !node.ended);
  const missing = (): NodeRecord[] => active().filter(({ id }) => !greeter.knowNext(id));

  const renewed = (what: 'certificate' | 'authority'): void => {
    refresh();
    const { fingerprint, ends } = identity.current();
    log.info({ what, fingerprint, ends: new Date(ends.certificate).toISOString() }, 'this node has a new certificate');
    events.emit('node.rotated', { data: { what, fingerprint } });
  };
  const takeOver = (): void => {
    identity.adopt();
    renewed('authority');
    // Seen once, the new authority makes others forget the old one.
    for (const node of active()) if (node.address !== null) void greeter.look(node);
  };
  /** Tell whoever does not know. @returns why some still do not, by id */
  const announce = async (): Promise<Map<string, string>> => {
    const reasons = new Map<string, string>();
    await Promise.all(missing().map(async (node) => {
      if (node.address === null) return reasons.set(node.id, `it does not listen: \`veld node list\` on ${node.name} lets it hear of it`);
      const look = await greeter.look(node);
      return 'error' in look ? reasons.set(node.id, look.error.message) : undefined;
    }));
    return reasons;
  };
  const settle = (): void => {
    if (identity.next() && missing().length === 0) takeOver();
  };

  return {
    missing,
    settle,
    async rotate({ authority, force }) {
      let left: { name: string; reason: string }[] = [];
      if (authority) {
        identity.prepare();
        const reasons = await announce();
        settle();
        if (identity.next()) {
          left = missing().map(({ id, name }) => ({ name, reason: reasons.get(id) ?? 'it has not said that it takes the new authority' }));
          if (force) takeOver();
        }
      } else {
        identity.renew();
        renewed('certificate');
      }
      const { fingerprint, ends } = identity.current();
      return { fingerprint, certificateEnds: new Date(ends.certificate).toISOString(), waiting: identity.next() !== undefined, missing: left };
    },
    async care() {
      if (identity.isDue()) {
        identity.renew();
        renewed('certificate');
      }
      if (!identity.next()) return;
      await announce();
      settle();
    },
  };
}
