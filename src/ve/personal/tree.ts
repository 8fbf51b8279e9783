/**
 * A VE's files as it will see them, read from outside: from its layers while it has none of its own yet, or through the root of a VE that runs. What is in
 * them is hostile: everything goes through kernel/guest-tree.ts, with limits.
 */
import { posix } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import type { GuestName } from '../../kernel/guest-names.ts';
import { openGuestRoot, type GuestRoot } from '../../kernel/guest-tree.ts';
import type { ProcessId } from '../../kernel/process.ts';
import type { LayerRef } from '../../store/types.ts';
import type { VeContext } from '../context.ts';

/** A name, with its owners as the VE counts them. */
export interface Found {
  /** Without a link in it. */
  path: string;
  kind: GuestName['kind'];
  mode: number;
  uid: number;
  gid: number;
}

export interface Tree {
  /** What a path leads to, all links followed inside of the tree. */
  find(path: string): Promise<Found | undefined>;
  /** The path without links, whose last parts need not be there: what a program that makes it would make. */
  resolve(path: string): Promise<string>;
  /** Content of an ordinary file; undefined when there is none. @throws VeldError `path.refused` for one that is larger */
  text(path: string, most?: number): Promise<string | undefined>;
  /** The same as it is. */
  bytes(path: string): Promise<Buffer | undefined>;
  /** Names in a folder, sorted; none when there is no such folder. */
  names(path: string): Promise<string[]>;
  close(): void;
}

/** Links that a lookup follows, as the kernel does (path_resolution(7)). */
const LINKS_MAX = 40;

/** Bytes of a file that is read. */
const FILE_MAX = 1 << 20;

/** Names in a folder that is read. */
const NAMES_MAX = 500;

/** Whose ids are how far from those that the VE counts. */
interface Part {
  root: GuestRoot;
  base: number;
}

/** The tree of a VE that stands on these layers, lowest first. That an upper folder may hide a lower one whole (overlayfs' opaque folders) is not seen: those of the system are not. */
export async function layersTree({ volumes }: Pick<VeContext, 'volumes'>, layers: readonly LayerRef[]): Promise<Tree> {
  const parts: Part[] = [];
  try {
    for (const { id, uidBase } of layers.toReversed()) parts.push({ root: await openGuestRoot(volumes.layerPath(id)), base: uidBase });
  } catch (error) {
    for (const { root } of parts) root.close();
    throw error;
  }
  return treeOf(parts);
}

/** The tree of a VE that runs. */
export async function runningTree(init: ProcessId, uidBase: number): Promise<Tree & { root: GuestRoot }> {
  const root = await openGuestRoot(init);
  return { ...treeOf([{ root, base: uidBase }]), root };
}

/** @param parts the topmost first */
function treeOf(parts: readonly Part[]): Tree {
  /** A name whose folders hold no link, as the topmost part that knows it says. */
  const look = async (path: string): Promise<(GuestName & { part: Part }) | undefined> => {
    for (const part of parts) {
      const found = await part.root.look(path);
      if (found) return found.kind === 'whiteout' ? undefined : { ...found, uid: Math.max(found.uid - part.base, 0), gid: Math.max(found.gid - part.base, 0), part };
    }
    return undefined;
  };

  /** @returns the path without links, and what is there */
  const walk = async (path: string): Promise<{ path: string; found: Awaited<ReturnType<typeof look>> }> => {
    let [at, left, links] = ['/', split(path), 0];
    let found = await look('/');
    while (left.length > 0) {
      const [name, ...rest] = left as [string, ...string[]];
      const next = name === '..' ? posix.dirname(at) : posix.join(at, name);
      found = await look(next);
      if (found?.kind === 'link') {
        if (++links > LINKS_MAX) throw new VeldError('path.refused', `The links of ${path} in the VE go round in circles.`);
        if (found.target.startsWith('/')) at = '/';
        left = [...split(found.target), ...rest];
        found = await look(at);
      } else {
        [at, left] = [next, rest];
        // Below nothing is nothing; the rest is only a name.
        if (!found) return { path: posix.join(at, ...left), found };
      }
    }
    return { path: at, found };
  };

  const bytes = async (path: string, most = FILE_MAX): Promise<Buffer | undefined> => {
    const { path: real, found } = await walk(path);
    return found?.kind === 'file' ? found.part.root.readFile(real, most) : undefined;
  };

  return {
    async find(path) {
      const { path: real, found } = await walk(path);
      return found && { path: real, kind: found.kind, mode: found.mode, uid: found.uid, gid: found.gid };
    },
    resolve: async (path) => (await walk(path)).path,
    text: async (path, most) => (await bytes(path, most))?.toString('utf8'),
    bytes: (path) => bytes(path),
    async names(path) {
      const { path: real, found } = await walk(path);
      if (found?.kind !== 'folder') return [];
      const names = new Set<string>();
      for (const { root } of parts) if ((await root.look(real))?.kind === 'folder') for (const name of await root.names(real, NAMES_MAX)) names.add(name);
      const there: string[] = [];
      for (const name of names) if (await look(posix.join(real, name))) there.push(name);
      return there.toSorted();
    },
    close() {
      for (const { root } of parts) root.close();
    },
  };
}

function split(path: string): string[] {
  return path.split('/').filter((part) => part !== '' && part !== '.');
}
