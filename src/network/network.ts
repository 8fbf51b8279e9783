/** The network of VEs: a routed pair of links for each, no bridge. See docs/explanation/network.md. */
import { rmSync } from 'node:fs';
import type { Settings } from '../lib/settings.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { ipBatch, linkCounter, linkExists, linkNames, listLinks, listRoutes } from '../kernel/links.ts';
import { nftApply } from '../kernel/nftables.ts';
import type { SysctlChange } from '../kernel/sysctl.ts';
import type { VeRecord } from '../store/types.ts';
import { addSources, listSources, ownLines, removeSources, removeTable, sourcesOf, tableScript } from './firewall.ts';
import type { Source } from './firewall.ts';
import { checkOverlap, defaultUplinks, hasIpv6, makeGateway, removeGateway, setSysctls } from './host.ts';
import { linkOf, namesOf } from './names.ts';
import { guestLines, guestRemoval, hostLines, hostRemoval, planOf, usableAddresses } from './plan.ts';
import type { PlanContext } from './plan.ts';
import { createGate } from './gate.ts';
import { lostParts } from './lost.ts';
import { createAllocator, parsePools } from './pools.ts';
import { addProxies, proxied, removeProxies } from './proxies.ts';
import { checkPublish, forgetPublished, publishElements, publishedOf } from './publish.ts';
import type { NetworkManager } from './types.ts';
import { networkWarnings } from './warnings.ts';

/**
 * The manager of an instance's network. It touches nothing before `setup`.
 * @param records all VEs of this node, as the store has them now
 * @throws VeldError `settings.invalid`
 */
