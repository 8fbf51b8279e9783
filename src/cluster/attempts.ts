/** How often somebody who is not paired may try: a few times a minute for each address, and not without end in all. */

/** Attempts a minute: from one address (for IPv6, one /64), and from all. */
const EACH = 10;
const ALL = 120;
const WINDOW = 60_000;

export interface Attempts {
  /** Count one. @returns whether it may go on */
  allow(address: string): boolean;
}

/** @param now clock in milliseconds, for tests */
export function createAttempts(now: () => number = () => performance.now()): Attempts {
  let begun = now();
  let all = 0;
  const counts = new Map<string, number>();
  return {
    allow(address) {
      if (now() - begun >= WINDOW) {
        begun = now();
        all = 0;
        counts.clear();
      }
      const key = networkOf(address);
      const count = (counts.get(key) ?? 0) + 1;
      if (count > EACH || all >= ALL) return false;
      all += 1;
      counts.set(key, count);
      return true;
    },
  };
}

/** One address of IPv4; the /64 of an IPv6 address, all of which one host may have. */
function networkOf(address: string): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1]!;
  if (!address.includes(':')) return address;
  const [head = '', tail] = address.split('%')[0]!.split('::');
  const first = head === '' ? [] : head.split(':');
  const last = tail === undefined || tail === '' ? [] : tail.split(':');
  const groups = tail === undefined ? first : [...first, ...Array.from({ length: Math.max(0, 8 - first.length - last.length) }, () => '0'), ...last];
  return groups.slice(0, 4).map((group) => Number.parseInt(group, 16).toString(16)).join(':');
}
