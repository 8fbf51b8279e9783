/** Tells the host's own resolver where the names of VEs are answered, where it has one that can be told: systemd-resolved. */
import { existsSync } from 'node:fs';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';

export interface HostNames {
  /** The link whose resolver it is to be. */
  link: string;
  gateways: readonly string[];
  /** The domain, and the zones of addresses. */
  zones: readonly string[];
}

/** What was told by this process, and for which link. */
let told = '';

/** Where systemd-resolved keeps what it was told of links, also for the time after its next start (format: private; only looked into for our domain). */
const STATE = '/run/systemd/resolve/netif';

/** Whether systemd-resolved runs here and can be told. */
export function hasResolved(): boolean {
  return existsSync('/run/systemd/resolve/resolv.conf') && ['/usr/bin/resolvectl', '/bin/resolvectl'].some((path) => existsSync(path));
}

/**
 * Let systemd-resolved ask for these zones, and for nothing else, on the link. Told once by each daemon, and again when it has forgotten;
 * what it was told goes with the link.
 */
export async function tellHost({ link, gateways, zones }: HostNames): Promise<void> {
  if (!hasResolved()) return;
  const index = readIfExists(`/sys/class/net/${link}/ifindex`)?.trim();
  const now = [index, ...gateways, ...zones].join(' ');
  if (index === undefined || (told === now && readIfExists(`${STATE}/${index}`)?.includes(zones[0] ?? '') === true)) return;
  told = now;
  for (const words of [['dns', link, ...gateways], ['domain', link, ...zones.map((zone) => `~${zone}`)], ['default-route', link, 'no'], ['dnssec', link, 'no']]) {
    await run('resolvectl', words, { timeout: 10_000, allow: true });
  }
}
