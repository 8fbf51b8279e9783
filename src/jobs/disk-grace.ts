/**
 * Gives each VE its own time of grace: the kernel has one for all accounts of a file system (`quota(7)`), and lets that of an account be changed once it runs. So it looks
 * once a second at the VEs that have a soft limit, and changes the end when one has just passed it. While the daemon is away the kernel's own time holds.
 */
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import type { Volumes } from '../storage/types.ts';
import type { Store } from '../store/types.ts';

/** Time between two looks, in milliseconds. */
const INTERVAL = 1000;
/** Name in the store of what is known. */
const META = 'disk.grace';

/** A VE that has a soft limit. */
export interface GraceVe {
  uuid: string;
  name: string;
  /** Seconds. */
  grace: number;
}

/** Since when a VE has had more than a soft limit, and until when it may, seconds since 1970. */
interface Over {
  since: number;
  until: number;
}

type Known = Record<string, Partial<Record<'space' | 'inodes', Over>>>;

export interface DiskGraceOptions {
  /** Those that run and have a soft limit. */
  ves: () => readonly GraceVe[];
  volumes: Pick<Volumes, 'account' | 'extend' | 'kernelGrace'>;
  store: Pick<Store, 'getMeta' | 'setMeta'>;
  events: Pick<EventBus, 'emit' | 'subscribe'>;
  log: Pick<Logger, 'warn'>;
}

export interface DiskGrace {
  /** Look now. */
  tick(): void;
  start(): void;
  close(): void;
}

export function createDiskGrace({ ves, volumes, store, events, log }: DiskGraceOptions): DiskGrace {
  let known: Known = store.getMeta<Known>(META) ?? {};
  let some: readonly GraceVe[] = [];
  let stale = true;
  let timer: NodeJS.Timeout | undefined;
  const off = events.subscribe(({ type }) => { if (type !== 'operation.updated') stale = true; });

  const look = ({ uuid, name, grace }: GraceVe): boolean => {
    const account = volumes.account(uuid);
    const before = known[uuid] ?? {};
    const now: Known[string] = {};
    let changed = false;
    for (const [kind, until] of [['space', account?.spaceUntil], ['inodes', account?.inodesUntil]] as const) {
      if (until === null || until === undefined) continue;
      const over = before[kind];
      // The kernel says when it will end; when it began follows, once.
      const since = over?.until === until ? over.since : until - volumes.kernelGrace(uuid)[kind];
      const wanted = since + grace;
      if (wanted !== until) volumes.extend(uuid, { [kind]: wanted });
      now[kind] = { since, until: wanted };
      if (over === undefined) events.emit('disk.over', { ve: uuid, data: { name, what: kind, until: new Date(wanted * 1000).toISOString() } });
      changed ||= JSON.stringify(over) !== JSON.stringify(now[kind]);
    }
    changed ||= Object.keys(now).length !== Object.keys(before).length;
    if (Object.keys(now).length > 0) known[uuid] = now;
    else delete known[uuid];
    return changed;
  };

  const tick = (): void => {
    if (stale) {
      some = ves();
      stale = false;
      known = Object.fromEntries(Object.entries(known).filter(([uuid]) => some.some((ve) => ve.uuid === uuid)));
    }
    let changed = false;
    for (const ve of some) {
      try {
        changed = look(ve) || changed;
      } catch (error) {
        log.warn({ ve: ve.uuid, err: error }, 'the time of grace of a VE could not be looked after');
      }
    }
    if (changed) store.setMeta(META, known);
  };

  return {
    tick,
    start() {
      timer = setInterval(tick, INTERVAL).unref();
    },
    close() {
      clearInterval(timer);
      off();
    },
  };
}
