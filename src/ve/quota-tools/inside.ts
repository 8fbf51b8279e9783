/**
 * What a VE has of the quota tools: a folder of its run folder, bound into the VE, with the program that asks the daemon (src/kernel/quota-client.c) and, where
 * its users have quotas, the socket by which it does; and in its own file system scripts of the tools' names, which call that program.
 *
 * The folder is bound into every VE, so that `disk.users` can be switched on while it runs, and in one that comes from a warm image.
 */
import { chmodSync, copyFileSync, existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { openGuestRoot } from '../../kernel/guest-tree.ts';
import type { ProcessId } from '../../kernel/process.ts';
import { quotaClient } from '../../kernel/quota-client.ts';
import { TOOLS } from './tools.ts';

/** Where it is inside. quota-client.c names it, too. */
export const QUOTA_INSIDE = '/run/veld/quota';

/** Its name among the external mounts of a checkpoint. */
export const QUOTA_MOUNT = 'quota';

const CLIENT = 'client';

/** The folder on the host. @param folder the VE's run folder */
export function quotaFolder(folder: string): string {
  return join(folder, 'quota');
}

/** The socket on the host. */
export function quotaSocket(folder: string): string {
  return join(quotaFolder(folder), 'socket');
}

/** Make the folder, with the program where it has been compiled. */
export function makeQuotaFolder(folder: string): void {
  const inside = quotaFolder(folder);
  mkdirSync(inside, { recursive: true, mode: 0o755 });
  chmodSync(inside, 0o755); // whatever the umask
  const client = join(inside, CLIENT);
  const program = quotaClient();
  if (program === undefined || existsSync(client)) return;
  copyFileSync(program, `${client}.new`);
  chmodSync(`${client}.new`, 0o755);
  renameSync(`${client}.new`, client);
}

/** Where the scripts are, the first folder that a VE has: everybody calls `quota`, root the others. */
const PLACES: Record<'everybody' | 'root', readonly string[]> = { everybody: ['/usr/local/bin', '/usr/bin'], root: ['/usr/local/sbin', '/usr/sbin'] };

/**
 * Put the scripts into a running VE. One that is there already, whatever it is, stays.
 * @returns names of those that have been put there
 * @throws VeldError `path.refused` when the VE has just ended
 */
export async function putQuotaScripts(init: ProcessId, uidBase: number): Promise<string[]> {
  const root = await openGuestRoot(init);
  const put: string[] = [];
  try {
    for (const tool of Object.keys(TOOLS)) {
      for (const folder of PLACES[tool === 'quota' ? 'everybody' : 'root']) {
        if (!await root.folderExists(folder)) continue;
        const path = `${folder}/${tool}`;
        if (!await root.exists(path)) {
          await root.writeFile(path, script(tool), { uid: uidBase, gid: uidBase, mode: 0o755 });
          put.push(path);
        }
        break;
      }
    }
  } finally {
    root.close();
  }
  return put;
}

function script(tool: string): string {
  return `#!/bin/sh\n# Asks Veld on the host: it keeps the disk quotas of this server's users. Put here because they were switched on (disk.users).\nexec ${QUOTA_INSIDE}/${CLIENT} ${tool} "$@"\n`;
}
