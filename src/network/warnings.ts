/** What keeps packets from VEs though everything of Veld's own is in place; each warning names its remedy. */
import { networkInterfaces } from 'node:os';
import { existsSync } from 'node:fs';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { linkExists } from '../kernel/links.ts';
import { nftChainExists, nftList } from '../kernel/nftables.ts';
import type { NftObject } from '../kernel/nftables.ts';
import { readSysctl } from '../kernel/sysctl.ts';
import { hostResolvers } from './guest-files.ts';
import { listeners } from './listeners.ts';
import type { Names } from './names.ts';
import { shadowed } from './publish.ts';
import { formatPublish } from '../spec/ports.ts';
import type { PublishedPorts } from '../spec/ports.ts';

export interface WarningContext {
  names: Names;
  /** Found or named at setup. */
  uplinks: readonly string[];
  ipv6: boolean;
  ipv6Pools: boolean;
  veToHost: boolean;
  /** VEs ask the instance's own resolver. */
  resolver: boolean;
  /** Ports published by VEs that run. */
  published: readonly PublishedPorts[];
}

/** Everything that a person should know about the host's network now. Empty when all is well. */
export async function networkWarnings(context: WarningContext): Promise<string[]> {
  const { uplinks, ipv6, ipv6Pools, veToHost } = context;
  const warnings: string[] = [];
  if (uplinks.length === 0) {
    warnings.push('No link leads to the world: VEs have no NAT. Add a default route, or name the links in `network.uplinks`.');
  }
  for (const link of uplinks) if (!linkExists(link)) warnings.push(`The uplink ${link} does not exist. Correct \`network.uplinks\` in the settings.`);
  if (readSysctl('net', 'ipv4', 'ip_forward') !== '1') {
    warnings.push('net.ipv4.ip_forward is off: VEs reach only the host. Restart the daemon, and find what turned it off (a file in /etc/sysctl.d?).');
  }
  if (ipv6Pools && !ipv6) warnings.push('IPv6 is switched off on this host: VEs get no IPv6 address. Remove the IPv6 pool from the settings, or switch IPv6 on.');
  if (ipv6 && readSysctl('net', 'ipv6', 'conf', 'all', 'forwarding') !== '1') {
    warnings.push('net.ipv6.conf.all.forwarding is off: VEs reach only the host by IPv6. Restart the daemon, and find what turned it off.');
  }
  warnings.push(...(await publishWarnings(context)));
  const own = new Set(Object.values(networkInterfaces()).flatMap((infos) => (infos ?? []).map(({ address }) => address)));
  const resolver = context.resolver ? undefined : hostResolvers().find((address) => own.has(address));
  if (!veToHost && resolver !== undefined) {
    warnings.push(`The host's resolver ${resolver} is the host itself, which VEs may not ask. Set \`network.dns\` for VEs, or \`network.veToHost\` in the settings.`);
  }
  return [...warnings, ...conntrackWarnings(), ...(await dropWarnings(context)), ...(await legacyWarnings(context))];
}

/** What keeps published ports from doing what was asked for. */
async function publishWarnings({ names, published }: WarningContext): Promise<string[]> {
  const warnings: string[] = [];
  if (!(await nftChainExists('inet', names.table, 'from_ve'))) {
    warnings.push(`The nftables table ${names.table} is gone: nothing keeps VEs apart, and private addresses have no NAT. The daemon puts it back within seconds; find what removes it (\`systemctl restart nftables\`?).`);
  }
  if (published.length === 0) return warnings;
  for (const [item, { address, port, protocol }] of shadowed(published, listeners())) {
    warnings.push(`A program of the host listens on ${address} port ${port}/${protocol}, and nobody outside reaches it: a VE has published ${formatPublish(item)}. Move one of them.`);
  }
  const own = new Set(['0.0.0.0', '::', ...Object.values(networkInterfaces()).flatMap((infos) => (infos ?? []).map(({ address }) => address))]);
  for (const item of published) {
    if (item.host !== null && !own.has(item.host)) warnings.push(`A VE has published ${formatPublish(item)}, and this host does not have the address ${item.host}.`);
  }
  if ((await run('conntrack', ['--version'], { allow: true, timeout: 10_000 }).catch(() => ({ code: 1 }))).code !== 0) {
    warnings.push('conntrack(8) is not installed: connections over a port that is published no longer go on until they are idle. Install the package conntrack.');
  }
  return warnings;
}

