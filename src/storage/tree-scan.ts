/** What is in a tree at a moment, and what has changed since an earlier moment. */
import type { Writable } from 'node:stream';
import { startBox } from '../kernel/box.ts';
import type { TreeRoot } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';

export type TreeType = 'file' | 'folder' | 'symlink' | 'fifo' | 'character' | 'block';

/** What tells whether a name is what it was. */
export interface TreeEntry {
  inode: string;
  /** Time of the last change of content or attributes, as find(1) prints it: seconds since 1970 with a fraction. The VE cannot set it. */
  ctime: string;
  /** Of the last change of content, written in the same way; the VE can set it. */
  mtime: string;
  type: TreeType;
  /** Bytes of content. */
  size: number;
  /** Names of this inode. */
  links: number;
  /** Changed so shortly before the scan that it may change again, or be changing still, without another ctime. */
  recent: boolean;
}

/**
 * Path -> entry. Paths are relative, that of the root is `.`, and each character is one byte (latin1): names need not be UTF-8.
 * Sockets are not in it: one is of use only to the process that made it, and criu makes those of the processes that it restores.
 */
export type Tree = Map<string, TreeEntry>;

/**
 * How long before a scan a change counts as recent, in milliseconds. The kernel writes the ctime when a write(2) begins, and in steps of up to 10 ms: what
 * is read after the scan, while that same call goes on, is half new, and no later ctime tells of the other half.
 */
const RECENT = 1000;

/** Longest path that can be opened in one go, with `./` before and NUL behind it: PATH_MAX of linux/limits.h. */
const LONGEST = 4096 - 3;

const TYPES: Record<string, TreeType> = { f: 'file', d: 'folder', l: 'symlink', p: 'fifo', c: 'character', b: 'block' };

/** What find says of a folder that has gone since it was named. */
const RACES = /: (No such file or directory|Not a directory|Too many levels of symbolic links)$/;

/** A scan that stands ready, its program waiting. */
export interface PreparedScan {
  /** Scan now. To be called once. */
  run(): Promise<Tree>;
  /** End the program that waits. */
  cancel(): void;
}

/**
 * Look at every name of a tree: what {@link prepareScan} does, at once.
 * @throws VeldError `storage.failed`, `operation.cancelled`
 */
export async function scanTree(root: TreeRoot, options: { signal?: AbortSignal; most?: number } = {}): Promise<Tree> {
  return prepareScan(root, options).run();
}

/**
 * Make a scan ready: a box with find(1), which follows no link and stays on the file system. The tree may change while it is scanned: what vanishes meanwhile is left
 * out, what is moved may be missed or seen twice; the next scan has it.
 * @param root a folder of Veld's own (an upper, a layer), or several as one tree; the VE rules over everything below
 * @param options `most`: names; default: any number
 * @returns a scan whose `run` throws VeldError `storage.failed` for what find cannot read and for a path of more than 4093 bytes, `operation.cancelled`
 */
export function prepareScan(root: TreeRoot, options: { signal?: AbortSignal; most?: number } = {}): PreparedScan {
  const errors: string[] = [];
  const box = startBox(['/bin/sh', '-c', String.raw`read -r go && cd /in && exec find . -xdev -ignore_readdir_race -printf '%i %C@ %T@ %y %s %n %P\0'`],
    {
      in: root, links: 'refused', capabilities: ['dac_read_search'], stdin: 'pipe', stdout: 'pipe', ...options.signal && { signal: options.signal },
      onLine: (line) => { if (!RACES.test(line)) errors.push(line); },
    });
  return {
    cancel: () => box.kill(),
    async run() {
      const tree: Tree = new Map();
      const recent = (Date.now() - RECENT) / 1000;
      (box.stdin as Writable).end('go\n');
      let rest = '';
      for await (const chunk of box.stdout!) {
        const records = (rest + (chunk as Buffer).toString('latin1')).split('\0');
        rest = records.pop() ?? '';
        for (const record of records) add(tree, record, recent);
        if (options.most !== undefined && tree.size > options.most) {
          box.kill();
          throw new VeldError('storage.failed', `${String(root)} has more than ${options.most} names: it cannot be carried.`, { hint: 'Pack what is in folders with very many files into archives, within the VE.' });
        }
      }
      const { code } = await box.ended;
      // 1: it has said why, a line for each reason.
      if (code === null || code > 1 || errors.length > 0 || rest !== '' || !tree.has('.')) {
        throw new VeldError('storage.failed', `${String(root)} could not be looked through: ${errors[0] ?? `find ended with status ${code}`}.`);
      }
      return tree;
    },
  };
}

