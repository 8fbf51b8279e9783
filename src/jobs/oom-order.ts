/**
 * Keeps the order in which the kernel would end processes of VEs when memory runs out (src/resources/oom-order.ts) what `memory.oom_guarantee` of the VEs says. It goes by the samples of each second;
 * where no VE has a guarantee it does nothing. What it has written stays when the daemon ends, and processes that begin meanwhile have it of their parents.
 */
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import { changeOomScore } from '../kernel/oom-score.ts';
import type { SampleReader } from '../resources/history/history.ts';
import { isOver, placeOf, usedForOom, type Standing } from '../resources/oom-order.ts';
import type { ResourceManager } from '../resources/types.ts';

/** Time between two looks, in milliseconds: as often as there are samples. */
const INTERVAL = 1000;
/** Each process is looked at again after so many looks: what has come in from outside, or has set a value for itself. */
const ALL = 5;
/** A VE whose processes multiply while they are looked at is looked at again, at most so many times. */
const ROUNDS = 5;

/** What must be known of a VE. */
export interface OrderedVe {
  uuid: string;
  number: number;
  name: string;
  /** `memory.oom_guarantee`, bytes; null: all that it uses. */
  oomGuarantee: number | null;
}

export interface OomOrderOptions {
  /** All VEs of the node. */
  ves: () => readonly OrderedVe[];
  samples: Pick<SampleReader, 'last'>;
  resources: Pick<ResourceManager, 'pids' | 'groups'>;
  events: Pick<EventBus, 'emit' | 'subscribe'>;
  log: Pick<Logger, 'info' | 'warn' | 'error'>;
}

export interface OomOrder {
  /** Look now. */
  tick(): void;
  start(): void;
  close(): void;
}

export function createOomOrder({ ves, samples, resources, events, log }: OomOrderOptions): OomOrder {
  /** How they stood when their processes were placed, by UUID. */
  const placed = new Map<string, Standing>();
  let known: readonly OrderedVe[] = [];
  let stale = true;
  let looks = 0;
  let refused = false;

  const place = ({ number, name }: OrderedVe, standing: Standing): void => {
    const { path } = resources.groups(number);
    for (let round = 0; round < ROUNDS; round++) {
      const outcomes = resources.pids(number).map((pid) => changeOomScore(pid, path, (score) => placeOf(score, standing)));
      if (!refused && outcomes.includes('refused')) {
        refused = true;
        log.warn({ name }, 'the order in which processes are ended when memory runs out cannot be kept: the daemon has not CAP_SYS_RESOURCE');
      }
      // Whoever was begun by a process that had not its place yet has not, either.
      if (!outcomes.includes('changed')) return;
    }
  };

  const tick = (): void => {
    if (stale) {
      known = ves();
      stale = false;
    }
    const some = known.some(({ oomGuarantee }) => oomGuarantee !== 0);
    const all = some && looks++ % ALL === 0;
    const running = new Set<string>();
    for (const ve of known) {
      const last = samples.last(ve.uuid);
      if (!last) continue;
      running.add(ve.uuid);
      const standing = !some ? 'none' : isOver(usedForOom(last.reading), ve.oomGuarantee) ? 'over' : 'within';
      const before = placed.get(ve.uuid);
      if (before === standing && !all) continue;
      placed.set(ve.uuid, standing);
      place(ve, standing);
      if (ve.oomGuarantee === 0 || before === undefined || before === standing) continue;
      log.info({ ve: ve.uuid, name: ve.name, standing }, standing === 'over' ? 'a VE uses more than its memory.oom_guarantee: should memory run out, processes of it are ended' : 'a VE is within its memory.oom_guarantee again');
    }
    for (const uuid of placed.keys()) if (!running.has(uuid)) placed.delete(uuid);
  };

  let timer: NodeJS.Timeout | undefined;
  let unsubscribe: (() => void) | undefined;
  let failing = false;
  return {
    tick,
    start() {
      unsubscribe = events.subscribe(({ type, ve }) => {
        if (type !== 'operation.ended' && !type.startsWith('ve.')) return;
        stale = true;
        // Its processes may be others now, and, of a checkpoint, have what they had then.
        if (ve !== undefined) placed.delete(ve);
      });
      timer = setInterval(() => {
        try {
          tick();
          failing = false;
        } catch (error) {
          if (!failing) log.error({ err: error }, 'the order in which processes of VEs are ended when memory runs out could not be kept');
          failing = true; // said once, until it works again
        }
      }, INTERVAL).unref();
    },
    close() {
      unsubscribe?.();
      clearInterval(timer);
    },
  };
}
