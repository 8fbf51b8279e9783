/** Reads what a VE has used from the files of its groups, on control groups of either version. */
import { openControls } from '../../kernel/open-controls.ts';
import type { VeGroups } from '../types.ts';
import type { Reading } from './fields.ts';

/** What network links have counted, as the VE sees it; the groups do not know it. */
export type LinkReading = Pick<Reading, 'rxBytes' | 'txBytes' | 'rxPackets' | 'txPackets'>;

/** Where there is no link. */
export const NO_LINKS: LinkReading = { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 };

export interface GroupReader {
  /** @returns undefined when the groups are gone */
  read(links: LinkReading): Reading | undefined;
  close(): void;
}

/** Of a VE in which nothing ran since the look before only the CPU time is read, so many times one after the other; then all, since the host may have taken memory. */
const IDLE = 4;

type File = 'cpu' | 'throttling' | 'memory' | 'memoryStat' | 'swap' | 'oom' | 'tasks' | 'io' | 'ios' | 'cpuPressure' | 'memoryPressure' | 'ioPressure';

/** Paths of the files. */
function pathsOf({ unified, v1 }: VeGroups): Partial<Record<File, string>> {
  const files: Partial<Record<File, string>> = { cpuPressure: `${unified}/cpu.pressure`, memoryPressure: `${unified}/memory.pressure`, ioPressure: `${unified}/io.pressure` };
  files.cpu = v1.cpuacct === undefined ? `${unified}/cpu.stat` : `${v1.cpuacct}/cpuacct.usage`;
  // On cgroup2 the file of the CPU time has it, too.
  if (v1.cpu !== undefined) files.throttling = `${v1.cpu}/cpu.stat`;
  files.tasks = `${v1.pids ?? unified}/pids.current`;
  if (v1.memory === undefined) Object.assign(files, { memory: `${unified}/memory.current`, memoryStat: `${unified}/memory.stat`, swap: `${unified}/memory.swap.current`, oom: `${unified}/memory.events` });
  else Object.assign(files, { memory: `${v1.memory}/memory.usage_in_bytes`, memoryStat: `${v1.memory}/memory.stat`, oom: `${v1.memory}/memory.oom_control` });
  if (v1.blkio === undefined) files.io = `${unified}/io.stat`;
  else Object.assign(files, { io: `${v1.blkio}/blkio.throttle.io_service_bytes_recursive`, ios: `${v1.blkio}/blkio.throttle.io_serviced_recursive` });
  return files;
}

/** Open the files of a VE's groups. */
export function openGroups(groups: VeGroups): GroupReader {
  const controls = openControls(pathsOf(groups));
  const { v1 } = groups;
  let before: { cpu: string; reading: Reading } | undefined;
  let idle = 0;
  return {
    read(links) {
      try {
        const cpu = controls.read('cpu') ?? '';
        if (before !== undefined && cpu === before.cpu && idle < IDLE) {
          idle += 1;
          return { ...before.reading, ...links };
        }
        idle = 0;
        const throttling = v1.cpu === undefined ? cpu : controls.read('throttling') ?? '';
        const stat = controls.read('memoryStat') ?? '';
        // What a VE has in files of tmpfs is in no file that could be read anew.
        const [cache, shared] = v1.memory === undefined ? ['file', 'shmem'] as const : ['total_cache', 'total_shmem'] as const;
        const disk = v1.blkio === undefined ? parseIoStat(controls.read('io') ?? '') : parseBlkio(controls.read('io') ?? '', controls.read('ios') ?? '');
        const [memoryPressure, ioPressure] = [controls.read('memoryPressure'), controls.read('ioPressure')];
        const reading = {
          cpuSeconds: v1.cpuacct === undefined ? key(cpu, 'usage_usec') / 1e6 : whole(cpu) / 1e9,
          throttledSeconds: v1.cpu === undefined ? key(throttling, 'throttled_usec') / 1e6 : key(throttling, 'throttled_time') / 1e9,
          periods: key(throttling, 'nr_periods'),
          throttledPeriods: key(throttling, 'nr_throttled'),
          memoryBytes: whole(controls.read('memory')),
          cacheBytes: key(stat, cache) - key(stat, shared),
          swapBytes: v1.memory === undefined ? whole(controls.read('swap')) : key(stat, 'total_swap'),
          oomKills: key(controls.read('oom') ?? '', 'oom_kill'),
          tasks: whole(controls.read('tasks')),
          ...disk,
          ...links,
          cpuPressureSeconds: pressure(controls.read('cpuPressure'), 'some'),
          memoryPressureSeconds: pressure(memoryPressure, 'some'),
          memoryFullSeconds: pressure(memoryPressure, 'full'),
          ioPressureSeconds: pressure(ioPressure, 'some'),
          ioFullSeconds: pressure(ioPressure, 'full'),
        };
        before = { cpu, reading };
        return reading;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENODEV') return undefined;
        throw error;
      }
    },
    close: () => controls.close(),
  };
}

/** A file with one number. */
function whole(text: string | undefined): number {
  return text === undefined ? Number.NaN : Number.parseInt(text, 10);
}

/** Value of a key in a flat-keyed file. */
export function key(text: string, name: string): number {
  const start = text.startsWith(`${name} `) ? 0 : text.indexOf(`\n${name} `) + 1;
  return start === 0 && !text.startsWith(`${name} `) ? Number.NaN : Number.parseInt(text.slice(start + name.length + 1, start + name.length + 21), 10);
}

/** Seconds of a line of a pressure file: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. */
export function pressure(text: string | undefined, line: 'some' | 'full'): number {
  if (text === undefined) return Number.NaN;
  const start = text.startsWith(line) ? 0 : text.indexOf(`\n${line}`);
  const total = start < 0 ? -1 : text.indexOf('total=', start);
  return total < 0 ? Number.NaN : Number.parseInt(text.slice(total + 6, total + 26), 10) / 1e6;
}

type Disk = Pick<Reading, 'diskReadBytes' | 'diskWriteBytes' | 'diskReads' | 'diskWrites'>;

/** Sums of io.stat: `254:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`. */
export function parseIoStat(text: string): Disk {
  const disk: Disk = { diskReadBytes: 0, diskWriteBytes: 0, diskReads: 0, diskWrites: 0 };
  if (text === '') return disk;
  for (const [, name, value] of text.matchAll(/ ([rw](?:bytes|ios))=(\d+)/g)) {
    disk[name === 'rbytes' ? 'diskReadBytes' : name === 'wbytes' ? 'diskWriteBytes' : name === 'rios' ? 'diskReads' : 'diskWrites'] += Number(value);
  }
  return disk;
}

/** Sums of two files of blkio: `254:0 Read 4096`. */
export function parseBlkio(bytes: string, operations: string): Disk {
  const sum = (text: string, word: string): number => {
    let all = 0;
    // Most VEs have nothing but the total.
    if (text.length > 10) for (const [, value] of text.matchAll(new RegExp(`^\\d+:\\d+ ${word} (\\d+)$`, 'gm'))) all += Number(value);
    return all;
  };
  return { diskReadBytes: sum(bytes, 'Read'), diskWriteBytes: sum(bytes, 'Write'), diskReads: sum(operations, 'Read'), diskWrites: sum(operations, 'Write') };
}
