/** Which packages a tree has, by what its package manager has written: dpkg's status file (deb822(5)), apk's database. Those of rpm are in a database that is not read here. */
import { VeldError } from '../lib/errors.ts';
import { openGuestRoot, type GuestRoot } from '../kernel/guest-tree.ts';
import type { TreeRoot } from '../kernel/mounts.ts';

export interface Packages {
  manager: 'dpkg' | 'apk';
  /** Name -> version. One that is there for several architectures has the architecture behind it, as dpkg writes it. */
  versions: Map<string, string>;
}

export interface PackageChanges {
  added: { name: string; version: string }[];
  removed: { name: string; version: string }[];
  changed: { name: string; from: string; to: string }[];
}

/** Largest database that is read, in bytes. */
const LARGEST = 64 << 20;

/** @param root layers, lowest first @returns undefined when it has no database that can be read */
export async function packagesOf(root: TreeRoot): Promise<Packages | undefined> {
  const tree = await openGuestRoot(root);
  try {
    const status = await read(tree, '/var/lib/dpkg/status');
    if (status !== undefined) return { manager: 'dpkg', versions: parseDpkg(status) };
    const installed = await read(tree, '/lib/apk/db/installed') ?? await read(tree, '/usr/lib/apk/db/installed');
    return installed === undefined ? undefined : { manager: 'apk', versions: parseApk(installed) };
  } finally {
    tree.close();
  }
}

async function read(tree: GuestRoot, path: string): Promise<string | undefined> {
  try {
    return (await tree.readFile(path, LARGEST)).toString('utf8');
  } catch (error) {
    if (error instanceof VeldError && error.code === 'path.refused') return undefined;
    throw error;
  }
}

/** Packages of dpkg that are installed, or were to be. */
export function parseDpkg(status: string): Map<string, string> {
  const found: { name: string; architecture: string; version: string }[] = [];
  for (const block of status.split(/\n{2,}/)) {
    const field = (name: string): string => new RegExp(`^${name}: *(\\S[^\\n]*)$`, 'm').exec(block)?.[1] ?? '';
    if (/ (?:not-installed|config-files)$/.test(field('Status')) || field('Package') === '' || field('Version') === '') continue;
    found.push({ name: field('Package'), architecture: field('Architecture'), version: field('Version') });
  }
  const counts = new Map<string, number>();
  for (const { name } of found) counts.set(name, (counts.get(name) ?? 0) + 1);
  return new Map(found.map(({ name, architecture, version }) => [counts.get(name)! > 1 ? `${name}:${architecture}` : name, version]));
}

/** Packages of apk: P is the name, V the version. */
export function parseApk(installed: string): Map<string, string> {
  const versions = new Map<string, string>();
  for (const block of installed.split(/\n{2,}/)) {
    const [name, version] = ['P', 'V'].map((key) => new RegExp(`^${key}:(\\S+)$`, 'm').exec(block)?.[1]);
    if (name !== undefined && version !== undefined) versions.set(name, version);
  }
  return versions;
}

/** By name. */
export function comparePackages(from: ReadonlyMap<string, string>, to: ReadonlyMap<string, string>): PackageChanges {
  const changes: PackageChanges = { added: [], removed: [], changed: [] };
  for (const name of [...new Set([...from.keys(), ...to.keys()])].toSorted()) {
    const [before, now] = [from.get(name), to.get(name)];
    if (before === undefined) changes.added.push({ name, version: now! });
    else if (now === undefined) changes.removed.push({ name, version: before });
    else if (before !== now) changes.changed.push({ name, from: before, to: now });
  }
  return changes;
}
