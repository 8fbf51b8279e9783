/** The network of VEs: a pair of links for each interface, routed by the host or a port of a bridge. See docs/explanation/network.md. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Settings } from '../lib/settings.ts';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { createGate } from '../lib/gate.ts';
import { announceArp, answersArp } from '../kernel/arp.ts';
import { allLinkCounters, bridgeMtu, ipBatch, linkCounter, linkExists, linkNames, listLinks, listRoutes } from '../kernel/links.ts';
import { announceMac, announceNd } from '../kernel/neighbour.ts';
import { nftApply } from '../kernel/nftables.ts';
import type { SysctlChange } from '../kernel/sysctl.ts';
import type { VeRecord } from '../store/types.ts';
import { createAccounting } from './accounting.ts';
import { assign } from './assign.ts';
import { bridgeTableScript, changePorts, portsOf } from './bridge-firewall.ts';
import type { PortElement } from './bridge-firewall.ts';
import { countConnections } from './connection-table.ts';
import { connectionScript, createConnections, mostConnections } from './connections.ts';
import { defaultRouteLinks } from './default-routes.ts';
import { addSources, listSources, ownLines, removeSources, removeTable, sourcesOf, tableScript } from './firewall.ts';
import type { Source } from './firewall.ts';
import { checkOverlap, defaultUplinks, hasIpv6, isOwn, makeGateway, removeGateway, setSysctls } from './host.ts';
import { holdPackets, type Hold } from './hold.ts';
import { interfacesOf } from './interfaces.ts';
import { formatPrefix, parseIp, prefixOf, width } from './ip.ts';
import { allLinksOf, holdLinkOf, namesOf } from './names.ts';
import { planOf } from './plan.ts';
import type { PlanContext } from './plan.ts';
import { lostParts } from './lost.ts';
import { createAllocator, parsePools } from './pools.ts';
import { addProxies, proxied, removeProxies } from './proxies.ts';
import { checkPublish, forgetPublished, publishElements, publishedOf } from './publish.ts';
import { checkReady } from './ready.ts';
import { rateLines } from './rates.ts';
import { relinkInterfaces } from './relink.ts';
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
  const context: PlanContext = { names, pools, ipv6, bridgeMtu };
  const allocator = createAllocator(pools);
  const accounting = createAccounting(context, settings.network.classes, join(settings.stateDir, 'traffic'), records);
  const connections = createConnections(context);
  const record = `${settings.runDir}/network.json`;
  let uplinks = settings.network.uplinks;
  /** The links of the default routes at the last setup that succeeded. */
  let seen: string | undefined;
  /** A setup replaces the whole firewall: nothing may be let in or out between its look at what is there and its end. */
  const gate = createGate();
  /** By number: those let in by this process. */
  const admitted = new Map<number, VeRecord>();
  /** By number: those for which packets wait. */
  const held = new Map<number, Hold>();
  /** Links of those sent away by this process. */
  const revoked = new Set<string>();

  /** Those that run, or are about to. */
  const present = (before: readonly Source[]): VeRecord[] => {
    const known = new Set(before.map(({ link }) => link));
    const recorded = records().filter((ve) => interfacesOf(ve, context).some(({ link }) => !revoked.has(link) && (known.has(link) || linkExists(link))));
    return [...new Map([...recorded, ...admitted.values()].map((ve) => [ve.number, ve])).values()];
  };

  /** Change the tables for one VE; where that fails because one is gone or holds something else, make all of it anew. */
  const change = async (work: () => Promise<unknown>): Promise<void> => {
    try {
      await gate.shared(work);
    } catch {
      await gate.alone(() => setup());
    }
  };

  /** Addresses and prefixes that the host routes to the VE. */
  const routedOf = (ve: VeRecord): string[] => sourcesOf(ve, context).map(({ address }) => address);

  /** The sets of a port that is trusted more or less than before change in one transaction. */
  const movePorts = async (before: readonly PortElement[], after: readonly PortElement[]): Promise<void> => {
    const stay = new Set(after.map(({ set, element }) => `${set} ${element}`));
    await changePorts(names, after, before.filter(({ set, element }) => !stay.has(`${set} ${element}`)));
  };

  const setup = async (ves?: readonly VeRecord[]): Promise<void> => {
    const defaults = defaultRouteLinks().join();
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
    const table = tableScript({ names, pools, uplinks, veToVe, veToHost, resolver: domain !== '' }, sources, guests, context);
    // All that have a record: counters of those at rest may have been taken away, too.
    const counted = [...new Map([...records(), ...guests].map((ve) => [ve.number, ve])).values()];
    await nftApply([table, bridgeTableScript(names, guests.flatMap((ve) => portsOf(ve, context))), ...guests.map((ve) => rateLines(ve, context).add), accounting.setupLines(counted), connectionScript(names)].join(''));
    await connections.look(guests);
    const lists = connections.others(guests) + guests.map((ve) => connections.lines(ve)).join('');
    if (lists !== '') await nftApply(lists);
    for (const ve of guests) connections.done(ve.number, ve);
    const now = proxied(sources.map(({ address }) => address), pools);
    await addProxies(now, uplinks);
    await removeProxies(proxied((listed ?? []).map(({ address }) => address), pools).filter((address) => !now.includes(address)));
    seen = defaults;
  };

  return {
    setup: (ves) => gate.alone(() => setup(ves)),

    follow(report, interval = 5000) {
      let busy = false;
      let told = seen;
      const look = async (): Promise<void> => {
        if (busy) return;
        busy = true;
        // Links named in the settings stay what they are.
        const current = seen !== undefined && (settings.network.uplinks.length > 0 || seen === defaultRouteLinks().join());
        const failure = current ? undefined : await gate.alone(() => setup()).then(() => undefined, (error: unknown) => error as Error);
        // It may also have been a starting VE that set up.
        if (failure || seen !== told) report(failure, uplinks);
        told = seen;
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

    assign: (ve, others, before) => assign({ names, pools, allocator, isOwn: (link) => isOwn(link, names) }, ve, others, before),

    ready: (ve) => checkReady(interfacesOf(ve, context)),

    plan: (ve) => planOf(ve, context),

    async admit(ve) {
      admitted.set(ve.number, ve);
      for (const link of allLinksOf(names, ve.number)) revoked.delete(link);
      const failure = seen !== undefined ? undefined : await gate.alone(() => setup()).catch((error: unknown) => error);
      try {
        await Promise.all([
          change(() => Promise.all([addSources(names, sourcesOf(ve, context), ownLines(ve, context).add + accounting.admitLines(ve) + connections.lines(ve)).then(() => connections.done(ve.number, ve)), changePorts(names, portsOf(ve, context), [])])),
          addProxies(proxied(routedOf(ve), pools), uplinks),
        ]);
      } catch (error) {
        throw failure ?? error;
      }
    },

    checkPublish: (ve, others, before) => checkPublish(ve, others, before === undefined ? [] : publishedOf(before)),

    async guard(before, after) {
      admitted.set(after.number, after);
      const [old, now] = [ownLines(before, context), ownLines(after, context)];
      const rules = old.add === now.add ? '' : old.remove + now.add;
      if (rules !== '' || mostConnections(before) !== mostConnections(after)) {
        await change(async () => {
          await nftApply(rules + connections.lines(after));
          connections.done(after.number, after);
        });
      }
      if (rules === '') return;
      await forgetPublished(before, after, context);
    },

    mend: () => gate.alone(async () => {
      if (seen === undefined) return []; // there was no setup yet: `follow` goes on trying, and tells
      const guests = present([]);
      const lost = await lostParts({ names, pools, uplinks, proxied: proxied(guests.flatMap(routedOf), pools), ipv6, bridged: guests.some((ve) => portsOf(ve, context).length > 0) });
      if (lost.length > 0) await setup();
      return lost;
    }),

    async revoke(ve) {
      const links = allLinksOf(names, ve.number);
      admitted.delete(ve.number);
      for (const link of links) revoked.add(link);
      await Promise.all([
        removeProxies(proxied(routedOf(ve), pools)),
        ipBatch(links.filter(linkExists).map((link) => `link del ${link}`), { force: true }),
        change(() => Promise.all([removeSources(names, sourcesOf(ve, context), ownLines(ve, context).remove + connections.without(ve)).then(() => connections.done(ve.number)), changePorts(names, [], portsOf(ve, context))])),
      ]);
      if (publishElements(ve, context).size > 0) await forgetPublished(ve, undefined, context);
    },

    async relink(before, after, pid) {
      checkReady(interfacesOf(after, context));
      const key = (element: object): string => JSON.stringify(element);
      const [sources, ports, routed] = [sourcesOf(after, context), portsOf(after, context), routedOf(after)];
      admitted.set(after.number, after);
      // New first, then old: a VE that keeps an address is reachable by it all the time, and its default route stays.
      await change(() => Promise.all([addSources(names, sources, accounting.relinkLines(before, after) + connections.lines(after, before)).then(() => connections.done(after.number, after)), movePorts(portsOf(before, context), ports)]));
      await gate.shared(async () => {
        await relinkInterfaces(interfacesOf(before, context), interfacesOf(after, context), pid, context);
        await addProxies(proxied(routed, pools), uplinks);
        await removeProxies(proxied(routedOf(before).filter((address) => !routed.includes(address)), pools));
        const stay = new Set(sources.map(key));
        await removeSources(names, sourcesOf(before, context).filter((source) => !stay.has(key(source))));
      });
    },

    async hold(ve) {
      held.get(ve.number)?.release();
      held.delete(ve.number);
      const routes = interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).flatMap(({ link, addresses, prefixes }) => [
        ...addresses.map(formatPrefix), ...prefixes.map((cidr) => formatPrefix(prefixOf(cidr))),
      ].map((target) => ({ link, target })));
      if (routes.length === 0) return '';
      try {
        held.set(ve.number, await holdPackets(holdLinkOf(names, ve.number), routes.map(({ target }) => target)));
      } catch {
        return ''; // a kernel without TUN, say: they are lost then, and TCP asks again
      }
      return routes.map(({ link, target }) => `route del ${target} dev ${link}\n`).join('');
    },

    release(ve) {
      held.get(ve.number)?.release();
      held.delete(ve.number);
    },

    async sendOn(ve) {
      const hold = held.get(ve.number);
      held.delete(ve.number);
      await hold?.sendOn();
    },

    async answering(ve, patience) {
      const asked = interfacesOf(ve, context).filter(({ setup }) => setup === 'host').flatMap((one) => one.addresses.filter(({ family }) => family === 4).map((cidr) => ({ one, address: cidr.address })));
      const answers = await Promise.all(asked.map(({ one: { link, mac, hostMac, bridge }, address }) => answersArp(link, mac, hostMac, address, { patience, port: bridge !== undefined })));
      return asked.filter((_, i) => answers[i]).map(({ address }) => address);
    },

    announce(ve) {
      for (const { bridge, mac, addresses } of interfacesOf(ve, context)) {
        if (bridge === undefined) continue;
        if (addresses.length === 0) announceMac(bridge, mac); // the VE alone knows them
        for (const { address } of addresses) announceAddress(bridge, mac, address);
      }
      for (const link of uplinks.filter(linkExists)) {
        const mac = readIfExists(`/sys/class/net/${link}/address`)?.trim() ?? '';
        for (const address of proxied(routedOf(ve), pools)) announceAddress(link, mac, address);
      }
    },

    traffic(ve) {
      // What the host's side receives is what the VE sends.
      const [rxBytes, txBytes, rxPackets, txPackets] = ['tx_bytes', 'rx_bytes', 'tx_packets', 'rx_packets'].map((counter) => {
        const counts = interfacesOf(ve, context).map(({ link }) => linkCounter(link, counter)).filter((count) => count !== undefined);
        return counts.length === 0 ? undefined : counts.reduce((sum, count) => sum + count, 0);
      });
      if (rxBytes === undefined || txBytes === undefined || rxPackets === undefined || txPackets === undefined) return undefined;
      return { rxBytes, txBytes, rxPackets, txPackets };
    },

    trafficOfAll() {
      const counters = allLinkCounters();
      return (ve) => {
        const links = interfacesOf(ve, context).flatMap(({ link }) => counters.get(link) ?? []);
        const sum = (of: (link: (typeof links)[number]) => number): number => links.reduce((all, link) => all + of(link), 0);
        return links.length === 0 ? undefined : {
          rxBytes: sum((link) => link.txBytes), txBytes: sum((link) => link.rxBytes), rxPackets: sum((link) => link.txPackets), txPackets: sum((link) => link.rxPackets),
        };
      };
    },

    accounting: accounting.face,

    async connections(ves) {
      const routed = ves.map((ve) => ({ number: ve.number, networks: interfacesOf(ve, context).filter(({ bridge }) => bridge === undefined).flatMap(({ addresses, prefixes }) => [...addresses.map((cidr) => ({ ...cidr, bits: width(cidr.family) })), ...prefixes.map(prefixOf)]) }));
      const [held, refused] = await Promise.all([countConnections(routed), connections.refused()]);
      return (ve) => ({ held: held?.get(ve.number) ?? null, most: mostConnections(ve), refused: refused.get(ve.number) ?? 0 });
    },

    warnings: () => networkWarnings({
      names, uplinks, ipv6, ipv6Pools: allPools.some(({ family }) => family === 6), veToHost: settings.network.veToHost,
      resolver: settings.network.domain !== '', published: present([]).flatMap(publishedOf),
    }),
  };
}

/** @param mac of whoever has the address from now on, or answers for it */
function announceAddress(link: string, mac: string, address: string): void {
  const ip = parseIp(address);
  if (ip?.family === 4) announceArp(link, mac, address);
  else if (ip) announceNd(link, mac, Buffer.from(ip.value.toString(16).padStart(32, '0'), 'hex'));
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
