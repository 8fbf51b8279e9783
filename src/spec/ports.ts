/** Published ports as a person writes them: `8080:80`, `192.0.2.1:53:53/udp`, `[2001:db8::1]:8000-8010:80-90/tcp`. Pure. */
import { canonicalAddress } from './addresses.ts';

export interface PublishedPorts {
  /** Address of the host; null: all of them; `0.0.0.0`, `::`: all of one family. */
  host: string | null;
  /** First and last port of the host. */
  first: number;
  last: number;
  /** First port of the VE; as many follow as on the host. */
  port: number;
  protocol: 'tcp' | 'udp';
}

/** Most ports that one item may name: each becomes an element of a map in the kernel. */
export const PUBLISH_MAX = 1024;

const ITEM = /^(?:(?:\[([0-9a-f:.]+)\]|(\d[\d.]+)):)?(\d{1,5})(?:-(\d{1,5}))?:(\d{1,5})(?:-(\d{1,5}))?(?:\/(tcp|udp))?$/i;

/** Read one item, or undefined when it is none. */
export function parsePublish(text: string): PublishedPorts | undefined {
  const found = ITEM.exec(text);
  if (!found) return undefined;
  const [, six, four, from = '', to = from, port = '', end = port, protocol = 'tcp'] = found;
  const given = six ?? four;
  const host = given === undefined ? null : given === '0.0.0.0' || given === '::' ? given : canonicalAddress(given);
  if (host === undefined || (six !== undefined) !== (host?.includes(':') === true)) return undefined;
  const [first, last, inside, insideLast] = [from, to, port, end].map(Number) as [number, number, number, number];
  if ([first, last, inside, insideLast].some((n) => n < 1 || n > 65_535) || last < first || last - first !== insideLast - inside) return undefined;
  if (last - first >= PUBLISH_MAX) return undefined;
  return { host, first, last, port: inside, protocol: protocol.toLowerCase() as 'tcp' | 'udp' };
}

/** The one text of an item. */
export function formatPublish({ host, first, last, port, protocol }: PublishedPorts): string {
  const address = host === null ? '' : `${host.includes(':') ? `[${host}]` : host}:`;
  const range = (start: number): string => (last === first ? String(start) : `${start}-${start + last - first}`);
  return `${address}${range(first)}:${range(port)}/${protocol}`;
}

/** {@link parsePublish} and {@link formatPublish}: the canonical text. */
export function canonicalPublish(text: string): string | undefined {
  const ports = parsePublish(text);
  return ports && formatPublish(ports);
}

/** Whether two items would take the same port of the host. */
export function publishOverlaps(a: PublishedPorts, b: PublishedPorts): boolean {
  return a.protocol === b.protocol && a.first <= b.last && b.first <= a.last && hostsOverlap(a.host, b.host);
}

/** Whether two addresses of {@link PublishedPorts.host} have one in common. */
export function hostsOverlap(a: string | null, b: string | null): boolean {
  if (a === null || b === null || a === b) return true;
  const any = (host: string): boolean => host === '0.0.0.0' || host === '::';
  return (any(a) || any(b)) && a.includes(':') === b.includes(':');
}
