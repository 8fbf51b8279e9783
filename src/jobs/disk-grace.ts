/**
 * Gives each VE, and the users and groups of each, their own time of grace: the kernel has one for all accounts of a file system (`quota(7)`), and lets that of an account be changed once it runs. So it looks
 * once a second at the VEs that have a soft limit, and changes the end when one has just passed it. While the daemon is away the kernel's own time holds.
 */
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';
import type { DiskAccount, Volumes } from '../storage/types.ts';
import type { Store } from '../store/types.ts';

/** Time between two looks, in milliseconds. */
const INTERVAL = 1000;
/** Name in the store of what is known. */
const META = 'disk.grace';

/** A VE that has a soft limit. */
export interface GraceVe {
  uuid: string;
  name: string;
  /** Of its own soft limits; null: it has none. Seconds. */
  grace: number | null;
  /** Of its users' and groups'; null: they have no quotas. */
  users: { grace: number; uidBase: number } | null;
}

/** Since when a VE has had more than a soft limit, and until when it may, seconds since 1970. */
interface Over {
  since: number;
  until: number;
}

/** By UUID; of a user or group by `UUID user 1000`. */
type Known = Record<string, Partial<Record<'space' | 'inodes', Over>>>;

export interface DiskGraceOptions {
  /** Those that have a soft limit, or users that may. */
  ves: () => readonly GraceVe[];
  volumes: Pick<Volumes, 'account' | 'extend' | 'extendUser' | 'kernelGrace' | 'users'>;
  store: Pick<Store, 'getMeta' | 'setMeta'>;
  events: Pick<EventBus, 'emit' | 'subscribe'>;
  log: Pick<Logger, 'warn'>;
}

/** How an account is asked for, and its end changed. */
interface Means {
  kernelGrace: () => { space: number; inodes: number };
  extend: (until: { space?: number; inodes?: number }) => void;
  /** It has just passed its soft limit. */
  over?: (what: 'space' | 'inodes', until: number) => void;
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
  const failing = new Set<string>();
  let timer: NodeJS.Timeout | undefined;
  const off = events.subscribe(({ type }) => { if (type !== 'operation.updated') stale = true; });

  /** Look at one account. @returns whether something is to be noted */
  const lookAt = (key: string, grace: number, account: Pick<DiskAccount, 'spaceUntil' | 'inodesUntil'> | undefined, { kernelGrace, extend, over }: Means): boolean => {
    const before = known[key] ?? {};
    const now: Known[string] = {};
    let changed = false;
    for (const [kind, until] of [['space', account?.spaceUntil], ['inodes', account?.inodesUntil]] as const) {
      if (until === null || until === undefined) continue;
      const past = before[kind];
      // The kernel says when it will end; when it began follows, once.
      const since = past?.until === until ? past.since : until - kernelGrace()[kind];
      const wanted = since + grace;
      if (wanted !== until) extend({ [kind]: wanted });
      now[kind] = { since, until: wanted };
      if (past === undefined) over?.(kind, wanted);
      changed ||= JSON.stringify(past) !== JSON.stringify(now[kind]);
    }
    changed ||= Object.keys(now).length !== Object.keys(before).length;
    if (Object.keys(now).length > 0) known[key] = now;
    else delete known[key];
    return changed;
  };

  const look = ({ uuid, name, grace, users }: GraceVe): boolean => {
    let changed = grace !== null && lookAt(uuid, grace, volumes.account(uuid), {
      kernelGrace: () => volumes.kernelGrace(uuid), extend: (until) => volumes.extend(uuid, until),
      over: (what, until) => events.emit('disk.over', { ve: uuid, data: { name, what, until: new Date(until * 1000).toISOString() } }),
    });
    if (users === null || !ofItsOwn(uuid, users.grace)) return changed;
    const all = volumes.users(uuid, users.uidBase);
    const seen = new Set<string>();
    for (const kind of ['user', 'group'] as const) {
      for (const { id, used } of all[`${kind}s`]) {
        const key = `${uuid} ${kind} ${id}`;
        seen.add(key);
        if (used.spaceUntil === null && used.inodesUntil === null && known[key] === undefined) continue;
        changed = lookAt(key, users.grace, used, { kernelGrace: () => volumes.kernelGrace(uuid, kind), extend: (until) => volumes.extendUser(uuid, users.uidBase, kind, id, until) }) || changed;
      }
    }
    for (const key of Object.keys(known)) {
      if (key.startsWith(`${uuid} `) && !seen.has(key)) {
        delete known[key];
        changed = true;
      }
    }
    return changed;
  };

  /** Whether users have another time than the kernel gives them by itself, or had: then each is looked at. */
  const ofItsOwn = (uuid: string, grace: number): boolean => (['user', 'group'] as const).some((kind) => {
    const kernel = volumes.kernelGrace(uuid, kind);
    return kernel.space !== grace || kernel.inodes !== grace;
  }) || Object.keys(known).some((key) => key.startsWith(`${uuid} `));

  const tick = (): void => {
    if (stale) {
      some = ves();
      stale = false;
      known = Object.fromEntries(Object.entries(known).filter(([key]) => some.some((ve) => ve.uuid === key.split(' ')[0])));
    }
    let changed = false;
    for (const ve of some) {
      try {
        changed = look(ve) || changed;
        failing.delete(ve.uuid);
      } catch (error) {
        if (failing.has(ve.uuid)) continue;
        failing.add(ve.uuid); // said once, until it works again
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
