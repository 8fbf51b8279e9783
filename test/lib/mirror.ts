/** The Debian mirror that this host uses. */
import { readFileSync, readdirSync } from 'node:fs';

/** Address of the first package source of the host that holds Debian itself; Debian's own where the host has none. */
export function hostMirror(): string {
  const files = ['/etc/apt/sources.list'];
  try {
    files.push(...readdirSync('/etc/apt/sources.list.d').map((name) => `/etc/apt/sources.list.d/${name}`));
  } catch { /* none */ }
  for (const file of files) {
    let text = '';
    try {
      text = readFileSync(file, 'utf8');
    } catch {
      continue;
    }
    for (const line of text.split('\n')) {
      const address = /^\s*(?:URIs:|deb(?:\s+\[[^\]]*\])?)\s+(\S+\/debian)\/?(\s|$)/.exec(line)?.[1];
      if (address !== undefined) return address;
    }
  }
  return 'http://deb.debian.org/debian';
}
