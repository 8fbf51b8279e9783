/** Brings the counters of traffic (traffic.ts) and what is kept of them (traffic-sums.ts) together. */
import type { Logger } from '../lib/log.ts';
import { nftApply } from '../kernel/nftables.ts';
import type { VeRecord } from '../store/types.ts';
import { parseClasses } from './classes.ts';
import type { NetworkClass } from './classes.ts';
import { formatPrefix } from './ip.ts';
import type { PlanContext } from './plan.ts';
import { countLines, readTraffic, sumKey, trafficScript, uncountLines, unlinkLines } from './traffic.ts';
import type { Sums } from './traffic.ts';
import { readSums, sumFiles } from './traffic-sums.ts';
import type { ClassTraffic, TrafficAccounting } from './types.ts';

/** Time between two looks whose sums are written, in milliseconds. */
const INTERVAL = 60_000;

export interface Accounting {
  /** Lines of nft: the table as it is to be, and counters for these VEs. */
  setupLines(ves: readonly VeRecord[]): string;
  /** Lines that give a VE its counters. */
  admitLines(ve: VeRecord): string;
  /** The same for one whose links change. */
  relinkLines(before: VeRecord, after: VeRecord): string;
  /** What the manager of the network shows of it. */
  face: TrafficAccounting;
}

/**
 * @param folder for what is kept
 * @throws VeldError `settings.invalid`
 */
export function createAccounting(context: PlanContext, texts: readonly string[], folder: string, records: () => readonly VeRecord[]): Accounting {
  const { names } = context;
  const classes: readonly NetworkClass[] = parseClasses(texts, context.pools);
  const files = sumFiles(folder);
  /** VEs on their way out, which have their record still: who looks just then brings nothing of them back. */
  const gone = new Set<string>();
  /** Look at the counters. @returns numbers of all VEs that have some */
  const look = async (): Promise<Map<number, Sums>> => {
    const found = await readTraffic(names);
    const known = records();
    for (const { uuid, number } of known) {
      const sums = found.get(number);
      if (sums && !gone.has(uuid)) files.tell(uuid, sums);
    }
    for (const uuid of gone) if (!known.some((ve) => ve.uuid === uuid)) gone.delete(uuid);
    return found;
  };
  const viewOf = ({ uuid }: VeRecord): ClassTraffic => byClass(files.of(uuid), classes);

  return {
    setupLines: (ves) => trafficScript(names, classes) + ves.map((ve) => countLines(ve, context, classes, files.of(ve.uuid))).join(''),
    admitLines: (ve) => countLines(ve, context, classes, files.of(ve.uuid)),
    relinkLines: (before, after) => unlinkLines(before, after, context, classes) + countLines(after, context, classes, files.of(after.uuid)),
    face: {
      classes: classes.map(({ name, networks }) => ({ name, networks: networks.map(formatPrefix) })),
      async read() {
        await look();
        return viewOf;
      },
      async carried({ uuid }) {
        await look().catch(() => {}); // a VE that stands between two nodes does not wait for this
        return files.of(uuid);
      },
      bring({ uuid }, carried) {
        gone.delete(uuid);
        files.tell(uuid, joined(readSums(carried)));
        try {
          files.write();
        } catch { /* told, and tried again, in a minute at most */ }
      },
      async forget(ve) {
        gone.add(ve.uuid);
        files.forget(ve.uuid);
        const there = (await readTraffic(names)).get(ve.number);
        if (there) await nftApply(uncountLines(names, ve.number, Object.keys(there)));
      },
      async prune() {
        const known = records();
        files.prune(new Set(known.map(({ uuid }) => uuid)));
        const numbers = new Set(known.map(({ number }) => number));
        const strays = [...await readTraffic(names)].filter(([number]) => !numbers.has(number));
        if (strays.length > 0) await nftApply(strays.map(([number, sums]) => uncountLines(names, number, Object.keys(sums))).join(''));
      },
      follow(log: Pick<Logger, 'error'>) {
        let failing = false;
        let busy: Promise<void> | undefined;
        const write = async (): Promise<void> => {
          try {
            await look();
            // Somebody may have looked while a VE went, and so have told of it once more.
            files.prune(new Set(records().map(({ uuid }) => uuid)));
            files.write();
            failing = false;
          } catch (error) {
            if (!failing) log.error({ err: error }, 'what VEs have sent and received cannot be read, or not be kept');
            failing = true; // said once, until it works again
          }
        };
        const timer = setInterval(() => { busy ??= write().finally(() => { busy = undefined; }); }, INTERVAL).unref();
        return async () => {
          clearInterval(timer);
          await busy;
          await write();
        };
      },
    },
  };
}

/** Sums of routed links and ports of bridges together, as a VE has them that has just come. */
function joined(sums: Sums): Sums {
  const all: Sums = {};
  for (const [key, { bytes, packets }] of Object.entries(sums)) {
    const [, direction, name] = key.split(' ');
    const sum = (all[sumKey('inet', direction as 'rx' | 'tx', name!)] ??= { bytes: 0, packets: 0 });
    sum.bytes += bytes;
    sum.packets += packets;
  }
  return all;
}

/** For readers: each class of the settings, and such as have counted before. */
function byClass(sums: Sums, classes: readonly NetworkClass[]): ClassTraffic {
  const view: ClassTraffic = Object.fromEntries(classes.map(({ name }) => [name, { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 }]));
  for (const [key, { bytes, packets }] of Object.entries(sums)) {
    if (packets === 0) continue;
    const [, direction, name] = key.split(' ') as [string, 'rx' | 'tx', string];
    const traffic = (view[name] ??= { rxBytes: 0, txBytes: 0, rxPackets: 0, txPackets: 0 });
    traffic[`${direction}Bytes`] += bytes;
    traffic[`${direction}Packets`] += packets;
  }
  return view;
}
