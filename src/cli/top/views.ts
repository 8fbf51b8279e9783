/** The two tables of `veld top`: VEs of the node, processes of one. What each asks for, how it is sorted, and how it looks. */
import type { Client } from '../../client/client.ts';
import type { UsageSample, VeProcesses } from '../../ve/types.ts';
import { layoutTable, paintStatus } from '../show/table.ts';
import type { Column, TableStyle } from '../show/table.ts';
import { formatBytes, formatSeconds, sanitise } from '../show/text.ts';
import { segment } from '../values.ts';
import { processRows, veRows } from './rates.ts';
import type { ProcessRow, VeRow } from './rates.ts';

/** Something by which a table may be sorted. */
interface SortKey<Row> {
  /** As `--sort` names it, and the first word of its title on the screen. */
  name: string;
  /** Pressed on the screen. */
  key: string;
  /** The larger the earlier; texts the other way round. Null comes last. */
  value(row: Row): number | string | null;
}

/** One kind of table. */
export interface View {
  readonly sorts: readonly { name: string; key: string }[];
  /** Ask the daemon once. @returns how many rows there are to see: rates are against the sample before */
  sample(client: Client): Promise<number>;
  /** Line above the table. */
  summary(): string;
  table(order: Order, style: TableStyle): string;
  /** One document of the last sample. */
  json(order: Order): unknown;
}

/** By which of the keys, and whether the other way round. */
export interface Order {
  sort: string;
  reverse: boolean;
}

const DASH = '-';
const orDash = <T>(value: T | null, format: (value: T) => string): string => (value === null ? DASH : format(value));
const percent = (value: number): string => value.toFixed(1);
const perSecond = (value: number): string => `${formatBytes(Math.round(value))}/s`;

const VE_SORTS: readonly SortKey<VeRow>[] = [
  { name: 'cpu', key: 'c', value: (row) => row.cpuPercent },
  { name: 'memory', key: 'm', value: (row) => row.memoryBytes },
  { name: 'tasks', key: 't', value: (row) => row.tasks },
  { name: 'rx', key: 'r', value: (row) => row.rxBytesPerSecond },
  { name: 'tx', key: 's', value: (row) => row.txBytesPerSecond },
  { name: 'up', key: 'u', value: (row) => row.uptimeSeconds },
  { name: 'name', key: 'n', value: (row) => row.name },
];

const PROCESS_SORTS: readonly SortKey<ProcessRow>[] = [
  { name: 'cpu', key: 'c', value: (row) => row.cpuPercent },
  { name: 'memory', key: 'm', value: (row) => row.memoryBytes },
  { name: 'time', key: 't', value: (row) => row.cpuSeconds },
  { name: 'up', key: 'u', value: (row) => -Date.parse(row.startedAt) },
  { name: 'user', key: 'o', value: (row) => row.user ?? String(row.uid) },
  { name: 'pid', key: 'p', value: (row) => row.pid },
  { name: 'name', key: 'n', value: (row) => row.command },
];

/** Every key of either table, for `--sort`. */
export const SORT_NAMES: readonly string[] = [...new Set([...VE_SORTS, ...PROCESS_SORTS].map(({ name }) => name))];

/** All VEs of the node. @param all those that do not run, too */
export function nodeView(all: boolean): View {
  let last: UsageSample | undefined;
  let rows: VeRow[] = [];
  return {
    sorts: VE_SORTS,
    async sample(client) {
      const now = await client.request<UsageSample>('GET', '/v1/usage');
      rows = veRows(last, now).filter((row) => all || row.memoryBytes !== null);
      last = now;
      return rows.length;
    },
    summary() {
      if (!last) return '';
      const { host, ves } = last;
      const running = ves.filter((ve) => ve.pid !== null).length;
      const busy = rows.some((row) => row.cpuPercent !== null) ? `${percent(rows.reduce((sum, row) => sum + (row.cpuPercent ?? 0), 0))} %` : DASH;
      const used = formatBytes(host.memoryBytes - host.availableBytes);
      return `VEs: ${running} of ${ves.length} running, CPU ${busy} of ${host.cpus * 100} %  Host: load ${host.load.map((load) => load.toFixed(2)).join(' ')}, `
        + `memory ${used} of ${formatBytes(host.memoryBytes)}`;
    },
    table: (order, style) => layoutFitting(titled([
      { title: 'NAME', sort: 'name', shrink: true }, { title: 'STATUS', paint: paintStatus, wide: true }, { title: 'CPU %', sort: 'cpu', right: true },
      { title: 'MEMORY', sort: 'memory', right: true }, { title: 'LIMIT', right: true, wide: true }, { title: 'MEM %', right: true }, { title: 'TASKS', sort: 'tasks', right: true }, { title: 'RX', sort: 'rx', right: true },
      { title: 'TX', sort: 'tx', right: true }, { title: 'UP', sort: 'up', right: true },
    ], order), sorted(rows, VE_SORTS, order).map((row) => [
      row.name, row.status, orDash(row.cpuPercent, percent), orDash(row.memoryBytes, formatBytes), orDash(row.memoryLimitBytes, formatBytes),
      row.memoryBytes === null || row.memoryLimitBytes === null ? DASH : percent(100 * row.memoryBytes / row.memoryLimitBytes),
      orDash(row.tasks, String), orDash(row.rxBytesPerSecond, perSecond), orDash(row.txBytesPerSecond, perSecond), orDash(row.uptimeSeconds, formatSeconds),
    ]), style),
    json: (order) => ({ time: last?.time, host: last?.host, ves: sorted(rows, VE_SORTS, order) }),
  };
}