function add(tree: Tree, record: string, recent: number): void {
  const [, inode = '', ctime = '', mtime = '', letter = '', size, links, path = ''] = /^(\d+) (\S+) (\S+) (\S) (\d+) (\d+) (.*)$/s.exec(record) ?? [];
  const type = TYPES[letter];
  if (type === undefined) return; // a socket, or gone between its folder and itself
  if (path.length > LONGEST) throw new VeldError('storage.failed', `A path is longer than ${LONGEST} bytes: ${JSON.stringify(path.slice(0, 100))}...`, { hint: 'Move it up, or pack it into an archive, within the VE.' });
  tree.set(path === '' ? '.' : path, { inode, ctime, mtime, type, size: Number(size), links: Number(links), recent: !(Number(ctime) < recent) });
}

/** A name to send. */
export interface TreeName {
  path: string;
  type: TreeType;
}

export interface TreeChanges {
  /** What to send: each folder before what is in it; of a folder its entry alone. */
  send: TreeName[];
  /** What to remove before: what is in a folder before the folder. */
  remove: string[];
}

/**
 * What a target that was made equal to `before` needs to be equal to `now`.
 * Sent is what is new, has another inode or ctime, or was recent in `before`; with one name of an inode all its names, so that they are linked again; and the folder of
 * each, whose own time changes when a name in it is replaced. Removed is what is gone or of another type. A deleted name (character device 0:0) is nothing but a name:
 * overlayfs makes all of them by links to one inode, so that the ctime of all changes with each new one.
 * @param before an empty map for a target that is empty
 */
export function treeChanges(before: Tree, now: Tree): TreeChanges {
  const wanted = new Set<string>();
  const groups = new Map<string, string[]>();
  const remove: string[] = [];
  const want = (path: string, { type }: TreeEntry): void => {
    wanted.add(path);
    if (type !== 'folder') wanted.add(folderOf(path));
  };
  for (const [path, entry] of now) {
    const old = before.get(path);
    if (old && old.type !== entry.type) remove.push(path);
    if (entry.type === 'character') {
      if (old?.type !== 'character') want(path, entry);
      continue;
    }
    if (entry.links > 1 && entry.type !== 'folder') {
      const names = groups.get(entry.inode);
      if (names) names.push(path);
      else groups.set(entry.inode, [path]);
    }
    if (!old || old.type !== entry.type || old.recent || old.inode !== entry.inode || old.ctime !== entry.ctime) want(path, entry);
  }
  for (const names of groups.values()) {
    if (names.some((path) => wanted.has(path))) for (const path of names) want(path, now.get(path)!);
  }
  for (const path of before.keys()) {
    if (now.has(path)) continue;
    remove.push(path);
    wanted.add(folderOf(path));
  }
  const send = [...wanted].filter((path) => now.has(path)).sort(parentsFirst).map((path) => ({ path, type: now.get(path)!.type }));
  return { send, remove: remove.filter((path) => path !== '.').sort(parentsFirst).reverse() };
}

/** Path of the folder that holds a name; that of the root is the root. */
export function folderOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash < 0 ? '.' : path.slice(0, slash);
}

function parentsFirst(a: string, b: string): number {
  if (a === '.' || b === '.') return a === b ? 0 : a === '.' ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}
