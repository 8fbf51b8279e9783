/** The table of what limits were seen to hold, of the record that tests write. */
import { join } from 'node:path';
import { BEANCOUNTER_PROPERTIES } from '../src/spec/beancounters/properties.ts';
import { NETWORK_PROPERTIES } from '../src/spec/network-properties.ts';
import { RESOURCE_PROPERTIES } from '../src/spec/resource-properties.ts';
import type { Seen } from '../test/lib/limits/record.ts';
import { readRecord } from '../test/lib/limits/record.ts';
import { table } from './markdown.ts';

export const RECORD = join(import.meta.dirname, '../test/lib/limits/seen.json');

/** Properties that say how much a VE may have: those of resources that change while it runs, beancounters, and of the network those that can be unlimited. */
export const LIMIT_PROPERTIES: readonly string[] = [
  ...RESOURCE_PROPERTIES.filter(({ change }) => change === 'live'),
  ...NETWORK_PROPERTIES.filter(({ type }) => 'unlimited' in type),
  ...BEANCOUNTER_PROPERTIES,
].map(({ name }) => name);

/** Columns that are there whatever the record has. */
const HOSTS: Record<string, string> = { 'v2 6.1': 'cgroup v2, Linux 6.1', 'v2 6.12': 'cgroup v2, Linux 6.12', 'hybrid 6.18': 'hybrid v1, Linux 6.18' };

/** Limits that nothing fills yet, and why. */
export const NOT_FILLED: Readonly<Record<string, string>> = {
  'memory.oom_guarantee': 'says whose processes are ended first when memory runs out above the VEs (`test/system/oom-order.test.ts`)',
  'network.connections': 'filled by a flood in namespaces of its own (`src/network/connections.test.ts`)',
};

function cell(seen: Seen | undefined): string {
  if (seen === undefined) return 'not shown yet';
  const { state, why, neighbour } = seen;
  if (state === 'held') return neighbour === undefined ? 'holds' : `holds (${neighbour.count}; ${neighbour.slowest} ms)`;
  return `${state}: ${why}`;
}

export function limitsTable(): string {
  const record = readRecord(RECORD);
  const hosts = [...new Set([...Object.keys(HOSTS), ...Object.values(record).flatMap((row) => Object.keys(row.hosts))])];
  const title = (host: string): string => HOSTS[host] ?? host.replace(/^v2 /, 'cgroup v2, Linux ').replace(/^hybrid /, 'hybrid v1, Linux ');
  return table(['property', 'over it', 'counted by', ...hosts.map(title)], LIMIT_PROPERTIES.map((name) => {
    const row = record[name];
    return [`\`${name}\``, row?.over ?? NOT_FILLED[name] ?? '', row?.counted ?? '', ...hosts.map((host) => cell(row?.hosts[host]))];
  }));
}
