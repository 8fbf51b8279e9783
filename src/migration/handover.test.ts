/**
 * The hand-over in every order in which messages can be lost and nodes can end: an exhaustive search over a model of both nodes that decides by the very functions of
 * handover.ts. What may happen: a message arrives or the wire is cut (all that is under way is lost, both sides notice, or notice later), either node is killed and
 * starts again with what it has written down, the target gives up by itself.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mayTake, sourceAfterAnswer, sourceAfterLoss, targetAnswer } from './handover.ts';

type Wire = 'prepared' | 'grant' | 'owned';

interface World {
  /** Written down. */
  source: 'none' | 'granted' | 'left';
  target: 'none' | 'owned';
  /** What the nodes know while they live. `away`: it stands, and is being carried. */
  sourceDoes: 'runs it' | 'away' | 'waits' | 'asks' | 'gone' | 'dead';
  session: boolean;
  targetDoes: 'nothing' | 'carries' | 'prepared' | 'runs it' | 'dead';
  /** On the connection of the migration, to the target and to the source; in order. What one side has given up may still reach the other. */
  there: Wire[];
  back: Wire[];
  /** On the connection of a question, which knows nothing of that order. */
  question: boolean;
  answer: 'owned!' | 'nothing!' | undefined;
  /** How many faults may still come. */
  faults: number;
}

const START: World = { source: 'none', target: 'none', sourceDoes: 'away', session: true, targetDoes: 'carries', there: [], back: [], question: false, answer: undefined, faults: 4 };

const targetRuns = (w: World): boolean => w.target === 'owned' && w.targetDoes === 'runs it';
const sourceRuns = (w: World): boolean => w.sourceDoes === 'runs it';

const DOES = { 'has it': 'runs it', ask: 'asks', gone: 'gone' } as const;

/** All that can happen next. Faults cost one of those that are left. */
function next(w: World, rules: { source: typeof sourceAfterLoss; answer: typeof targetAnswer }): [string, World][] {
  const steps: [string, World][] = [];
  const step = (what: string, change: Partial<World>): void => void steps.push([what, { ...w, ...change }]);
  if (w.targetDoes === 'carries' && w.session && w.sourceDoes === 'away') step('all is there', { targetDoes: 'prepared', back: [...w.back, 'prepared'] });
  const [toTarget, ...restThere] = w.there;
  if (toTarget && w.targetDoes !== 'dead') {
    const takes = mayTake(toTarget === 'grant', w.session) && w.targetDoes === 'prepared';
    step('a grant arrives', { there: restThere, ...takes && { target: 'owned', targetDoes: 'runs it', session: false, back: [...w.back, 'owned'] } });
  }
  if (w.question && w.targetDoes !== 'dead') {
    const { outcome, endSession } = rules.answer(w.target, w.session);
    step('a question arrives', { question: false, answer: outcome === 'owned' ? 'owned!' : 'nothing!', ...endSession && { session: false, there: [], targetDoes: 'nothing' } });
  }
  const [toSource, ...restBack] = w.back;
  if (toSource && w.sourceDoes !== 'dead') {
    if (toSource === 'prepared' && w.sourceDoes === 'away') step('it is prepared', { back: restBack, source: 'granted', sourceDoes: 'waits', there: [...w.there, 'grant'] });
    else if (toSource === 'owned' && w.sourceDoes === 'waits') step('it is owned', { back: restBack, sourceDoes: 'gone', source: 'left' });
    else step('nobody waits for it', { back: restBack });
  }
  if (w.answer && w.sourceDoes === 'asks') {
    const gone = sourceAfterAnswer(w.answer === 'owned!' ? 'owned' : 'nothing') === 'gone';
    step('an answer arrives', { answer: undefined, source: gone ? 'left' : 'none', sourceDoes: gone ? 'gone' : 'runs it' });
  }
  if (w.sourceDoes === 'asks' && !w.question && !w.answer) step('it asks', { question: true });
  if (w.faults === 0) return steps;
  const faults = w.faults - 1;
  const cut = { there: [], back: [], question: false, answer: undefined, faults };
  const alone = (x: World): World => (x.sourceDoes === 'away' || x.sourceDoes === 'waits' ? { ...x, back: [], sourceDoes: DOES[rules.source(x.source)] } : x);
  const without = (x: World): World => (x.target === 'owned' || x.targetDoes === 'dead' ? { ...x, there: [] } : { ...x, there: [], targetDoes: 'nothing', session: false });
  steps.push(['the wire is cut, and both see it', alone(without({ ...w, ...cut }))]);
  // What it has sent may still arrive.
  steps.push(['the source gives the connection up', alone({ ...w, faults })]);
  steps.push(['the target gives the connection up', without({ ...w, faults })]);
  steps.push(['a question or its answer is lost', { ...w, question: false, answer: undefined, faults }]);
  if (w.sourceDoes !== 'dead') steps.push(['the source is killed', { ...w, back: [], answer: undefined, faults, sourceDoes: 'dead' }]);
  else steps.push(['the source begins anew', { ...w, faults, sourceDoes: DOES[rules.source(w.source)] }]);
  if (w.targetDoes !== 'dead') steps.push(['the target is killed', { ...w, there: [], question: false, faults, targetDoes: 'dead', session: false }]);
  else steps.push(['the target begins anew', { ...w, faults, targetDoes: w.target === 'owned' ? 'runs it' : 'nothing' }]);
  return steps;
}

