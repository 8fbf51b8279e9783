/**
 * What of a template stands ready for its next deploy: its warm image (warm-image.ts), made after the first one, and spare VEs. Of each template that was deployed lately some
 * are brought back from that image out of sight, with keys, a machine-id and services of their own, but without a name and without an address. `create --start`
 * gives them both (name-spare.ts), and a new one is made meanwhile.
 *
 * A spare is a record that is never `ready`: nobody sees it, and a daemon that finds one of another removes it. It runs, rather than being frozen: the watchdogs of
 * its services are kept by its own init, which would end them all when it is thawed after some minutes (sd_watchdog_enabled(3): by CLOCK_MONOTONIC).
 */
import { randomBytes } from 'node:crypto';
import { freemem } from 'node:os';
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { TemplateRecord, VeRecord } from '../store/types.ts';
import { reload, type VeContext } from './context.ts';
import { reserveVe } from './create.ts';
import { bringToLife } from './deploy.ts';
import { removeVe } from './destroy.ts';
import { readRunState } from './run-folder.ts';
import { dropWarmImage, makeWarmImage, warmImageOf } from './warm-image.ts';

/** How long the spares of a template are kept after its last deploy, in milliseconds. */
const KEPT = 3_600_000;

/** How long none is made of a template with which that failed, nor a warm image of one with which that failed, or whose image did not come back; milliseconds. */
const AGAIN = 600_000;

/** Memory that the host must have left for a spare to be made, in bytes. */
const ROOM = 512 << 20;

/** What every spare is called inside, until it is somebody's. */
const NOBODY = 'localhost';

export interface Spares {
  /** The oldest one of a template that still runs. It is the caller's only by `claim`, in the same turn. */
  peek(template: string): VeRecord | undefined;
  claim(uuid: string): void;
  /** How many of a template stand ready. */
  count(template: string): number;
  /** Make what is missing, by operations for which nobody waits; called after each deploy. Never throws. */
  prepare(template: string): void;
  /** Make the spares of each template with an image that was deployed within the time in which they are kept: a new daemon begins so. */
  prepareRecent(): void;
  /** Make a warm image now, in the place of one that is there, and spares of it. @throws VeldError `template.cold` */
  warm(template: TemplateRecord, task: Task): Promise<void>;
  /** Throw image and spares away, and make no more by itself. */
  cool(template: string): Promise<void>;
  /** Remove the spares of a template. */
  drop(template: string): Promise<void>;
  /** Make no more, and remove all. */
  close(): Promise<void>;
}

interface Stock {
  ready: VeRecord[];
  making: number;
  /** When the next try may be, by performance.now(): of a spare, and of a warm image. */
  notBefore: number;
  imageNotBefore: number;
  expiry?: NodeJS.Timeout;
}

/** Make the keeper of spares; `deploy.spares` of the settings says how many a template has. */
export function createSpares(context: VeContext): Spares {
  const { settings, store, operations, log } = context;
  const stocks = new Map<string, Stock>();
  let closed = false;

  const stockOf = (template: string): Stock => {
    let stock = stocks.get(template);
    if (!stock) stocks.set(template, stock = { ready: [], making: 0, notBefore: 0, imageNotBefore: 0 });
    return stock;
  };

  const make = async (template: TemplateRecord, stock: Stock, task: Task): Promise<void> => {
    try {
      const spare = await makeSpare(context, template, task);
      task.commit();
      stock.ready.push(spare);
    } catch (error) {
      if (!task.signal.aborted) {
        stock.notBefore = performance.now() + AGAIN;
        log.warn({ template: template.name, err: error }, 'no spare VE of a template could be made');
      }
      throw error;
    } finally {
      stock.making--;
    }
  };

  const drop = async (template: string): Promise<void> => {
    const stock = stocks.get(template);
    if (!stock) return;
    clearTimeout(stock.expiry);
    for (const { uuid, name } of stock.ready.splice(0)) {
      await removeVe(context, reload(store, uuid)).catch((error: unknown) => log.error({ ve: uuid, name, err: error }, 'a spare VE could not be removed; the next daemon tries again'));
    }
  };

  const warm = async (template: TemplateRecord, task: Task): Promise<void> => {
    await makeWarmImage(context, template, task);
    task.commit();
    await drop(template.fingerprint); // they are of the older one
    prepare(template.fingerprint);
  };

  /** Nobody waits for what it begins, and whoever came by must not be harmed. */
  const prepare = (fingerprint: string, sparesOnly = false): void => {
    const stock = stockOf(fingerprint);
    clearTimeout(stock.expiry);
    stock.expiry = setTimeout(() => void drop(fingerprint), KEPT).unref();
    try {
      const template = store.findTemplate(fingerprint);
      if (closed || !template || !settings.deploy.warm) return;
      if (!warmImageOf(context, fingerprint)) {
        if (sparesOnly || performance.now() < stock.imageNotBefore) return;
        stock.imageNotBefore = performance.now() + AGAIN;
        operations.start({ kind: 'template-warm', ve: null, requestId: null }, (task) => warm(template, task));
        return;
      }
      if (performance.now() < stock.notBefore || freemem() < ROOM) return;
      for (let missing = settings.deploy.spares - stock.ready.length - stock.making; missing > 0; missing--) {
        operations.start({ kind: 'template-spare', ve: null, requestId: null }, (task) => make(template, stock, task));
        stock.making++;
      }
    } catch (error) {
      log.error({ template: fingerprint, err: error }, 'nothing can be made ready of a template');
    }
  };

  return {
    peek: (template) => stocks.get(template)?.ready.find(({ number }) => readRunState(settings, number).init !== undefined),
    claim(uuid) {
      for (const stock of stocks.values()) stock.ready = stock.ready.filter((one) => one.uuid !== uuid);
    },
    count: (template) => stocks.get(template)?.ready.length ?? 0,

    prepare: (template) => prepare(template),
    warm,

    prepareRecent() {
      const recent = store.listVes().filter((ve) => ve.ready && ve.deployed !== null && Date.parse(ve.createdAt) > Date.now() - KEPT);
      for (const template of new Set(recent.map((ve) => ve.template))) prepare(template, true);
    },

    async cool(template) {
      stockOf(template).imageNotBefore = Infinity; // whoever throws it away does not want the next one
      await drop(template);
      await dropWarmImage(context, template);
    },

    drop,

    async close() {
      closed = true;
      await Promise.all([...stocks.keys()].map((template) => drop(template)));
    },
  };
}

/** Bring a VE of the template to life that is nobody's yet. */
async function makeSpare(context: VeContext, template: TemplateRecord, task: Task): Promise<VeRecord> {
  const image = warmImageOf(context, template.fingerprint);
  if (!image) throw new VeldError('template.cold', `There is no warm image of ${template.name}.`);
  const name = `spare-${template.fingerprint.slice(0, 12)}-${randomBytes(2).toString('hex')}`;
  const ve = reserveVe(context, { name, template: template.fingerprint, properties: { hostname: NOBODY, 'network.addresses': 'none' } });
  task.undo('record', () => (context.store.veByUuid(ve.uuid) ? removeVe(context, reload(context.store, ve.uuid)) : undefined));
  await bringToLife(context, ve, image, task);
  return reload(context.store, ve.uuid);
}
