/**
 * Whose is it? The rules by which a VE changes its owner, so that there are never two, and never none for longer than a node is away.
 *
 * The source has it until it grants it. From then on only the target knows: it takes it by one durable write, or never will. So each of the two can give up by
 * itself at any time but one: a source that has granted must ask. These functions are all there is to decide; handover.test.ts tries them in every order in
 * which messages can be lost and nodes can end.
 */

/** What a node has written down, durable. `left`: that it was told that it is the other's; the record of the VE goes with that. */
export type Word = 'none' | 'granted' | 'owned' | 'left';

/** What a source does about a migration of which it has nothing but its word. */
export function sourceAfterLoss(word: Word): 'has it' | 'ask' | 'gone' {
  return word === 'granted' ? 'ask' : word === 'left' ? 'gone' : 'has it';
}

/** And when the target has answered. */
export function sourceAfterAnswer(outcome: 'owned' | 'nothing'): 'has it' | 'gone' {
  return outcome === 'owned' ? 'gone' : 'has it';
}

/**
 * What a target answers when it is asked. Before it says `nothing` it ends whatever of the migration is still under way, so that it cannot take it afterwards.
 * @param word what it has written down @param session whether the migration is still under way here
 */
export function targetAnswer(word: Word, session: boolean): { outcome: 'owned' | 'nothing'; endSession: boolean } {
  return word === 'owned' ? { outcome: 'owned', endSession: false } : { outcome: 'nothing', endSession: session };
}

/** Whether a target may write down that it has it: only with a grant, and in a session that has not been ended. */
export function mayTake(granted: boolean, session: boolean): boolean {
  return granted && session;
}
