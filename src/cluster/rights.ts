/**
 * What a paired node may do here: this list and nothing else.
 *
 * A right is given by the node that is asked, to one other node, and looked up on each request by the certificate of the connection. A node without a
 * pairing can ask for one (with a token), and for nothing else.
 */
import { VeldError } from '../lib/errors.ts';

/** Rights that one node gives another, and what each means. */
export const RIGHTS = {
  migrate: 'give VEs to this node, and take VEs from it',
  manage: 'use the whole API of this node, as `veld --node` does: equals root here',
} as const;

export type Right = keyof typeof RIGHTS;

/** What a request needs: a right, a pairing and no more, or nothing. */
export type Need = Right | 'pairing' | 'nothing';

/** Requests between nodes that are part of being paired. Others are registered with the right that they need: see `NodeServer.register`. */
export const CALLS = {
  /** Ask to be paired, by a token. The only request that is heard without a pairing. */
  pair: 'nothing',
  /** Say who one is, and hear who the other is: versions, kernel, engine, uids, clock, and the certificate authority that is to follow the present one. */
  hello: 'pairing',
  /** Tell of the end of the pairing. */
  unpair: 'pairing',
  /** The API. */
  'api/': 'manage',
} as const satisfies Record<string, Need>;

/** What a new pairing gives unless something else is asked for. */
export const USUAL_RIGHTS: readonly Right[] = ['migrate'];

/** Whether this is a name of the list. */
export function isRight(text: string): text is Right {
  return Object.hasOwn(RIGHTS, text);
}

/**
 * `manage,migrate` or `none` as a list, sorted and without doubles.
 * @throws VeldError `usage`
 */
export function parseRights(text: string): Right[] {
  if (text === 'none') return [];
  const words = text.split(',');
  const wrong = words.find((word) => !isRight(word));
  if (wrong !== undefined) throw new VeldError('usage', `'${wrong}' is not a right.`, { hint: `There are: ${Object.keys(RIGHTS).join(', ')}; none gives none of them.` });
  return [...new Set(words as Right[])].sort();
}

/** The list for people. */
export function formatRights(rights: readonly Right[]): string {
  return rights.length > 0 ? rights.join(',') : 'none';
}
