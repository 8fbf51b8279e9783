/** Door to network links, addresses and routes: ip(8) in batches and as JSON, counters from sysfs. */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { run } from '../lib/run.ts';

/** Longest link name that the kernel takes (IFNAMSIZ - 1). */
export const LINK_NAME_MAX = 15;

export interface BatchOptions {
  /** Run in the network namespace of this process instead of the own one. */
  pid?: number;
  /** Lines for IPv6, where they do not tell the family by themselves. */
  six?: boolean;
  /** Carry on after a line that fails, and do not call that an error (removal of what may be gone already). */
  force?: boolean;
}

/**
 * Run lines of `ip -batch`. Without `force` it stops at the first that fails.
 * @throws VeldError `network.failed`
 */
export async function ipBatch(lines: readonly string[] | string, options: BatchOptions = {}): Promise<void> {
  const input = typeof lines === 'string' ? lines : lines.map((line) => `${line}\n`).join('');
  if (input === '') return;
  const ip = ['ip', ...(options.six ? ['-6'] : []), ...(options.force ? ['-force'] : []), '-batch', '-'];
  const argv = options.pid === undefined ? ip : ['nsenter', '-t', String(options.pid), '-n', ...ip];
  try {
    await run(argv[0] as string, argv.slice(1), { input, timeout: 30_000, ...(options.force && { allow: true as const }) });
  } catch (error) {
    throw new VeldError('network.failed', `Links, addresses or routes could not be set: ${(error as Error).message}`, { cause: error, details: { lines: input } });
  }
}

/**
 * What `ip -j` prints, parsed.
 * @throws VeldError `network.failed`
 */
export async function ipJson<T>(...args: string[]): Promise<T[]> {
  try {
    const { stdout } = await run('ip', ['-j', ...args], { timeout: 30_000 });
    return stdout.trim() === '' ? [] : (JSON.parse(stdout) as T[]);
  } catch (error) {
    throw new VeldError('network.failed', `The network configuration could not be read: ${(error as Error).message}`, { cause: error });
  }
}

/** A link with its addresses, as `ip -j address` prints it (the fields that are used). */
export interface LinkInfo {
  ifname: string;
  addr_info: { family: string; local: string; prefixlen: number }[];
}

/** A route, as `ip -j route` prints it (the fields that are used). */
export interface RouteInfo {
  type?: string;
  /** `default`, an address, or a prefix. */
  dst: string;
  dev?: string;
  protocol?: string;
  nexthops?: { dev?: string }[];
}

/** All links with their addresses. */
export function listLinks(): Promise<LinkInfo[]> {
  return ipJson<LinkInfo>('address', 'show');
}

/** The routes of the main table, both families. */
export async function listRoutes(): Promise<RouteInfo[]> {
  const [four, six] = await Promise.all([ipJson<RouteInfo>('-4', 'route', 'show'), ipJson<RouteInfo>('-6', 'route', 'show')]);
  return [...four, ...six];
}

/** Whether the link exists in the own namespace. */
export function linkExists(link: string): boolean {
  return existsSync(`/sys/class/net/${link}`);
}

/** MTU of a bridge in bytes, or undefined when there is no such link, or it is no bridge. */
export function bridgeMtu(bridge: string): number | undefined {
  if (!existsSync(`/sys/class/net/${bridge}/bridge`)) return undefined;
  const text = readIfExists(`/sys/class/net/${bridge}/mtu`);
  return text === undefined ? undefined : Number(text);
}

/**
 * Write a kernel setting in the network namespace of a process.
 * @param name below /proc/sys, as net/ipv6/conf/eth1/accept_ra
 * @throws VeldError `network.failed`
 */
export async function setIn(pid: number, name: string, value: string): Promise<void> {
  try {
    await run('nsenter', ['-t', String(pid), '-n', 'tee', `/proc/sys/${name}`], { input: value, timeout: 30_000 });
  } catch (error) {
    throw new VeldError('network.failed', `The setting ${name} could not be written: ${(error as Error).message}`, { cause: error });
  }
}

/** Names of all links of the own namespace. */
export function linkNames(): string[] {
  return readdirSync('/sys/class/net');
}

/** The alias (a free text) of a link; empty when it has none or does not exist. */
export function linkAlias(link: string): string {
  return readIfExists(`/sys/class/net/${link}/ifalias`)?.trim() ?? '';
}

/** What a link has carried, as the host's side counts it. */
export interface LinkCounters {
  rxBytes: number;
  rxPackets: number;
  txBytes: number;
  txPackets: number;
}

/** Counters of all links of the own namespace by name: one file, where a look at each would be four (format: proc_pid_net(5), `dev`). */
export function allLinkCounters(table = readFileSync('/proc/net/dev', 'utf8')): Map<string, LinkCounters> {
  return new Map(table.split('\n').slice(2).filter(Boolean).map((line) => {
    const colon = line.lastIndexOf(':');
    const [rxBytes = 0, rxPackets = 0, , , , , , , txBytes = 0, txPackets = 0] = line.slice(colon + 1).trim().split(/\s+/).map(Number);
    return [line.slice(0, colon).trim(), { rxBytes, rxPackets, txBytes, txPackets }];
  }));
}

/** A counter of the link (`rx_bytes`, `tx_packets`, ...), or undefined when the link is not there. Cheap: one file read. */
export function linkCounter(link: string, counter: string): number | undefined {
  try {
    const text = readIfExists(`/sys/class/net/${link}/statistics/${counter}`);
    return text === undefined ? undefined : Number(text);
  } catch {
    return undefined; // the link went away between open and read (ENODEV, EINVAL)
  }
}
