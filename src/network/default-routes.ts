/** Whether the host's default routes are still those of a moment ago: cheap enough to be asked every few seconds. */
import { readIfExists } from '../lib/files.ts';

/**
 * The links of the default routes of the main table, both families, sorted. Of a route with several next hops only the first is seen.
 * Source of the formats: fib_route_seq_show() in net/ipv4/fib_trie.c (Iface Destination Gateway Flags RefCnt Use Metric Mask ...), rt6_info_route() in
 * net/ipv6/route.c (destination, its length, source, its length, next hop, metric, references, use, flags, link).
 * @param four text of /proc/net/route @param six of /proc/net/ipv6_route
 */
export function defaultRouteLinks(four = readIfExists('/proc/net/route') ?? '', six = readIfExists('/proc/net/ipv6_route') ?? ''): string[] {
  const links = new Set<string>();
  for (const line of four.split('\n')) {
    const [link = '', destination, , , , , , mask] = line.split('\t');
    // `*` is a route that refuses.
    if (destination === '00000000' && mask === '00000000' && link !== '*') links.add(link.trim());
  }
  for (const [, link] of six.matchAll(/^0{32} 00 0{32} 00 .* (\S+)$/gm)) if (link !== undefined && link !== 'lo') links.add(link);
  return [...links].sort();
}
