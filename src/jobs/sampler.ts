/**
 * Reads once a second what all running VEs have used, for history, metrics and alerts. One for all readers: nothing is read twice.
 *
 * Where no VE runs it stands still: whatever begins to run is told of by an event. With 200 VEs a look costs 9 to 16 ms of CPU time (`bench/sampler.ts`).
 */
import { mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import { allLinkCounters, type LinkCounters } from '../kernel/links.ts';
import { oomVictims } from '../kernel/oom-log.ts';
import { createAlerts, type Alert, type Alerts, type Thresholds } from '../resources/history/alerts.ts';
import { createHistory, type LastSample, type SampleReader, type VeHistory } from '../resources/history/history.ts';
import { removePointFile } from '../resources/history/point-file.ts';
import { NO_LINKS, openGroups, type GroupReader, type LinkReading } from '../resources/history/reading.ts';
import type { ResourceManager } from '../resources/types.ts';

/** Time between two samples, in milliseconds. */
const INTERVAL = 1000;
/** What is known of the VEs is asked for again after so many seconds, should an event have been missed. */
const REFRESH = 60;
/** What a VE's groups have counted until its first sample belongs to that sample, when they are not older than this: it has just been made and booted. Seconds. */
const YOUNG = 60;
/** For how many seconds the samples of a VE that has ended stay in memory: as long as they are history. */
const KEPT = 600;
/** Names of victims that an event tells. */
const VICTIMS = 10;

/** What the sampler must know of a VE. */
export interface SampledVe {
  uuid: string;
  number: number;
  name: string;
  /** Host sides of its links. */
  links: string[];
  /** Of its memory, bytes; null: none. */
  memoryLimit: number | null;
}

export interface SamplerOptions {
  /** All VEs of the node. Asked after events only. */
  ves: () => SampledVe[];
  resources: Pick<ResourceManager, 'groups' | 'monitorGroups'>;
  events: EventBus;
  log: Logger;
  /** Where the files of history lie. */
  folder: string;
  alerts: Thresholds;
  /** Seconds since 1970; replaced in tests. */
  now?: () => number;
}

export interface Sampler extends SampleReader {
  /** Take samples now. @returns whether there is any reason to take more */
  tick(): boolean;
  /** The groups of a VE are about to go, with what they have counted since the last look at them. @param number of the VE */
  lastLook(number: number): void;
  start(): void;
  /** Writes what is unwritten. */
  close(): void;
}

interface Watched {
  ve: SampledVe;
  history: VeHistory;
  alerts: Alerts;
  reader: GroupReader | undefined;
  last: LastSample | undefined;
}

/** Make the sampler; it does nothing before `start`. */
export function createSampler({ ves, resources, events, log, folder, alerts: thresholds, now = () => Date.now() / 1000 }: SamplerOptions): Sampler {
  const base = dirname(resources.monitorGroups().unified);
  /** By UUID. */
  const watched = new Map<string, Watched>();
  let known = new Map<number, SampledVe>();
  let refreshAt = 0;
  let minute = -1;
  /** When groups were first seen, by number: of the sampler's clock. -Infinity: they were there before anybody looked. */
  const appeared = new Map<number, number>();
  let lookedAt = -Infinity;
  /** Whether something has failed in this look, and in the one before it. */
  let [trouble, failing] = [false, false];
  let timer: NodeJS.Timeout | undefined;
  const fileOf = (uuid: string): string => join(folder, uuid);
  const clock = (): number => Number(process.hrtime.bigint()) / 1e9;

  const failed = (error: unknown): void => {
    if (!failing && !trouble) log.error({ err: error }, 'what VEs use cannot be sampled, or not be written');
    trouble = true; // said once, until it works again
  };
  /** What fails for one VE is no reason not to look at the others. */
  const guarded = (work: () => void): void => {
    try {
      work();
    } catch (error) {
      failed(error);
    }
  };

  const refresh = (at: number): void => {
    refreshAt = at + REFRESH;
    known = new Map(ves().map((ve) => [ve.number, ve]));
    prune();
    for (const [uuid, one] of watched) {
      const ve = known.get(one.ve.number);
      if (ve?.uuid === uuid) one.ve = ve;
      else forget(uuid);
    }
  };
  const forget = (uuid: string): void => {
    watched.get(uuid)?.reader?.close();
    watched.delete(uuid);
  };
  const gone = (uuid: string): void => {
    forget(uuid);
    removePointFile(fileOf(uuid));
  };
  /** Files of VEs that went while no daemon saw it. */
  const prune = (): void => {
    const uuids = new Set([...known.values()].map(({ uuid }) => uuid));
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    for (const file of readdirSync(folder)) if (!uuids.has(file)) removePointFile(fileOf(file));
  };
  /** Numbers of all VEs that run, also of those that nobody knows yet. */
  const running = (): number[] => {
    try {
      return readdirSync(base).filter((name) => /^[1-9]\d*$/.test(name)).map(Number);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
      throw error;
    }
  };
  const notice = (numbers: ReadonlySet<number>): void => {
    const time = clock();
    for (const number of appeared.keys()) if (!numbers.has(number)) appeared.delete(number);
    for (const number of numbers) if (!appeared.has(number)) appeared.set(number, time - lookedAt < 5 * INTERVAL / 1000 ? time : -Infinity);
    lookedAt = time;
  };
  /** Seconds since its groups were made, or a little more; undefined: long ago. */
  const ageOf = (number: number): number | undefined => {
    const age = clock() - appeared.get(number)! + INTERVAL / 1000;
    return age < YOUNG ? age : undefined;
  };

  const say = (ve: SampledVe, found: readonly Alert[]): void => {
    for (const { type, data } of found) {
      const victims = type === 've.oom_killed' ? { processes: oomVictims(resources.groups(ve.number).path, Math.min(VICTIMS, data.count)) } : {};
      events.emit(type, { ve: ve.uuid, data: { name: ve.name, ...data, ...victims } });
      log.warn({ ve: ve.uuid, name: ve.name, ...data, ...victims }, type);
    }
  };

  const watch = (ve: SampledVe, at: number): Watched => {
    const one: Watched = { ve, history: createHistory(fileOf(ve.uuid), at), alerts: createAlerts(thresholds), reader: undefined, last: undefined };
    watched.set(ve.uuid, one);
    return one;
  };
  const sample = (one: Watched, at: number, links: Map<string, LinkCounters>): void => {
    one.reader ??= openGroups(resources.groups(one.ve.number));
    const reading = one.reader.read(linksOf(one.ve, links));
    if (!reading || Number.isNaN(reading.cpuSeconds)) {
      stopped(one);
      appeared.set(one.ve.number, clock()); // booted anew between two looks
      return;
    }
    const step = one.history.add(at, clock(), reading, ageOf(one.ve.number));
    one.last = { time: at, reading, step };
    say(one.ve, one.alerts.sample(step, reading, one.ve.memoryLimit));
  };
  const stopped = (one: Watched): void => {
    one.reader?.close();
    one.reader = undefined;
    one.last = undefined;
    one.history.pause();
  };
  const flush = (at: number, even: boolean): void => {
    for (const [uuid, one] of watched) {
      guarded(() => {
        const point = one.history.flush(at, even);
        if (point && !even) say(one.ve, one.alerts.minute(point));
      });
      if (one.reader === undefined && at - one.history.lastSample > KEPT) forget(uuid);
    }
  };

  const look = (): boolean => {
    const at = now();
    if (at >= refreshAt) guarded(() => refresh(at));
    const all = new Set(running());
    notice(all);
    const numbers = new Set([...all].filter((number) => known.has(number)));
    for (const one of watched.values()) if (!numbers.has(one.ve.number) && one.reader) stopped(one);
    if (numbers.size > 0) {
      const links = allLinkCounters();
      for (const number of numbers) {
        const ve = known.get(number)!;
        guarded(() => sample(watched.get(ve.uuid) ?? watch(ve, at), at, links));
      }
    }
    // Those that have just ended have unwritten seconds, too.
    if (Math.floor(at / 60) !== minute) {
      minute = Math.floor(at / 60);
      flush(at, false);
    }
    return [...watched.values()].some(({ reader, history }) => reader !== undefined || history.unwritten);
  };

  const tick = (): boolean => {
    trouble = false;
    let some = true;
    guarded(() => { some = look(); });
    failing = trouble;
    return some;
  };
  const arm = (): void => {
    if (timer) return;
    timer = setInterval(() => {
      // After a look that came late the next one may come at once: rates over next to no time say nothing.
      if (clock() - lookedAt < INTERVAL / 2000 || tick()) return;
      clearInterval(timer);
      timer = undefined;
    }, INTERVAL).unref();
    tick(); // what has no groups yet is seen to get them
  };
  let unsubscribe: (() => void) | undefined;

  return {
    tick,
    lastLook(number) {
      guarded(() => {
        const at = now();
        if (!known.has(number)) refresh(at);
        const ve = known.get(number);
        if (!ve) return;
        if (!appeared.has(number)) appeared.set(number, clock());
        const one = watched.get(ve.uuid) ?? watch(ve, at);
        sample(one, at, allLinkCounters());
        say(ve, one.alerts.end());
      });
    },
    last: (uuid) => watched.get(uuid)?.last,
    history(uuid, span) {
      return (watched.get(uuid)?.history ?? createHistory(fileOf(uuid), now())).points(span, now());
    },
    start() {
      unsubscribe = events.subscribe(({ type, ve }) => {
        // At once, and not with the next look: who waits for the end of a destroy finds nothing of it.
        if (ve !== undefined && (type === 've.destroyed' || type === 've.departed')) guarded(() => gone(ve));
        if (type === 'operation.ended' || type.startsWith('ve.')) refreshAt = 0;
        arm();
      });
      arm();
    },
    close() {
      unsubscribe?.();
      clearInterval(timer);
      flush(now(), true);
      for (const uuid of watched.keys()) forget(uuid);
    },
  };
}

/** Counters of all of a VE's links together. What the host's side receives is what the VE sends. */
function linksOf(ve: SampledVe, counters: Map<string, LinkCounters>): LinkReading {
  const sum = { ...NO_LINKS };
  for (const name of ve.links) {
    const link = counters.get(name);
    if (!link) continue;
    sum.rxBytes += link.txBytes;
    sum.txBytes += link.rxBytes;
    sum.rxPackets += link.txPackets;
    sum.txPackets += link.rxPackets;
  }
  return sum;
}