function conntrackWarnings(): string[] {
  const [count, max] = ['nf_conntrack_count', 'nf_conntrack_max'].map((name) => Number(readSysctl('net', 'netfilter', name) ?? Number.NaN));
  if (count === undefined || max === undefined || !(count > 0.8 * max)) return [];
  return [`The connection table is nearly full (${count} of ${max}): new connections will be dropped. Raise net.netfilter.nf_conntrack_max.`];
}

/** Base chains of other tables on the forward hook that drop what no rule of theirs allows. */
async function dropWarnings(context: WarningContext): Promise<string[]> {
  const objects = (await nftList('list', 'chains')) ?? [];
  const chains = objects.flatMap((object): Record<string, unknown>[] => (object.chain ? [object.chain] : []));
  const dropping = chains.filter(({ hook, policy, table, family }) => hook === 'forward' && policy === 'drop' && table !== context.names.table && ['ip', 'ip6', 'inet'].includes(String(family)));
  const warnings: string[] = [];
  for (const { family, table, name } of dropping) {
    const has = (chain: string): boolean => chains.some((other) => other.family === family && other.table === table && other.name === chain);
    if (await namesOurLinks(String(family), String(table), has('DOCKER-USER') ? 'DOCKER-USER' : String(name), context.names)) continue;
    warnings.push(dropMessage(`${String(family)} ${String(table)} ${String(name)}`, context.names,
      has('DOCKER-USER') ? 'docker' : has('ufw-user-forward') || has('ufw6-user-forward') ? 'ufw' : 'other', family === 'ip6'));
  }
  if (chains.some(({ table }) => table === 'firewalld')) {
    warnings.push(`firewalld runs: it rejects forwarded packets outside its zones. Allow VEs: firewall-cmd --permanent --zone=trusted --add-interface=${context.names.gatewayLink} and the VEs' links, or use another firewall.`);
  }
  return warnings;
}

/** The same for rules that the old iptables put past nftables. */
async function legacyWarnings(context: WarningContext): Promise<string[]> {
  const warnings: string[] = [];
  for (const [program, tables] of [['iptables-legacy', '/proc/net/ip_tables_names'], ['ip6tables-legacy', '/proc/net/ip6_tables_names']] as const) {
    // Asking iptables-legacy for a table would load it: ask only where the kernel has it already.
    if (!readIfExists(tables)?.split('\n').includes('filter')) continue;
    if (!['/usr/sbin', '/sbin'].some((folder) => existsSync(`${folder}/${program}`))) continue;
    const { stdout } = await run(program, ['-S'], { allow: true, timeout: 10_000 });
    if (!/^-P FORWARD DROP$/m.test(stdout) || stdout.includes(`${context.names.linkPrefix}+`)) continue;
    warnings.push(dropMessage(`${program} FORWARD`, context.names, stdout.includes('DOCKER-USER') ? 'docker' : stdout.includes('ufw') ? 'ufw' : 'other', program.startsWith('ip6')));
  }
  return warnings;
}

function dropMessage(chain: string, names: Names, owner: 'docker' | 'ufw' | 'other', six: boolean): string {
  const links = `${names.linkPrefix}+`;
  const iptables = six ? 'ip6tables' : 'iptables';
  const allow = (rule: string): string => `${iptables} -I ${rule} -i ${links} -j ACCEPT; ${iptables} -I ${rule} -o ${links} -j ACCEPT`;
  const remedy = {
    docker: `Docker set this. Allow VEs: ${allow('DOCKER-USER')}`,
    ufw: 'ufw set this. Allow forwarding: `ufw default allow routed`.',
    other: `Allow the links ${names.linkPrefix}* there, in both directions${chain.includes(' filter FORWARD') || chain.includes('legacy') ? `: ${allow('FORWARD')}` : '.'}`,
  }[owner];
  return `The firewall chain "${chain}" drops forwarded packets: VEs reach only the host. ${remedy}`;
}

async function namesOurLinks(family: string, table: string, chain: string, names: Names): Promise<boolean> {
  const objects: NftObject[] = (await nftList('list', 'chain', family, table, chain)) ?? [];
  return JSON.stringify(objects).includes(`"${names.linkPrefix}`);
}
