/** What of a VE's disk is no part of a template that is made of it: what belongs to that one VE, and what would only take up room. THE table. */
import { VeldError } from '../lib/errors.ts';
import type { Tree } from '../storage/transfer.ts';

export interface CleaningRule {
  /** One phrase, for people. */
  what: string;
  /** `leave`: the name is left out, and what the layers below have of it shows; `files`: the same, but folders stay, since who writes there expects them; `empty`: an empty file in its place. */
  how: 'leave' | 'files' | 'empty';
  /** Absolute; `*` stands for any characters of a name, `**` at the end for all below. */
  paths: readonly string[];
}

/** In this order; the first that fits a name counts. Names that the VE has deleted stay deleted in any case. */
export const CLEANING: readonly CleaningRule[] = [
  { what: 'the id of the machine', how: 'empty', paths: ['/etc/machine-id'] },
  { what: 'the id of the machine', how: 'leave', paths: ['/var/lib/dbus/machine-id'] },
  { what: 'host keys of SSH', how: 'leave', paths: ['/etc/ssh/ssh_host_*', '/etc/dropbear/dropbear_*_host_key'] },
  { what: 'name and network of the VE', how: 'leave', paths: ['/etc/hostname', '/etc/hosts', '/etc/resolv.conf', '/etc/network/interfaces'] },
  { what: 'journals', how: 'leave', paths: ['/var/log/journal/**'] },
  { what: 'logs', how: 'files', paths: ['/var/log/**', '/var/crash/**', '/var/lib/systemd/coredump/**'] },
  { what: 'what packages came from', how: 'files', paths: ['/var/cache/apt/**', '/var/lib/apt/lists/**', '/var/cache/dnf/**', '/var/cache/yum/**', '/var/cache/apk/**', '/var/cache/pacman/pkg/**', '/var/cache/zypp/**'] },
  { what: 'leases of DHCP', how: 'files', paths: ['/var/lib/dhcp/**', '/var/lib/dhcpcd/**', '/var/lib/NetworkManager/**', '/var/lib/systemd/network/**'] },
  { what: 'seeds of random numbers', how: 'leave', paths: ['/var/lib/systemd/random-seed', '/var/lib/urandom/random-seed', '/var/lib/misc/random-seed', '/var/lib/seedrng/**'] },
  { what: 'keys of systemd\'s own', how: 'leave', paths: ['/var/lib/systemd/credential.secret'] },
  { what: 'what people have typed', how: 'leave', paths: ['', '/.local/share/fish'].flatMap((below) => ['/root', '/home/*'].flatMap((home) => (below === '' ? ['.*_history', '.lesshst', '.viminfo', '.wget-hsts', '.sudo_as_admin_successful'] : ['fish_history']).map((name) => `${home}${below}/${name}`))) },
  { what: 'temporary files', how: 'leave', paths: ['/tmp/**', '/var/tmp/**', '/run/**'] },
  { what: 'what cloud-init knows of the instance', how: 'leave', paths: ['/var/lib/cloud/instance', '/var/lib/cloud/instances/**', '/var/lib/cloud/data/**', '/var/lib/cloud/sem/**'] },
  { what: 'older account files', how: 'leave', paths: ['passwd', 'group', 'shadow', 'gshadow', 'subuid', 'subgid'].map((name) => `/etc/${name}-`) },
];

export interface Cleaned {
  /** Absolute; each character is one byte (latin1). */
  path: string;
  what: string;
}

export interface CleaningPlan {
  /** Names that are left out: paths as the tree has them. */
  out: Set<string>;
  /** Files among them in whose place there is to be an empty one, as the tree has them. */
  empty: string[];
  /** The same for people: folders are not told of. */
  cleaned: Cleaned[];
}

/**
 * Look what is to be left out of a tree.
 * @param options `own`: files that Veld writes itself, absolute; `keep`: patterns of what is not to be cleaned
 * @throws VeldError `request.invalid` for a pattern that is none
 */
export function planCleaning(tree: Tree, options: { own?: readonly string[]; keep?: readonly string[] } = {}): CleaningPlan {
  const rules = [...options.own?.length ? [{ what: 'name and network of the VE', how: 'leave' as const, paths: options.own.map(literal) }] : [], ...CLEANING]
    .map((rule) => ({ ...rule, pattern: patternOf(rule.paths) }));
  const kept = options.keep?.length ? patternOf(options.keep) : undefined;
  const plan: CleaningPlan = { out: new Set(), empty: [], cleaned: [] };
  for (const [name, { type }] of tree) {
    if (name === '.' || type === 'character') continue;
    const path = `/${name}`;
    const rule = rules.find(({ pattern }) => pattern.test(path));
    if (!rule || kept?.test(path)) continue;
    if (type === 'folder' && rule.how !== 'leave') continue;
    plan.out.add(name);
    if (rule.how === 'empty' && type === 'file') plan.empty.push(name);
    if (type !== 'folder') plan.cleaned.push({ path, what: rule.what });
  }
  // What is kept needs the folders above it.
  for (const name of tree.keys()) {
    if (plan.out.has(name)) continue;
    for (let slash = name.lastIndexOf('/'); slash > 0; slash = name.lastIndexOf('/', slash - 1)) plan.out.delete(name.slice(0, slash));
  }
  return plan;
}

/** One expression for several patterns. @throws VeldError `request.invalid` */
export function patternOf(paths: readonly string[]): RegExp {
  const parts = paths.map((path) => {
    if (!path.startsWith('/') || path.length > 4096 || /\*\*(?!$)/.test(path) || /[^/]\*\*$/.test(path)) {
      throw new VeldError('request.invalid', `${JSON.stringify(path.slice(0, 200))} is not a pattern of paths.`, { hint: 'It begins with /; * stands for any characters of a name, /** at the end for all below: /var/log/nginx/**' });
    }
    const below = path.endsWith('/**');
    const source = (below ? path.slice(0, -3) : path).replaceAll(/[$()+.?[\\\]^{|}]/g, String.raw`\$&`).replaceAll('*', '[^/]*');
    return below ? `${source}/.+` : source;
  });
  return new RegExp(`^(?:${parts.join('|')})$`, 's');
}

/** A path that is no pattern: what has a star in it is none of Veld's. */
function literal(path: string): string {
  if (path.includes('*')) throw new VeldError('internal', `${path} has a star in it.`);
  return path;
}
