/** What of this node is promised and used. Whether one VE more, or a higher limit, is too much, says room.ts. */
import { statfsSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { readIfExists } from '../lib/files.ts';
import { capacityOf, type Capacity, type HostSize } from '../resources/capacity.ts';
import type { SampleReader } from '../resources/history/history.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeContext } from './context.ts';
import { readRunState } from './run-folder.ts';

/** Add up what limits promise, and what the last samples say. */
export function viewCapacity(context: VeContext, samples: Pick<SampleReader, 'last'>): Capacity {
  return capacityOf(hostSize(context.settings.stateDir), context.store.listVes().filter(({ ready }) => ready).map((ve) => {
    const properties = resolveProperties(ve.properties);
    const last = samples.last(ve.uuid);
    const known = (value: number | undefined): number | null => (value === undefined || Number.isNaN(value) ? null : value);
    return {
      name: ve.name, running: readRunState(context.settings, ve.number).init !== undefined, cpuWeight: properties['cpu.weight'], cpuPercent: properties['cpu.limit'],
      memoryBytes: properties['memory.limit'], swapBytes: properties['memory.swap'],
      used: last === undefined ? null : {
        cpuPercent: known(last.step && (100 * last.step.grown.cpuSeconds) / last.step.seconds), memoryBytes: known(last.reading.memoryBytes - last.reading.cacheBytes),
        cacheBytes: known(last.reading.cacheBytes), swapBytes: known(last.reading.swapBytes),
      },
    };
  }));
}

function hostSize(folder: string): HostSize {
  const { bsize, blocks, bavail } = statfsSync(folder);
  const swap = /^SwapTotal:\s+(\d+) kB$/m.exec(readIfExists('/proc/meminfo') ?? '')?.[1];
  return { cpus: availableParallelism(), memoryBytes: totalmem(), availableBytes: freemem(), swapBytes: Number(swap ?? 0) * 1024, diskBytes: bsize * blocks, diskFreeBytes: bsize * bavail };
}
