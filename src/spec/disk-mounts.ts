/** Folders of the host in a VE, as a person writes them: `/srv/data:/data`, `/srv/data:/data:ro`, `/srv/data:/data:plain`. Pure. */

export interface DiskMount {
  /** Folder of the host. */
  host: string;
  /** Where it is in the VE. */
  inside: string;
  readOnly: boolean;
  /** Owners are those that the host has written there; else they are counted from 0: the host's root is the VE's. */
  plain: boolean;
}

/** Longest path, in characters. */
const LONGEST = 110;

/** What the VE's init, or Veld, needs for itself, and what is below it. */
const RESERVED = /^\/(proc|sys|dev|run|etc|usr|bin|sbin|lib[^/]*|boot)$|^\/(proc|sys|dev|run)\//;

/** Absolute, without names that lead elsewhere, and without what separates items, their parts, and fields of mount tables. */
function isPath(text: string): boolean {
  return text.length <= LONGEST && /^(\/(?!\.{1,2}(\/|$))[^/\s:,\\"'\p{Cc}]+)+$/u.test(text);
}

/** Read one item, or undefined when it is none. */
export function parseMount(text: string): DiskMount | undefined {
  const [host = '', inside = '', ...options] = text.split(':');
  if (!isPath(host) || !isPath(inside) || RESERVED.test(inside)) return undefined;
  if (options.some((option) => option !== 'ro' && option !== 'plain') || new Set(options).size < options.length) return undefined;
  return { host, inside, readOnly: options.includes('ro'), plain: options.includes('plain') };
}

/** {@link parseMount}, and back: the canonical text. */
export function canonicalMount(text: string): string | undefined {
  const mount = parseMount(text);
  return mount && `${mount.host}:${mount.inside}${mount.readOnly ? ':ro' : ''}${mount.plain ? ':plain' : ''}`;
}

/** All of a list that was checked; what lies in another one comes after that. */
export function mountsFrom(items: readonly string[]): DiskMount[] {
  return items.map((item) => parseMount(item)!).sort((a, b) => a.inside.split('/').length - b.inside.split('/').length || (a.inside < b.inside ? -1 : 1));
}
