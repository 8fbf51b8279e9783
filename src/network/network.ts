/** The network of VEs: a routed pair of links for each, no bridge. See docs/explanation/network.md. */
import { rmSync } from 'node:fs';
import type { Settings } from '../lib/settings.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { createGate } from '../lib/gate.ts';
import { ipBatch, linkCounter, linkExists, linkNames, listLinks, listRoutes } from '../kernel/links.ts';
import { nftApply } from '../kernel/nftables.ts';
import type { SysctlChange } from '../kernel/sysctl.ts';
import type { VeRecord } from '../store/types.ts';
import { defaultRouteLinks } from './default-routes.ts';
import { addSources, listSources, removeSources, removeTable, sourcesOf, tableScript } from './firewall.ts';
import type { Source } from './firewall.ts';
import { checkOverlap, defaultUplinks, hasIpv6, makeGateway, removeGateway, setSysctls } from './host.ts';
import { linkOf, namesOf } from './names.ts';
import { guestLines, guestRemoval, hostLines, hostRemoval, planOf, usableAddresses } from './plan.ts';
import type { PlanContext } from './plan.ts';
import { createAllocator, parsePools } from './pools.ts';
import { addProxies, proxied, removeProxies } from './proxies.ts';
import type { NetworkManager } from './types.ts';
import { networkWarnings } from './warnings.ts';

/**
 * The manager of an instance's network. It touches nothing before `setup`.
 * @throws VeldError `settings.invalid`
 */
export function createNetwork(settings: Settings): NetworkManager {
  const names = namesOf(settings.instance);
  const allPools = parsePools(settings.network.pools);
  const ipv6 = hasIpv6();
  const pools = allPools.filter((pool) => ipv6 || pool.family === 4);
  const context: PlanContext = { names, pools, ipv6 };
  const allocator = createAllocator(pools);
  const record = `${settings.runDir}/network.json`;
  let uplinks = settings.network.uplinks;
  /** The links of the default routes at the last setup that succeeded. */
  let seen: string | undefined;
  /** A setup replaces the whole firewall: nothing may be let in or out between its look at what is there and its end. */
  const gate = createGate();

  const textsOf = (ve: VeRecord): string[] => usableAddresses(ve, ipv6).map(({ text }) => text);

  const setup = async (ves?: readonly VeRecord[]): Promise<void> => {
    const defaults = defaultRouteLinks().join();
    const [links, routes, before] = await Promise.all([listLinks(), listRoutes(), listSources(names)]);
    checkOverlap(pools, links, routes, names);
    if (settings.network.uplinks.length === 0) uplinks = defaultUplinks(routes, names);
    const changes = setSysctls(uplinks, ipv6);
    recordChanges(record, changes);
    await makeGateway(names, pools);
    const sources: readonly Source[] = ves === undefined ? before ?? [] : ves.flatMap((ve) => sourcesOf(ve, context));
    await nftApply(tableScript({ names, pools, uplinks, veToVe: settings.network.veToVe, veToHost: settings.network.veToHost }, sources));
    const now = proxied(sources.map(({ address }) => address), pools);
    await addProxies(now, uplinks);
    await removeProxies(proxied((before ?? []).map(({ address }) => address), pools).filter((address) => !now.includes(address)));
    seen = defaults;
  };

  return {
    setup: (ves) => gate.alone(() => setup(ves)),

    follow(report, interval = 5000) {
      let busy = false;
      const look = async (): Promise<void> => {
        // Links named in the settings stay what they are.
        if (busy || (seen !== undefined && (settings.network.uplinks.length > 0 || seen === defaultRouteLinks().join()))) return;
        busy = true;
        await gate.alone(() => setup()).then(() => report(undefined, uplinks), (error: unknown) => report(error as Error, uplinks));
        busy = false;
      };
      const timer = setInterval(() => void look(), interval).unref();
      return () => clearInterval(timer);
    },

    async teardown() {
      const sources = (await listSources(names)) ?? [];
      await removeProxies(sources.map(({ address }) => address));
      await ipBatch(linkNames().filter((link) => link.startsWith(names.linkPrefix)).map((link) => `link del ${link}`), { force: true });
      await removeGateway(names);
      await removeTable(names);
      rmSync(record, { force: true });
    },

    allocate: (wanted, taken) => allocator.allocate(wanted, taken),

    plan: (ve) => planOf(ve, context),

    async admit(ve) {
      const failure = seen !== undefined ? undefined : await gate.alone(() => setup()).catch((error: unknown) => error);
      try {
        await gate.shared(() => Promise.all([addSources(names, sourcesOf(ve, context)), addProxies(proxied(textsOf(ve), pools), uplinks)]));
      } catch (error) {
        throw failure ?? error;
      }
    },

    async revoke(ve) {
      const link = linkOf(names, ve.number);
      await gate.shared(() => Promise.all([
        removeProxies(proxied(textsOf(ve), pools)),
        linkExists(link) ? ipBatch([`link del ${link}`], { force: true }) : undefined,
        removeSources(names, sourcesOf(ve, context)),
      ]));
    },

    readdress: (before, after, pid) => gate.shared(async () => {
      const kept = new Set(textsOf(after));
      const gone = textsOf(before).filter((address) => !kept.has(address));
      // New first, then old: a VE that keeps an address is reachable by it all the time, and its default route stays.
      await addSources(names, sourcesOf(after, context));
      await ipBatch(hostLines(after, context, 'replace'));
      await ipBatch(guestLines(after, context, 'replace'), { pid });
      await addProxies(proxied([...kept], pools), uplinks);
      await ipBatch(gone.flatMap(guestRemoval), { pid, force: true });
      await ipBatch(gone.flatMap((address) => hostRemoval(before, context, address)), { force: true });
      await removeProxies(proxied(gone, pools));
      const stay = new Set(sourcesOf(after, context).map(({ address }) => address));
      await removeSources(names, sourcesOf(before, context).filter(({ address }) => !stay.has(address)));
    }),

    traffic(ve) {
      const link = linkOf(names, ve.number);
      // What the host's side receives is what the VE sends.
      const [rxBytes, txBytes, rxPackets, txPackets] = ['tx_bytes', 'rx_bytes', 'tx_packets', 'rx_packets'].map((counter) => linkCounter(link, counter));
      if (rxBytes === undefined || txBytes === undefined || rxPackets === undefined || txPackets === undefined) return undefined;
      return { rxBytes, txBytes, rxPackets, txPackets };
    },

    warnings: () => networkWarnings({ names, uplinks, ipv6, ipv6Pools: allPools.some(({ family }) => family === 6), veToHost: settings.network.veToHost }),
  };
}

/** Append to the list of kernel settings changed in this boot, for a person who wants them back. */
function recordChanges(file: string, changes: readonly SysctlChange[]): void {
  if (changes.length === 0) return;
  let earlier: SysctlChange[] = [];
  try {
    earlier = (JSON.parse(readIfExists(file) ?? '{}') as { sysctls?: SysctlChange[] }).sysctls ?? [];
  } catch { /* half a file of a host that crashed: write a new one */ }
  writeFileAtomic(file, `${JSON.stringify({ sysctls: [...earlier, ...changes] }, null, 2)}\n`);
}
