/**
 * Keeps lxcfs alive, and running VEs with it: notices its end at once (pidfd) and a hang within half a minute, starts another, and lets the VEs' files
 * be those of the new one. What they read in between is an error (ENOTCONN), never the host's values.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { askLxcfs, lastLxcfsWords, lxcfsPath, lxcfsProcess, lxcfsStatus, startLxcfs } from '../kernel/lxcfs.ts';
import type { LxcfsOptions, LxcfsStatus } from '../kernel/lxcfs.ts';
import { prepareExchange } from '../kernel/lxcfs-mend.ts';
import type { Exchange, ExchangeResult } from '../kernel/lxcfs-mend.ts';
import { lxcfsDevice, lxcfsSource } from '../kernel/lxcfs-mounts.ts';
import { signalProcess, waitProcessEnd } from '../kernel/pidfd.ts';
import type { ProcessId } from '../kernel/process.ts';
import { VeldError, toVeldError } from '../lib/errors.ts';
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import type { StaleVe } from '../ve/lxcfs-binds.ts';

/** How often it is asked whether it answers, how long it may take, and how often in a row it may fail to; milliseconds. */
const ASK_EVERY = 10_000;
const ASK_PATIENCE = 5000;
const ASK_TRIES = 2;

/** An lxcfs that lived this long has its earlier ends forgotten, in milliseconds. */
const STABLE = 60_000;

export interface LxcfsKeeperDeps {
  options: LxcfsOptions;
  /** Running VEs whose files are not of the lxcfs with this device. */
  stale: (device: string, only?: string) => StaleVe[];
  events: EventBus;
  log: Logger;
  /** Replaced in tests. */
  askEvery?: number;
  askPatience?: number;
}

/** What doctor tells of it. */
export interface LxcfsHistory {
  /** How often it ended since the daemon began. */
  ended: number;
  /** ISO 8601. */
  lastEnd: string | null;
  /** Why it could not be started the last time; null when it could. */
  trouble: string | null;
  /** Names of VEs that have files of an lxcfs that is gone. */
  staleVes: string[];
}

export interface LxcfsKeeper {
  /** Start it, or adopt the one that runs; one of an earlier build is replaced. Never rejects: it goes on trying. */
  start(): Promise<void>;
  /** Mend what an earlier daemon left to do. */
  mend(): Promise<void>;
  history(): LxcfsHistory;
  /** Leave lxcfs alone from now on. */
  close(): Promise<void>;
}

/** Waiting time before it is started again, in milliseconds: at once, then 1 s doubled up to 1 minute. @param ends in a row */
export function lxcfsBackOff(ends: number): number {
  return ends <= 1 ? 0 : Math.min(60_000, 1000 * 2 ** (ends - 2));
}

