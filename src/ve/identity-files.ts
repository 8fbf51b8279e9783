/** The files in a VE that carry its name and its network: what they hold, and how they get into a VE that runs. */
import { openGuestRoot } from '../kernel/guest-tree.ts';
import type { ProcessId } from '../kernel/process.ts';
import { guestFiles } from '../network/guest-files.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';

/** Write the files that carry the VE's network identity, through its own root. @throws VeldError `path.refused` when init has ended */
export async function updateGuestFiles(ve: VeRecord, properties: Properties, init: ProcessId): Promise<void> {
  const root = await openGuestRoot(init);
  try {
    for (const file of filesOf(ve, properties)) {
      if (file.ifFolder !== undefined && !(await root.folderExists(file.ifFolder))) continue;
      await root.writeFile(file.path, file.content, { mode: 0o644, uid: ve.uidBase, gid: ve.uidBase });
    }
  } finally {
    root.close();
  }
}

/** Content of the VE's identity files. */
export function filesOf(ve: VeRecord, properties: Properties): ReturnType<typeof guestFiles> {
  return guestFiles({
    name: ve.name, hostname: properties.hostname ?? ve.name, addresses: ve.addresses,
    dns: properties['network.dns'], search: properties['network.search'],
  });
}
