/** What of this node is promised and used, and whether one VE more, or a higher limit, is too much. */
import { statfsSync } from 'node:fs';
import { availableParallelism, freemem, totalmem } from 'node:os';
import { readIfExists } from '../lib/files.ts';
import { VeldError } from '../lib/errors.ts';
import { capacityOf, judgeMemory, type Capacity, type HostSize } from '../resources/capacity.ts';
import type { SampleReader } from '../resources/history/history.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
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

/**
 * Look whether a VE that runs, or is about to, promises more memory than `overcommit.memory` of the settings wants. VEs that do not run promise nothing.
 * @param wanted its limit, or that which it is to have, bytes @param before its limit until now, where it is to change
 * @returns what a person should be told; undefined when all is well
 * @throws VeldError `capacity.exceeded`, where the settings refuse it
 */
export function checkMemoryPromise(context: VeContext, ve: Pick<VeRecord, 'uuid' | 'name'>, wanted: number | null, before?: number | null): string | undefined {
  const { ratio, action } = context.settings.overcommit.memory;
  if (action === 'allow' || wanted === null) return undefined;
  const others = context.store.listVes().filter((other) => other.ready && other.desired === 'running' && !other.suspended && other.uuid !== ve.uuid);
  const total = totalmem();
  const { exceeded, promised, allowed } = judgeMemory(total, others.map(({ properties }) => resolveProperties(properties)['memory.limit']), wanted, { ratio }, before);
  if (!exceeded) return undefined;
  const text = `With ${ve.name} the memory limits of running VEs are ${mebibytes(promised)}: ${(promised / total).toFixed(2)} times what this node has; overcommit.memory.ratio is ${ratio}.`;
  if (action === 'refuse') throw new VeldError('capacity.exceeded', text, { details: { promised, allowed, total } });
  context.log.warn({ ve: ve.uuid, name: ve.name, promised, allowed }, 'more memory is promised than overcommit.memory.ratio says');
  context.events.emit('capacity.exceeded', { ve: ve.uuid, data: { name: ve.name, promisedBytes: promised, allowedBytes: allowed } });
  return text;
}

function mebibytes(bytes: number): string {
  return `${Math.round(bytes / 2 ** 20)} MiB`;
}
