/**
 * Packets for a VE that stands still for a moment wait on a link of their own, and go on to it when it is back. Without that they would be lost, and TCP
 * would ask again after 200 ms, 400 ms, and so on: a VE that is away for 250 ms would be silent for 400.
 */
import { writeFileSync } from 'node:fs';
import { ipBatch } from '../kernel/links.ts';
import { openTun } from '../kernel/tun.ts';
import { hasIpv6 } from './host.ts';
import { ROUTE_PROTOCOL } from './names.ts';

/** Packets that wait at most; further ones are lost. */
const QUEUE = 4096;
/** Metric of the routes to the link: those to the VE come before, while they are there. */
const METRIC = 4000;

export interface Hold {
  /** The VE is back, and routes lead to it: what has waited goes there. @returns packets */
  release(): number;
  /** The VE is on another host: what has waited follows the routes that this one has for all others. @returns packets */
  sendOn(): Promise<number>;
}

/**
 * Let packets for these addresses and prefixes wait as soon as no better route leads on.
 * @param link name for the link
 * @param targets addresses and prefixes with their lengths, as ip(8) takes them
 */
export async function holdPackets(link: string, targets: readonly string[]): Promise<Hold> {
  const tun = openTun(link);
  const routes = targets.filter((target) => !target.includes(':') || hasIpv6()).map((target) => `${target} dev ${link} proto ${ROUTE_PROTOCOL} metric ${METRIC}`);
  try {
    // What was sent by this host itself comes in again by this link.
    for (const [name, value] of [['accept_local', '1'], ['rp_filter', '0']] as const) writeFileSync(`/proc/sys/net/ipv4/conf/${link}/${name}`, value);
    await ipBatch([
      `link set ${link} addrgenmode none txqueuelen ${QUEUE}`, `link set ${link} up`,
      ...routes.map((route) => `route add ${route}`),
    ]);
  } catch (error) {
    tun.close();
    throw error;
  }
  const release = (): number => {
    try {
      return tun.giveBack();
    } finally {
      tun.close();
    }
  };
  return {
    release,
    async sendOn() {
      // They would come back, and go with the link.
      await ipBatch(routes.map((route) => `route del ${route}`), { force: true });
      return release();
    },
  };
}
