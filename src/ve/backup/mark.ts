/** What tells backups that this node has made of a VE since it is here from others with the same UUID. */
import { randomBytes } from 'node:crypto';
import type { VeContext } from '../context.ts';

/** Of the backups that this node has made of a VE since it is here, in the store by its UUID: only these are forgotten by themselves. */
const MARK = 'backup.mark.';

export function markOf({ store }: Pick<VeContext, 'store'>, uuid: string): string {
  const known = store.getMeta<string>(MARK + uuid);
  if (known !== undefined) return known;
  const mark = randomBytes(8).toString('hex');
  store.setMeta(MARK + uuid, mark);
  return mark;
}

/** A VE that is gone has none. */
export function forgetMark({ store }: Pick<VeContext, 'store'>, uuid: string): void {
  store.setMeta(MARK + uuid, undefined);
}
