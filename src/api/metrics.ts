/** Numbers for `/metrics`, in the text format that Prometheus reads (version 0.0.4), written by hand. */
import type { EventBus } from '../ops/events.ts';
import type { OperationRecord } from '../store/types.ts';
import type { Counter, Gauge } from '../resources/history/fields.ts';
import type { VeManager, VeStatus, VeUsage } from '../ve/types.ts';
import type { ApiPlanning, ApiStats } from './types.ts';

/** Counters that the routes feed. */
export interface Metrics {
  /** Commands that run through the API now. */
  runningCommands: number;
  /** Count a request. @param seconds time until the answer was sent */
  request(method: string, route: string, status: number, seconds: number): void;
  /** The whole document. */
  render(): Promise<string>;
  close(): void;
}

const STATUSES: readonly VeStatus[] = ['stopped', 'starting', 'running', 'frozen', 'stopping', 'suspended', 'failed'];

type Labels = Record<string, string | number>;

/** One sample; labels are escaped as the format asks. */
function sample(name: string, labels: Labels, value: number): string {
  const escape = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
  const pairs = Object.entries(labels).map(([key, text]) => `${key}="${escape(String(text))}"`);
  return `${name}${pairs.length > 0 ? `{${pairs.join(',')}}` : ''} ${value}\n`;
}

