/** Lets quota tools work in those VEs that run and whose users have quotas (src/ve/quota-tools/): as they boot, come back, move here, and are given quotas. */
import type { Logger } from '../lib/log.ts';
import type { EventBus } from '../ops/events.ts';

/** Time between two looks where nothing is heard of, in milliseconds: a VE that reboots itself is in no event of this daemon's while it is away. */
const INTERVAL = 5000;

export interface InsideQuotasOptions {
  /** Those in which they shall work; `boot` is another one after each boot. Cheap. */
  ves: () => readonly { uuid: string; name: string; boot: string }[];
  /** Have them work in one. @throws VeldError `ve.not_running` for one that has just ended */
  serve: (uuid: string) => Promise<{ close(gone: boolean): void }>;
  events: Pick<EventBus, 'subscribe'>;
  log: Pick<Logger, 'error'>;
}

export interface InsideQuotas {
  /** Look now; settles when all is as it shall be. */
  look(): Promise<void>;
  close(): Promise<void>;
}

export function createInsideQuotas({ ves, serve, events, log }: InsideQuotasOptions, interval = INTERVAL): InsideQuotas {
  const served = new Map<string, { boot: string; server: { close(gone: boolean): void } }>();
  const failing = new Set<string>();
  let busy: Promise<void> | undefined;
  let again = false;

  const round = async (): Promise<void> => {
    const wanted = ves();
    for (const [uuid, { boot, server }] of served) {
      if (wanted.some((ve) => ve.uuid === uuid && ve.boot === boot)) continue;
      server.close(true);
      served.delete(uuid);
    }
    for (const { uuid, name, boot } of wanted) {
      if (served.has(uuid)) continue;
      try {
        served.set(uuid, { boot, server: await serve(uuid) });
        failing.delete(uuid);
      } catch (error) {
        const { code } = error as { code?: string };
        if (code === 've.not_running' || code === 've.not_found' || failing.has(uuid)) continue;
        failing.add(uuid); // said once, until it works again
        log.error({ ve: uuid, name, err: error }, 'the quota tools of a VE do not work');
      }
    }
    for (const uuid of failing) if (!wanted.some((ve) => ve.uuid === uuid)) failing.delete(uuid);
  };

  const look = async (): Promise<void> => {
    if (busy !== undefined) {
      again = true;
      return busy;
    }
    busy = (async () => {
      do {
        again = false;
        await round();
      } while (again);
    })().catch((error: unknown) => log.error({ err: error }, 'it cannot be seen in which VEs quota tools shall work')).finally(() => { busy = undefined; });
    return busy;
  };

  const off = events.subscribe(({ type }) => { if (type === 'operation.ended' || type.startsWith('ve.')) void look(); });
  const timer = setInterval(() => void look(), interval).unref();
  void look();
  return {
    look,
    async close() {
      clearInterval(timer);
      off();
      await busy;
      for (const { server } of served.values()) server.close(false);
      served.clear();
    },
  };
}
