/** Tells the host's own resolver where the names of VEs are answered, where it has one that can be told: systemd-resolved. */
import { existsSync } from 'node:fs';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';

export interface HostNames {
  /** The link whose resolver it is to be. */
  link: string;
  gateways: readonly string[];
  domain: string;
}

/** Where systemd-resolved keeps what it was told of links, also for the time after its next start (format: private; only looked into for our domain). */
const STATE = '/run/systemd/resolve/netif';

/** Whether systemd-resolved runs here and can be told. */
export function hasResolved(): boolean {
  return existsSync('/run/systemd/resolve/resolv.conf') && ['/usr/bin/resolvectl', '/bin/resolvectl'].some((path) => existsSync(path));
}

/**
 * Let systemd-resolved ask for the domain, and for nothing else, on the link. Nothing is done when it knows already; what it was told goes
 * with the link.
 */
export async function tellHost({ link, gateways, domain }: HostNames): Promise<void> {
  if (!hasResolved()) return;
  const index = readIfExists(`/sys/class/net/${link}/ifindex`)?.trim();
  if (index === undefined || readIfExists(`${STATE}/${index}`)?.includes(domain) === true) return;
  for (const words of [['dns', link, ...gateways], ['domain', link, `~${domain}`], ['default-route', link, 'no'], ['dnssec', link, 'no']]) {
    await run('resolvectl', words, { timeout: 10_000, allow: true });
  }
}