function family(name: string, type: 'counter' | 'gauge', help: string, samples: readonly (readonly [Labels, number])[]): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${samples.map(([labels, value]) => sample(name, labels, value)).join('')}`;
}

/**
 * Make the counters.
 * @param parts the manager is asked when the document is rendered; operations are counted as the bus tells of them
 */
export function createMetrics(parts: { manager: Pick<VeManager, 'traffic' | 'usage'>; stats: Pick<ApiStats, 'last'>; planning: Pick<ApiPlanning, 'capacity'>; events: Pick<EventBus, 'subscribe'>; version: string; instance: string }): Metrics {
  const requests = new Map<string, { labels: Labels; count: number; seconds: number }>();
  const ended = new Map<string, { labels: Labels; count: number }>();
  const running = new Map<string, number>();
  const startedAt = Date.now() / 1000 - process.uptime();

  const stop = parts.events.subscribe((event) => {
    if (event.type !== 'operation.created' && event.type !== 'operation.ended') return;
    const record = event.data?.operation as OperationRecord | undefined;
    if (record === undefined) return;
    const change = event.type === 'operation.created' ? 1 : -1;
    running.set(record.kind, Math.max(0, (running.get(record.kind) ?? 0) + change));
    if (change === 1) return;
    const key = `${record.kind} ${record.state}`;
    const entry = ended.get(key) ?? { labels: { kind: record.kind, state: record.state }, count: 0 };
    entry.count += 1;
    ended.set(key, entry);
  });

  const metrics: Metrics = {
    runningCommands: 0,
    request(method, route, status, seconds) {
      const key = `${method} ${route} ${status}`;
      const entry = requests.get(key) ?? { labels: { method, route, status }, count: 0, seconds: 0 };
      entry.count += 1;
      entry.seconds += seconds;
      requests.set(key, entry);
    },
    async render() {
      const { user, system } = process.cpuUsage();
      const http = [...requests.values()];
      return [
        family('veld_info', 'gauge', 'Always 1; labels tell the version.', [[{ version: parts.version, instance: parts.instance, node: process.version }, 1]]),
        family('process_resident_memory_bytes', 'gauge', 'Memory of the daemon in RAM.', [[{}, process.memoryUsage.rss()]]),
        family('process_cpu_seconds_total', 'counter', 'CPU time of the daemon.', [[{}, (user + system) / 1e6]]),
        family('process_start_time_seconds', 'gauge', 'When the daemon was started, seconds since 1970.', [[{}, startedAt]]),
        family('veld_http_requests_total', 'counter', 'Requests answered.', http.map(({ labels, count }) => [labels, count])),
        family('veld_http_request_seconds_total', 'counter', 'Time spent until the answer was sent.', http.map(({ labels, seconds }) => [labels, seconds])),
        family('veld_exec_running', 'gauge', 'Commands that run through the API.', [[{}, metrics.runningCommands]]),
        family('veld_operations_running', 'gauge', 'Operations under way.', [...running].map(([kind, count]) => [{ kind }, count])),
        family('veld_operations_total', 'counter', 'Operations that ended since the daemon was started.', [...ended.values()].map(({ labels, count }) => [labels, count])),
        renderHost(parts.planning),
        renderVes(parts.manager, parts.stats),
        await renderTraffic(parts.manager),
      ].join('');
    },
    close: stop,
  };
  return metrics;
}

/** What the host has, and what of it is promised to VEs that run. */
function renderHost(planning: Pick<ApiPlanning, 'capacity'>): string {
  const { cpu, memory, disk } = planning.capacity();
  return ([
    ['veld_host_cpus', 'CPUs of the host.', cpu.cpus],
    ['veld_host_memory_bytes', 'Memory of the host.', memory.total],
    ['veld_host_memory_available_bytes', 'Memory of the host that is free, or can be at once.', memory.available],
    ['veld_host_disk_bytes', 'Size of the file system that holds the VEs.', disk.total],
    ['veld_host_disk_free_bytes', 'What is free of it.', disk.free],
    ['veld_promised_cpus', 'Sum of cpu.limit of VEs that run, 1 for one whole CPU.', cpu.promised / 100],
    ['veld_promised_memory_bytes', 'Sum of memory.limit of VEs that run.', memory.promised],
    ['veld_unlimited_memory_ves', 'VEs that run without memory.limit.', memory.unlimited],
  ] as const).map(([name, help, value]) => family(name, 'gauge', help, [[{}, value]])).join('');
}

/** What the sampler reads once a second. Names are stable. */
const SAMPLED: readonly (readonly [name: string, type: 'counter' | 'gauge', help: string, key: Gauge | Counter])[] = [
  ['veld_ve_memory_cache_bytes', 'gauge', 'Of the memory charged to the VE: page cache of files.', 'cacheBytes'],
  ['veld_ve_swap_bytes', 'gauge', 'Memory of the VE that is swapped out.', 'swapBytes'],
  ['veld_ve_cpu_throttled_seconds_total', 'counter', 'Time for which the CPU limit held tasks of the VE back, each processor by itself.', 'throttledSeconds'],
  ['veld_ve_cpu_periods_total', 'counter', 'Periods of the CPU limit in which the VE ran.', 'periods'],
  ['veld_ve_cpu_throttled_periods_total', 'counter', 'Periods of the CPU limit in which it was used up.', 'throttledPeriods'],
  ['veld_ve_disk_read_bytes_total', 'counter', 'Bytes read from disks.', 'diskReadBytes'],
  ['veld_ve_disk_written_bytes_total', 'counter', 'Bytes written to disks.', 'diskWriteBytes'],
  ['veld_ve_disk_reads_total', 'counter', 'Reads from disks.', 'diskReads'],
  ['veld_ve_disk_writes_total', 'counter', 'Writes to disks.', 'diskWrites'],
  ['veld_ve_pressure_cpu_waiting_seconds_total', 'counter', 'Time for which some task of the VE waited for a CPU.', 'cpuPressureSeconds'],
  ['veld_ve_pressure_memory_waiting_seconds_total', 'counter', 'Time for which some task of the VE waited for memory.', 'memoryPressureSeconds'],
  ['veld_ve_pressure_memory_stalled_seconds_total', 'counter', 'Time for which all tasks of the VE waited for memory.', 'memoryFullSeconds'],
  ['veld_ve_pressure_io_waiting_seconds_total', 'counter', 'Time for which some task of the VE waited for a disk.', 'ioPressureSeconds'],
  ['veld_ve_pressure_io_stalled_seconds_total', 'counter', 'Time for which all tasks of the VE waited for disks.', 'ioFullSeconds'],
  ['veld_ve_oom_kills_total', 'counter', 'Processes that the kernel killed because the VE had no memory left.', 'oomKills'],
];

/** Values of VEs that have one. */
function limited(ves: readonly VeUsage[], of: (ve: VeUsage) => number | null): (readonly [Labels, number])[] {
  return ves.flatMap((ve) => {
    const value = of(ve);
    return value === null ? [] : [[{ ve: ve.name, number: ve.number }, value] as const];
  });
}

/** Per VE: what the kernel counts, for those that run; its status as one 1 among zeros. */
function renderVes(manager: Pick<VeManager, 'usage'>, stats: Pick<ApiStats, 'last'>): string {
  const { ves } = manager.usage();
  const labels = (ve: VeUsage): Labels => ({ ve: ve.name, number: ve.number });
  const used = ves.flatMap((ve) => ve.usage ? [{ ve, usage: ve.usage }] : []);
  const moved = ves.flatMap((ve) => ve.traffic ? [{ ve, traffic: ve.traffic }] : []);
  return [
    family('veld_ve_status', 'gauge', '1 for the status that the VE has.',
      ves.flatMap((ve) => STATUSES.map((status) => [{ ...labels(ve), status }, ve.status === status ? 1 : 0] as const))),
    family('veld_ve_cpu_seconds_total', 'counter', 'CPU time of the VE since its start.', used.map(({ ve, usage }) => [labels(ve), usage.cpuSeconds])),
    family('veld_ve_memory_bytes', 'gauge', 'Memory charged to the VE.', used.map(({ ve, usage }) => [labels(ve), usage.memoryBytes])),
    family('veld_ve_tasks', 'gauge', 'Processes and threads of the VE.', used.map(({ ve, usage }) => [labels(ve), usage.tasks])),
    family('veld_ve_receive_bytes_total', 'counter', 'Bytes that the VE received.', moved.map(({ ve, traffic }) => [labels(ve), traffic.rxBytes])),
    family('veld_ve_transmit_bytes_total', 'counter', 'Bytes that the VE sent.', moved.map(({ ve, traffic }) => [labels(ve), traffic.txBytes])),
    family('veld_ve_receive_packets_total', 'counter', 'Packets that the VE received.', moved.map(({ ve, traffic }) => [labels(ve), traffic.rxPackets])),
    family('veld_ve_transmit_packets_total', 'counter', 'Packets that the VE sent.', moved.map(({ ve, traffic }) => [labels(ve), traffic.txPackets])),
    family('veld_ve_limit_cpu_ratio', 'gauge', 'cpu.limit of a VE that has one, 1 for one whole CPU.', limited(ves, ({ limits }) => limits.cpuPercent === null ? null : limits.cpuPercent / 100)),
    family('veld_ve_limit_memory_bytes', 'gauge', 'memory.limit of a VE that has one.', limited(ves, ({ limits }) => limits.memoryBytes)),
    family('veld_ve_limit_tasks', 'gauge', 'pids.limit of a VE that has one.', limited(ves, ({ limits }) => limits.tasks)),
    ...SAMPLED.map(([name, type, help, key]) => family(name, type, help, used.flatMap(({ ve }) => {
      const value = stats.last(ve.uuid)?.reading[key];
      return value === undefined || Number.isNaN(value) ? [] : [[labels(ve), value] as const];
    }))),
  ].join('');
}

/** Traffic of all VEs by class, running or not; without samples where the firewall cannot be read just now. */
async function renderTraffic(manager: Pick<VeManager, 'traffic'>): Promise<string> {
  const { ves } = await manager.traffic().catch(() => ({ ves: [] }));
  const figures = ves.flatMap(({ name, number, classes }) => Object.entries(classes).map(([one, traffic]) => ({ labels: { ve: name, number, class: one }, traffic })));
  return ([
    ['veld_ve_class_receive_bytes_total', 'Bytes that the VE received since it was made, by class of network.', 'rxBytes'],
    ['veld_ve_class_transmit_bytes_total', 'Bytes that the VE sent since it was made, by class of network.', 'txBytes'],
    ['veld_ve_class_receive_packets_total', 'Packets that the VE received since it was made, by class of network.', 'rxPackets'],
    ['veld_ve_class_transmit_packets_total', 'Packets that the VE sent since it was made, by class of network.', 'txPackets'],
  ] as const).map(([name, help, key]) => family(name, 'counter', help, figures.map(({ labels, traffic }) => [labels, traffic[key]]))).join('');
}