export function createNetwork(settings: Settings, records: () => readonly VeRecord[] = () => []): NetworkManager {
  const names = namesOf(settings.instance);
  const allPools = parsePools(settings.network.pools);
  const ipv6 = hasIpv6();
  const pools = allPools.filter((pool) => ipv6 || pool.family === 4);
  const context: PlanContext = { names, pools, ipv6 };
  const allocator = createAllocator(pools);
  const record = `${settings.runDir}/network.json`;
  let uplinks = settings.network.uplinks;

  const gate = createGate();
  /** By number: those let in by this process. */
  const admitted = new Map<number, VeRecord>();
  /** Links of those sent away by this process. */
  const revoked = new Set<string>();

  const textsOf = (ve: VeRecord): string[] => usableAddresses(ve, ipv6).map(({ text }) => text);

  /** Those that run, or are about to. */
  const present = (before: readonly Source[]): VeRecord[] => {
    const known = new Set(before.map(({ link }) => link));
    const recorded = records().filter((ve) => {
      const link = linkOf(names, ve.number);
      return !revoked.has(link) && (known.has(link) || linkExists(link));
    });
    return [...new Map([...recorded, ...admitted.values()].map((ve) => [ve.number, ve])).values()];
  };

  /** Change the table for one VE; where that fails because the table is gone or holds something else, make all of it anew. */
  const change = async (work: () => Promise<void>): Promise<void> => {
    try {
      await gate.share(work);
    } catch {
      await manager.setup();
    }
  };

  const build = async (ves: readonly VeRecord[] | undefined): Promise<void> => {
    const [links, routes, listed] = await Promise.all([listLinks(), listRoutes(), listSources(names)]);
    const before = listed?.filter(({ link }) => !revoked.has(link)) ?? [];
    checkOverlap(pools, links, routes, names);
    if (settings.network.uplinks.length === 0) {
      const found = defaultUplinks(routes, names);
      if (found.length > 0 || uplinks.length === 0) uplinks = found; // without one for a moment, the old will come back
    }
    const changes = setSysctls(uplinks, ipv6);
    recordChanges(record, changes);
    await makeGateway(names, pools);
    if (ves !== undefined) {
      admitted.clear();
      for (const ve of ves) admitted.set(ve.number, ve);
    }
    const guests = ves ?? present(before);
    // Those let in before are kept: an address that was about to be taken away goes when that is finished.
    const sources = uniqueSources([...ves === undefined ? before : [], ...guests.flatMap((ve) => sourcesOf(ve, context))]);
    const { veToVe, veToHost, domain } = settings.network;
    await nftApply(tableScript({ names, pools, uplinks, veToVe, veToHost, resolver: domain !== '' }, sources, guests, context));
    const now = proxied(sources.map(({ address }) => address), pools);
    await addProxies(now, uplinks);
    await removeProxies(proxied((listed ?? []).map(({ address }) => address), pools).filter((address) => !now.includes(address)));
  };

  const manager: NetworkManager = {
    setup: (ves) => gate.alone(() => build(ves)),

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
      admitted.set(ve.number, ve);
      revoked.delete(linkOf(names, ve.number));
      const lines = ownLines(ve, context);
      await Promise.all([change(() => addSources(names, sourcesOf(ve, context), lines.add)), addProxies(proxied(textsOf(ve), pools), uplinks)]);
    },

    checkPublish: (ve, others, before) => checkPublish(ve, others, before === undefined ? [] : publishedOf(before)),

    async guard(before, after) {
      admitted.set(after.number, after);
      const [old, now] = [ownLines(before, context), ownLines(after, context)];
      if (old.add === now.add) return;
      await change(() => nftApply(old.remove + now.add));
      await forgetPublished(before, after, context);
    },

    async mend() {
      return gate.alone(async () => {
        const lost = await lostParts({ names, pools, uplinks, proxied: proxied(present([]).flatMap(textsOf), pools), ipv6 });
        if (lost.length > 0) await build(undefined);
        return lost;
      });
    },

    async revoke(ve) {
      const link = linkOf(names, ve.number);
      admitted.delete(ve.number);
      revoked.add(link);
      await Promise.all([
        removeProxies(proxied(textsOf(ve), pools)),
        linkExists(link) ? ipBatch([`link del ${link}`], { force: true }) : undefined,
        change(() => removeSources(names, sourcesOf(ve, context), ownLines(ve, context).remove)),
      ]);
      if (publishElements(ve, context).size > 0) await forgetPublished(ve, undefined, context);
    },

    async readdress(before, after, pid) {
      const kept = new Set(textsOf(after));
      const gone = textsOf(before).filter((address) => !kept.has(address));
      // New first, then old: a VE that keeps an address is reachable by it all the time, and its default route stays.
      admitted.set(after.number, after);
      await change(() => addSources(names, sourcesOf(after, context)));
      await ipBatch(hostLines(after, context, 'replace'));
      await ipBatch(guestLines(after, context, 'replace'), { pid });
      await addProxies(proxied([...kept], pools), uplinks);
      await ipBatch(gone.flatMap(guestRemoval), { pid, force: true });
      await ipBatch(gone.flatMap((address) => hostRemoval(before, context, address)), { force: true });
      await removeProxies(proxied(gone, pools));
      const stay = new Set(sourcesOf(after, context).map(({ address }) => address));
      await removeSources(names, sourcesOf(before, context).filter(({ address }) => !stay.has(address)));
    },

    traffic(ve) {
      const link = linkOf(names, ve.number);
      // What the host's side receives is what the VE sends.
      const [rxBytes, txBytes, rxPackets, txPackets] = ['tx_bytes', 'rx_bytes', 'tx_packets', 'rx_packets'].map((counter) => linkCounter(link, counter));
      if (rxBytes === undefined || txBytes === undefined || rxPackets === undefined || txPackets === undefined) return undefined;
      return { rxBytes, txBytes, rxPackets, txPackets };
    },

    warnings: () => networkWarnings({ names, uplinks, ipv6, ipv6Pools: allPools.some(({ family }) => family === 6), veToHost: settings.network.veToHost, resolver: settings.network.domain !== '', published: present([]).flatMap(publishedOf) }),
  };
  return manager;
}

function uniqueSources(sources: readonly Source[]): Source[] {
  return [...new Map(sources.map((source) => [`${source.link} ${source.mac} ${source.address}`, source])).values()];
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
