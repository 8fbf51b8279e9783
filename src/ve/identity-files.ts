/** The files in a VE that carry its name and its network: what they hold, and how they get into a VE that runs. */
import { dirname } from 'node:path';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import type { GuestRoot } from '../kernel/guest-tree.ts';
import type { ProcessId } from '../kernel/process.ts';
import { guestFiles } from '../network/guest-files.ts';
import type { GuestFile } from '../network/types.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

const RESOLVERS = '/etc/resolv.conf';

/** Domains that a resolver looks into (MAXDNSRCH in resolv.h). */
const SEARCH_MAX = 6;

/** Write the files that carry the VE's network identity, through its own root. @throws VeldError `path.refused` when init has ended */
export async function updateGuestFiles(context: VeContext, ve: VeRecord, properties: Properties, init: ProcessId): Promise<void> {
  const root = await openGuestRoot(init);
  try {
    for (const file of filesOf(context, ve, properties)) {
      if (!(await isWanted(file, root))) continue;
      if (file.makeFolder) root.makeFolders(dirname(file.path), { mode: 0o755, uid: ve.uidBase, gid: ve.uidBase });
      await root.writeFile(file.path, file.content, { mode: 0o644, uid: ve.uidBase, gid: ve.uidBase });
    }
  } finally {
    root.close();
  }
}

/** Whether the file is one for what the VE has. */
export async function isWanted({ ifFolder, ifExists, unlessExists }: GuestFile, root: GuestRoot): Promise<boolean> {
  return (ifFolder === undefined || await root.folderExists(ifFolder)) && (ifExists === undefined || await root.exists(ifExists)) && (unlessExists === undefined || !(await root.exists(unlessExists)));
}

/** Content of the VE's identity files. */
export function filesOf({ names, network }: VeContext, ve: VeRecord, properties: Properties): ReturnType<typeof guestFiles> {
  const { links } = network.plan(ve);
  // The host's resolver is for those whose router is the host: the first link has the VE's default route. From a bridge its gateway
  // addresses may be out of reach, and the resolver there is closed.
  const [first] = links;
  const routed = first?.bridge === null ? [...first.addresses, ...first.prefixes] : [];
  const own = properties['network.dns'] === null ? names.addresses().filter((address) => routed.some((mine) => mine.includes(':') === address.includes(':'))) : [];
  return guestFiles({
    name: ve.name, hostname: properties.hostname ?? ve.name, addresses: ve.addresses, interfaces: links,
    dns: own.length > 0 ? own : properties['network.dns'],
    search: own.length > 0 ? [...properties['network.search'], names.domain].slice(0, SEARCH_MAX) : properties['network.search'],
  });
}

/** Whom a VE is told to ask for names, as the file says it. Another node may have another resolver. */
export function resolversOf(context: VeContext, ve: VeRecord): string {
  return filesOf(context, ve, resolveProperties(ve.properties)).find(({ path }) => path === RESOLVERS)?.content ?? '';
}
