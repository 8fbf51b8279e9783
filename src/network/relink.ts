/** Makes the links of a running VE others: adds, removes, and changes in place what need not be made anew. */
import { ipBatch, linkExists, setIn } from '../kernel/links.ts';
import { sameLink } from './interfaces.ts';
import type { Interface } from './interfaces.ts';
import { bringUp, creation, guestLines, guestRemoval, guestSysctls, hostLines, hostRemoval, mtuOf, rules } from './plan.ts';
import type { PlanContext } from './plan.ts';

/** An interface before and after; one of them is missing where it comes or goes. */
type Change = { before?: Interface; after?: Interface };

/**
 * Carry the interfaces of the VE over. May be repeated, also after it was cut short: whatever is half made is made anew.
 * @param pid its init
 */
export async function relinkInterfaces(before: readonly Interface[], after: readonly Interface[], pid: number, context: PlanContext): Promise<void> {
  try {
    await carryOver(pair(before, after), before, after, pid, context);
  } catch (error) {
    if (!before.some(({ link }) => linkExists(link))) throw error;
    // Root of the VE may have renamed its side, or put it elsewhere: a new pair does not ask him.
    await carryOver([...before.map((one) => ({ before: one })), ...after.map((one) => ({ after: one }))], before, after, pid, context);
  }
}

async function carryOver(changes: readonly Change[], before: readonly Interface[], after: readonly Interface[], pid: number, context: PlanContext): Promise<void> {
  const ended = changes.flatMap((one) => (one.before && !one.after ? [one.before] : []));
  const made = changes.flatMap((one) => (one.after && !one.before ? [one.after] : []));
  const kept = changes.flatMap((one) => (one.before && one.after ? [{ before: one.before, after: one.after }] : []));

  await ipBatch([...ended, ...made].filter(({ link }) => linkExists(link)).map(({ link }) => `link del ${link}`), { force: true });
  await ipBatch([
    ...made.flatMap((one) => [...creation(one, pid, context), ...hostLines(one, context, 'add')]),
    ...kept.flatMap(({ after: one }) => [`link set ${one.link} mtu ${mtuOf(one, context).host}`, ...hostLines(one, context, 'replace')]),
  ]);
  for (const one of after) for (const [name, value] of guestSysctls(one, context)) await setIn(pid, name, value);

  // What goes first, where it would be in the way of what comes: the same address with another subnet, a default route in another table.
  await ipBatch(kept.flatMap((one) => guestRemoval(one.before, one.after)), { pid, force: true });
  await ipBatch([
    ...made.flatMap(bringUp),
    ...kept.flatMap(({ after: one }) => [`link set ${one.name} mtu ${mtuOf(one, context).guest}`, ...bringUp(one)]),
    ...after.flatMap((one) => guestLines(one, context, 'replace')),
  ], { pid });
  await moveRules(before, after, pid);
  await ipBatch(kept.flatMap((one) => hostRemoval(one.before, one.after)), { force: true });
}

/** Rules cannot be replaced: those that are to be there are taken away first, as they may be there already. */
async function moveRules(before: readonly Interface[], after: readonly Interface[], pid: number): Promise<void> {
  for (const family of [4, 6] as const) {
    const options = { pid, six: family === 6 };
    await ipBatch([...new Set([...rules(before, family, 'del'), ...rules(after, family, 'del')])], { ...options, force: true });
    await ipBatch(rules(after, family, 'add'), options);
  }
}

function pair(before: readonly Interface[], after: readonly Interface[]): Change[] {
  const gone = before.flatMap((one): Change[] => {
    const other = after.find(({ name }) => name === one.name);
    return other && sameLink(one, other) ? [] : [{ before: one }];
  });
  return [...gone, ...after.map((one): Change => {
    const other = before.find(({ name }) => name === one.name);
    return other && sameLink(one, other) && linkExists(one.link) ? { before: other, after: one } : { after: one };
  })];
}