/** The processes of one VE. @param key as the user names it */
export function processView(key: string): View {
  let last: VeProcesses | undefined;
  let rows: ProcessRow[] = [];
  return {
    sorts: PROCESS_SORTS,
    async sample(client) {
      const now = await client.request<VeProcesses>('GET', `/v1/ves/${segment(key)}/processes`);
      rows = processRows(last, now);
      last = now;
      return rows.length;
    },
    summary: () => `${key}: ${rows.length + (last?.more ?? 0)} processes${last?.more ? `, ${rows.length} of them looked at` : ''}, `
      + `${rows.reduce((sum, row) => sum + row.threads, 0)} threads`,
    table: (order, style) => layoutFitting(titled([
      { title: 'HOST PID', sort: 'pid', right: true }, { title: 'PID', right: true }, { title: 'USER', sort: 'user' }, { title: 'S' }, { title: 'CPU %', sort: 'cpu', right: true },
      { title: 'MEMORY', sort: 'memory', right: true }, { title: 'CPU TIME', sort: 'time', right: true, wide: true },
      { title: 'UP', sort: 'up', right: true, wide: true }, { title: 'COMMAND', sort: 'name', shrink: true },
    ], order), sorted(rows, PROCESS_SORTS, order).map((row) => [
      String(row.pid), String(row.insidePid), visible(row.user ?? String(row.uid)), row.state, orDash(row.cpuPercent, percent), formatBytes(row.memoryBytes),
      formatSeconds(row.cpuSeconds), formatSeconds((Date.now() - Date.parse(row.startedAt)) / 1000), visible(row.command),
    ]), style),
    json: (order) => ({ time: new Date().toISOString(), more: last?.more, processes: sorted(rows, PROCESS_SORTS, order) }),
  };
}

/** Text of a VE's processes on one line: escape sequences go, colours too, and what is left of control characters is shown as `?`. */
export function visible(text: string): string {
  // eslint-disable-next-line no-control-regex
  return sanitise(text.replaceAll(/\x1b\[[0-9;:]*m/g, '').replaceAll(/[\t\r\n]/g, ' ')).replaceAll(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]/g, '?');
}

/** Below this many columns of the terminal those that are `wide` are left out. */
const NARROW = 100;

interface TopColumn extends Column {
  /** Key by which it can be sorted. */
  sort?: string;
  /** Only where there is room. */
  wide?: boolean;
}

function layoutFitting(columns: readonly TopColumn[], rows: readonly (readonly string[])[], style: TableStyle): string {
  const shown = columns.map((column) => style.width >= NARROW || !column.wide);
  return layoutTable(columns.filter((_, i) => shown[i]), rows.map((row) => row.filter((_, i) => shown[i])), style);
}

/** Columns, the sorted one marked. */
function titled(columns: readonly TopColumn[], order: Order): TopColumn[] {
  return columns.map((column) => (column.sort === order.sort ? { ...column, title: `${column.title}${order.reverse ? '^' : '*'}` } : column));
}

function sorted<Row>(rows: readonly Row[], keys: readonly SortKey<Row>[], order: Order): Row[] {
  const key = keys.find(({ name }) => name === order.sort) ?? keys[0]!;
  const sign = order.reverse ? -1 : 1;
  return rows.toSorted((a, b) => {
    const [x, y] = [key.value(a), key.value(b)];
    if (x === null || y === null) return Number(x === null) - Number(y === null);
    return sign * (typeof x === 'string' ? (x < String(y) ? -1 : Number(x > String(y))) : Number(y) - x);
  });
}
