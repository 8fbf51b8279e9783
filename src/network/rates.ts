/**
 * How much a VE may send and receive: a bucket for each direction in the tables of the host, where its root cannot reach it. What does not fit is dropped, and TCP slows down by that.
 *
 * (By nftables and not by tc: it needs no queue on a link that comes and goes with each boot and restore, it is there for routed links and ports of bridges alike, and in kernels without
 * act_police. A bucket of nftables holds what comes in in one second: `limit` in nft(8), nft_limit_init in net/netfilter/nft_limit.c.)
 */
import type { VeRecord } from '../store/types.ts';
import { interfacesOf } from './interfaces.ts';
import type { PlanContext } from './plan.ts';

/** The maps, empty, for the tables of both families, and the chains that ask them; `rates_out` is asked where packets come in. */
export const RATE_MAPS = `  map rates_in { type ifname : verdict; }
  map rates_out { type ifname : verdict; }
  chain rates {
    type filter hook postrouting priority 300; policy accept;
    oifname vmap @rates_in
  }`;

/** The rule for what comes from a VE. */
export const RATE_RULE = 'iifname vmap @rates_out';

/** Lines of nft that give a VE its buckets, and lines that take them away again (also when they are not there). */
export function rateLines(ve: VeRecord, context: PlanContext): { add: string; remove: string } {
  const { table } = context.names;
  const add: string[] = [];
  const remove: string[] = [];
  for (const direction of ['in', 'out'] as const) {
    const rate = ve.properties[`network.rate.${direction}`];
    if (typeof rate !== 'number') continue;
    for (const family of ['inet', 'bridge'] as const) {
      const links = interfacesOf(ve, context).filter(({ bridge }) => (bridge === undefined) === (family === 'inet'));
      if (links.length === 0) continue;
      const chain = `rate_${direction}_${ve.number}`;
      const make = [`add counter ${family} ${table} over_${chain}`, `add chain ${family} ${table} ${chain}`];
      const elements = links.map(({ link }) => `element ${family} ${table} rates_${direction} { "${link}" : jump ${chain} }`);
      add.push(...make, `flush chain ${family} ${table} ${chain}`, `add rule ${family} ${table} ${chain} limit rate over ${Math.round(rate / 8)} bytes/second counter name over_${chain} drop`,
        ...elements.map((element) => `add ${element}`));
      remove.push(...make, ...elements.flatMap((element) => [`add ${element}`, `delete ${element}`]), `flush chain ${family} ${table} ${chain}`,
        `delete chain ${family} ${table} ${chain}`, `delete counter ${family} ${table} over_${chain}`);
    }
  }
  return { add: text(add), remove: text(remove) };
}

function text(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join('');
}
