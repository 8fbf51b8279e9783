/** Whom the command of an application VE runs as: looked up before the VE boots, in its layers from the top down. */
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { findUser, MAX_ACCOUNT_FILE, type GuestUser } from './guest-users.ts';

/**
 * Find `boot.user` in the VE's own account files.
 * @throws VeldError `request.invalid` when it has no such user
 */
export async function commandUser(context: VeContext, ve: VeRecord, properties: Properties): Promise<GuestUser> {
  if (properties['boot.command'] === null) return findUser('root', '', '');
  const { volume, upper, lowers } = context.volumes.mountPlan(ve.uuid, ve.uidBase, ve.layers);
  const trees = [join(volume, upper), ...lowers.map((lower) => lower.source).toReversed()];
  return findUser(properties['boot.user'], await readFromTop(trees, '/etc/passwd'), await readFromTop(trees, '/etc/group'));
}

/** The file of the uppermost tree that has one; empty when there is none, or what is there is no ordinary file (a deleted file is a device). */
async function readFromTop(trees: readonly string[], path: string): Promise<string> {
  for (const tree of trees) {
    const root = await openGuestRoot(tree);
    try {
      return (await root.readFile(path, MAX_ACCOUNT_FILE)).toString('utf8');
    } catch (error) {
      if (!(error instanceof VeldError) || error.details?.errno !== 'ENOENT') return '';
    } finally {
      root.close();
    }
  }
  return '';
}