/** Make the keeper. */
export function createLxcfsKeeper(deps: LxcfsKeeperDeps): LxcfsKeeper {
  const { options, events, log } = deps;
  const path = lxcfsPath(options.runDir);
  const closing = new AbortController();
  const closed = (): boolean => closing.signal.aborted;
  const history: LxcfsHistory = { ended: 0, lastEnd: null, trouble: null, staleVes: [] };
  let current: { id: ProcessId; since: number } | undefined;
  let inARow = 0;
  /** One thing at a time: starts and mends follow each other. */
  let tail: Promise<void> = Promise.resolve();

  const inTurn = (what: string, work: () => Promise<void>): Promise<void> => {
    tail = tail.then(() => (closed() ? undefined : work())).catch((error: unknown) => {
      if (!closed()) log.error({ err: error }, `${what} failed`);
    });
    return tail;
  };

  /** Start it and watch it. @returns whether it runs */
  const bringUp = async (): Promise<LxcfsStatus['state']> => {
    let state: LxcfsStatus['state'];
    try {
      state = (await startLxcfs(options)).state;
      history.trouble = null;
    } catch (error) {
      history.trouble = toVeldError(error).message;
      log.error({ err: error }, 'lxcfs cannot be started');
      state = (await lxcfsStatus(options)).state; // a newer one that cannot leaves the earlier one in place
    }
    const id = state === 'running' ? lxcfsProcess(options.runDir) : undefined;
    if (id !== undefined && (current?.id.pid !== id.pid || current.id.startTime !== id.startTime)) {
      current = { id, since: Date.now() };
      void waitProcessEnd(id, closing.signal).then(() => ended(id)).catch(() => {});
    }
    return state;
  };

  const ended = (id: ProcessId): void => {
    // A replaced one ends when the last VE has let go of it.
    if (closed() || current?.id !== id) return;
    inARow = Date.now() - current.since < STABLE ? inARow + 1 : 1;
    current = undefined;
    history.ended += 1;
    history.lastEnd = new Date().toISOString();
    const words = lastLxcfsWords(options.runDir);
    log.error({ pid: id.pid, inARow, words }, 'lxcfs has ended; it will be started again');
    events.emit('lxcfs.ended', { data: { pid: id.pid, inARow } });
    void inTurn('starting lxcfs again', () => again(performance.now()));
  };

  const again = async (since: number): Promise<void> => {
    const wait = lxcfsBackOff(inARow);
    const cancelled = await sleep(wait, false, { signal: closing.signal }).catch(() => true);
    if (cancelled) return;
    const exchange = prepareExchange(); // begins while lxcfs does
    if ((await bringUp()) !== 'running') {
      exchange.cancel();
      inARow += 1;
      void inTurn('starting lxcfs again', () => again(since));
      return;
    }
    const results = await mendWith(exchange);
    const seconds = Math.round(performance.now() - since) / 1000;
    log.info({ pid: current?.id.pid, ves: results.length, left: history.staleVes, seconds }, 'lxcfs serves again');
    events.emit('lxcfs.restored', { data: { pid: current?.id.pid, ves: results.length, left: history.staleVes, seconds } });
  };

  /** Let all VEs, or one, have the files of the lxcfs that serves now. */
  const mendWith = async (ready?: Exchange, only?: string): Promise<ExchangeResult[]> => {
    const device = lxcfsDevice(path);
    const targets = device === undefined ? [] : deps.stale(device, only);
    if (device === undefined || targets.length === 0) {
      ready?.cancel();
      if (only === undefined) history.staleVes = [];
      return [];
    }
    const results = await (ready ?? prepareExchange()).run({ folder: path, device, source: lxcfsSource(options.instance), targets });
    for (const target of targets) {
      const result = results.find(({ pid }) => pid === target.pid);
      if (result && result.left.length === 0) log.info({ ve: target.uuid, name: target.name, ...result }, 'a VE has the files of the present lxcfs');
    }
    for (const target of deps.stale(device, only)) {
      log.warn({ ve: target.uuid, name: target.name, ...results.find(({ pid }) => pid === target.pid) }, 'a VE keeps files of an lxcfs that is gone');
    }
    if (only === undefined) history.staleVes = deps.stale(device).map(({ name }) => name);
    return results;
  };

  /** A hang makes no event: ask now and then, and let the end of one that hangs bring the next. */
  let misses = 0;
  const timer = setInterval(() => void inTurn('asking lxcfs', async () => {
    if (current === undefined) return;
    const { id } = current;
    const why = await askLxcfs(path, deps.askPatience ?? ASK_PATIENCE);
    misses = why === undefined ? 0 : misses + 1;
    if (misses < ASK_TRIES || closed() || current?.id !== id) return;
    misses = 0;
    log.error({ pid: id.pid, why }, 'lxcfs is ended because it does not serve');
    signalProcess(id, 'SIGKILL');
  }), deps.askEvery ?? ASK_EVERY);
  timer.unref();

  // A VE that booted just when lxcfs changed.
  const unsubscribe = events.subscribe(({ type, ve }) => {
    if (ve !== undefined && (type === 've.started' || type === 've.rebooted')) void inTurn('mending a VE', async () => void await mendWith(undefined, ve));
  });

  return {
    start: () => inTurn('starting lxcfs', async () => {
      const state = await bringUp();
      if (state === 'running' || state === 'absent') return;
      inARow = 2;
      void inTurn('starting lxcfs', () => again(performance.now()));
    }),
    mend: () => inTurn('mending VEs', async () => void await mendWith()),
    history: () => {
      const device = lxcfsDevice(path);
      return { ...history, staleVes: device === undefined ? [] : deps.stale(device).map(({ name }) => name) };
    },
    async close() {
      closing.abort(new VeldError('daemon.stopping', 'The daemon is stopping.'));
      clearInterval(timer);
      unsubscribe();
      await tail;
    },
  };
}
