/** Where the files are that a VE's processes watch, found while it runs: criu would look for them while it stands still. */
import { WATCHED } from '../checkpoint/criu-options.ts';
import { namedProcess } from '../checkpoint/named-process.ts';
import type { Obstacle } from '../checkpoint/types.ts';
import { deviceNumber, watchesOf, type FileWatch } from '../checkpoint/watches.ts';
import { openGuestRoot, type GuestRoot } from '../kernel/guest-tree.ts';
import type { MountLine } from '../kernel/lxcfs-mounts.ts';
import type { ProcessId } from '../kernel/process.ts';

/** Most inodes that are looked for; whatever watches more has criu do it. */
const MOST = 2000;

export interface Watched {
  /** Of the VE's root file system. */
  device: number;
  /** By inodes of that: paths in the VE. */
  paths: Map<bigint, string>;
  /** Watches, of that or of a tmpfs, for which there is no path. */
  lost: FileWatch[];
  /** Watches of links that lead nowhere: criu would open what they lead to. */
  dangling: FileWatch[];
  /** Watches of files of /proc, which cannot be set again. */
  ofProc: FileWatch[];
}

/** @param pids host's, of all processes of the VE @param mounts its mounts */
export async function findWatched(init: ProcessId, pids: readonly number[], mounts: readonly MountLine[]): Promise<Watched> {
  const device = deviceNumber(mounts.findLast(({ target }) => target === '/')?.device ?? '0:0');
  const proc = new Set(mounts.filter(({ type }) => type === 'proc').map((mount) => deviceNumber(mount.device)));
  const watches = await watchesOf(pids);
  const ofRoot = watches.filter((watch) => watch.device === device);
  const inodes = [...new Set(ofRoot.map(({ inode }) => inode))];
  const ofProc = watches.filter((watch) => proc.has(watch.device));
  const memory = mounts.filter(({ type, root }) => type === 'tmpfs' && root === '/').map((mount) => ({ target: mount.target, watches: watches.filter((watch) => watch.device === deviceNumber(mount.device)) }));
  if (inodes.length > MOST) return { device, paths: new Map(), lost: [], dangling: [], ofProc };
  const root = await openGuestRoot(init);
  try {
    const [paths, ...lost] = await Promise.all([pathsOf(root, inodes), ...memory.map((one) => lostOf(root, one))]);
    const nowhere = new Set<bigint>();
    for (const [inode, path] of paths) if (!await root.leadsSomewhere(path)) nowhere.add(inode);
    return { device, paths, dangling: ofRoot.filter(({ inode }) => nowhere.has(inode)), lost: [...ofRoot.filter(({ inode }) => !paths.has(inode)), ...lost.flat()], ofProc };
  } finally {
    root.close();
  }
}

/** Watches of a file system in memory, for which criu is told by a handle where they are, and cannot find what has no name. */
async function lostOf(root: GuestRoot, { target, watches }: { target: string; watches: readonly FileWatch[] }): Promise<FileWatch[]> {
  const inodes = [...new Set(watches.map(({ inode }) => inode))];
  if (inodes.length > MOST) return [];
  const found = await root.findInodes(target, inodes, true);
  return watches.filter(({ inode }) => !found.has(inode));
}

async function pathsOf(root: GuestRoot, inodes: readonly bigint[]): Promise<Map<bigint, string>> {
  const paths = new Map((await Promise.all(WATCHED.map((folder) => root.findInodes(folder, inodes)))).flatMap((found) => [...found]));
  const rest = inodes.filter((inode) => !paths.has(inode));
  for (const [inode, path] of await root.findInodes('/', rest)) paths.set(inode, path);
  return paths;
}

/** What of it a dump would fail on. */
export function watchObstacles({ lost, dangling, ofProc }: Watched): Obstacle[] {
  const one = (watches: readonly FileWatch[], what: string, remedy: string): Obstacle[] => watches.slice(0, 1).map(({ pid }) => {
    const process = namedProcess(pid);
    return { kind: 'watch', process, text: `Process ${process.pid} (${process.name}) ${what}.`, remedy };
  });
  return [
    ...one(lost, 'watches a file or folder that has no name any more, or is one of the template\'s that was changed', 'End the program. Of a file of the template make a new one (cp -p FILE FILE.new && mv FILE.new FILE), and start the program again.'),
    ...one(dangling, 'watches a link that leads nowhere', 'Make what the link leads to, or remove the link: systemd watches /etc/localtime.'),
    ...one(ofProc, 'watches a file of /proc, which cannot be watched again', 'End the program.'),
  ];
}