/** No fault comes any more, whoever is dead begins anew, and everybody notices that a wire is cut. @returns where it ends */
function calm(w: World, rules: Parameters<typeof next>[1]): World {
  let now: World = { ...w, faults: 0 };
  if (now.targetDoes === 'dead') now = { ...now, targetDoes: now.target === 'owned' ? 'runs it' : 'nothing' };
  if (now.sourceDoes === 'dead') now = { ...now, sourceDoes: DOES[rules.source(now.source)] };
  for (let i = 0; i < 100; i++) {
    const [first] = next(now, rules);
    if (first) now = first[1];
    else if (now.sourceDoes === 'away' || now.sourceDoes === 'waits') now = { ...now, sourceDoes: DOES[rules.source(now.source)] };
    else if (now.session) now = { ...now, session: false, targetDoes: now.target === 'owned' ? now.targetDoes : 'nothing' };
    else return now;
  }
  throw new Error(`it never ends: ${JSON.stringify(w)}`);
}

function explore(rules: Parameters<typeof next>[1]): { worlds: number; wrong: string | undefined } {
  const seen = new Map<string, string[]>();
  const queue: [World, string[]][] = [[START, []]];
  for (let entry = queue.shift(); entry; entry = queue.shift()) {
    const [world, path] = entry;
    const key = JSON.stringify(world);
    if (seen.has(key)) continue;
    seen.set(key, path);
    if (sourceRuns(world) && (targetRuns(world) || world.target === 'owned')) return { worlds: seen.size, wrong: `two have it: ${path.join(', ')}` };
    const end = calm(world, rules);
    if (Number(sourceRuns(end)) + Number(targetRuns(end)) !== 1) return { worlds: seen.size, wrong: `in the end ${sourceRuns(end) ? 'both have' : 'nobody has'} it: ${path.join(', ')}` };
    for (const [what, then] of next(world, rules)) queue.push([then, [...path, what]]);
  }
  return { worlds: seen.size, wrong: undefined };
}

test('whatever is lost, and whoever ends, exactly one has it in the end, and never two at a time', (t) => {
  const { worlds, wrong } = explore({ source: sourceAfterLoss, answer: targetAnswer });
  assert.equal(wrong, undefined);
  assert.ok(worlds > 200, `${worlds} worlds`);
  t.diagnostic(`${worlds} worlds`);
});

test('the search finds what is wrong with other rules', () => {
  assert.match(explore({ source: (word) => (word === 'left' ? 'gone' : 'has it'), answer: targetAnswer }).wrong ?? '', /two have it|both have it/, 'a source that takes back what it has granted');
  assert.match(explore({ source: sourceAfterLoss, answer: (word) => ({ outcome: word === 'owned' ? 'owned' : 'nothing', endSession: false }) }).wrong ?? '', /two have it|both have it/, 'a target that says no, and goes on');
  assert.match(explore({ source: sourceAfterLoss, answer: () => ({ outcome: 'nothing', endSession: true }) }).wrong ?? '', /two have it|both have it/, 'a target that denies');
});
