/** Another node as people and programs see it. */
import type { NodeRecord } from '../store/types.ts';
import type { Look } from './hello.ts';
import type { Facts } from './messages.ts';
import { chooseProtocol } from './protocol.ts';
import type { Right } from './rights.ts';
import type { NodeState, NodeView } from './types.ts';

const STATES: Record<string, NodeState> = { 'node.untrusted': 'untrusted', 'node.protocol': 'incompatible', 'node.not_paired': 'ended' };

/** @param look what came of looking at it; undefined where nobody did @param uids of this node */
export function viewOf(node: NodeRecord, look: Look | undefined, uids: { base: number; count: number }): NodeView {
  const facts = node.facts as Omit<Facts, 'time'> | null;
  const failed = look && 'error' in look ? look.error : undefined;
  const seen = look && 'rtt' in look ? look : undefined;
  const state: NodeState = node.ended ? 'ended' : node.address === null ? 'silent' : failed ? STATES[failed.code] ?? 'unreachable' : seen ? 'ok' : 'unknown';
  const reason = node.ended?.reason ?? failed?.message ?? (state === 'silent' ? 'It does not listen: only it can ask this node.' : null);
  return {
    name: node.name, address: node.address, state, reason, allow: node.ended ? [] : node.allow as Right[], allowed: node.ended ? [] : facts?.allow ?? [],
    version: facts?.version ?? null, kernel: facts?.kernel ?? null, architecture: facts?.architecture ?? null, cgroup: facts?.cgroup ?? null, engine: facts?.engine ?? null,
    uids: facts?.uids ?? null, uidsOverlap: facts ? overlap(facts.uids, uids) : null, capabilities: facts?.capabilities ?? [], protocol: facts ? common(facts) : null,
    rtt: seen ? round(seen.rtt) : null, clock: seen ? round(seen.offset) : null, fingerprints: node.authorities.map(({ fingerprint }) => fingerprint), pairedAt: node.createdAt,
  };
}

/** Whether two blocks of uids have one in common. */
export function overlap(a: { base: number; count: number }, b: { base: number; count: number }): boolean {
  return a.base < b.base + b.count && b.base < a.base + a.count;
}

function common({ protocol }: Pick<Facts, 'protocol'>): number | null {
  try {
    return chooseProtocol(protocol, 'it');
  } catch {
    return null;
  }
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100;
}
