/**
 * Names that criu has made and did not take away. Of a file whose name is gone while another one is there it keeps a link beside the old name for the time
 * of a dump (`link_remap.NUMBER`, criu/files-reg.c): when it is killed in between the link stays, and every later dump fails on it ("File exists").
 */
import { statSync } from 'node:fs';
import { dirname } from 'node:path';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { openFiles } from '../kernel/open-files.ts';
import type { ProcessId } from '../kernel/process.ts';

const GONE = ' (deleted)';

/** Take such names away, from the VE's root file system. No dump may be under way. @param pids host's, of all processes of the VE @returns how many there were */
export async function dropLinkRemaps(init: ProcessId, pids: readonly number[]): Promise<number> {
  const files = new Map<string, { folder: string; inode: bigint }>();
  for (const pid of pids) {
    for (const { fd, link } of openFiles(pid)) {
      if (!link.startsWith('/') || !link.endsWith(GONE)) continue;
      const stat = statSync(`/proc/${pid}/fd/${fd}`, { bigint: true, throwIfNoEntry: false });
      const folder = dirname(link.slice(0, -GONE.length));
      if (stat !== undefined && stat.isFile() && stat.nlink > 0n) files.set(`${stat.ino} ${folder}`, { folder, inode: stat.ino });
    }
  }
  if (files.size === 0) return 0;
  const root = await openGuestRoot(init);
  try {
    let count = 0;
    for (const { folder, inode } of files.values()) count += await root.removeNames(folder, 'link_remap.[0-9]*', inode);
    return count;
  } finally {
    root.close();
  }
}
