/**
 * The language that nodes speak with each other, by number.
 *
 * Each release speaks its own number and the one before. Two nodes use the highest that both speak; where there is none, the older one has to be updated first.
 */
import { VeldError } from '../lib/errors.ts';

/** Numbers that a node speaks, both included. */
export interface ProtocolRange {
  min: number;
  max: number;
}

/** What this release speaks. The next one is `{ min: 1, max: 2 }`. */
export const SPOKEN: ProtocolRange = { min: 1, max: 1 };

/** Header of each request between nodes: the number in which it is written. */
export const PROTOCOL_HEADER = 'veld-protocol';

/**
 * The number to be used with another node.
 * @param theirs what it says that it speaks
 * @param name of the other node, for the message
 * @throws VeldError `node.protocol`
 */
export function chooseProtocol(theirs: ProtocolRange, name: string, ours: ProtocolRange = SPOKEN): number {
  const common = Math.min(ours.max, theirs.max);
  if (common >= Math.max(ours.min, theirs.min)) return common;
  const older = theirs.max < ours.min ? name : 'this node';
  throw new VeldError('node.protocol', `${name} speaks the node protocol ${words(theirs)}, this node ${words(ours)}.`, {
    hint: `Update Veld on ${older}.`, details: { ours, theirs },
  });
}

function words({ min, max }: ProtocolRange): string {
  return min === max ? String(max) : `${min} to ${max}`;
}
