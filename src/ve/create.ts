/** `create`: a record, a range of uids, addresses and an empty upper. O(1) in the size of the template. */
import { randomBytes, randomUUID } from 'node:crypto';
import { VeldError } from '../lib/errors.ts';
import type { GuestRow } from '../kernel/guest-rows.ts';
import { openGuestRoot, type GuestRoot } from '../kernel/guest-tree.ts';
import type { Task } from '../ops/types.ts';
import { checkName } from '../spec/names.ts';
import type { Personal } from '../spec/personal.ts';
import { parseProperties, resolveProperties } from '../spec/properties.ts';
import type { LayerRef, Store, TemplateRecord, VeRecord } from '../store/types.ts';
import type { OciCommand } from '../templates/oci/config.ts';
import { updateVe, type VeContext } from './context.ts';
import { checkDisk, spaceOf } from './disk.ts';
import { checkMounts } from './host-mounts.ts';
import { HOST_KEY, sshHostKeys } from './host-keys.ts';
import { filesOf, isWanted } from './identity-files.ts';
import { treeOf } from './layers.ts';
import { removeLogs } from './logs.ts';
import { personalRows } from './personal/lay.ts';
import type { CreateRequest } from './types.ts';
import { allocateRange } from './uid-ranges.ts';

/** OpenVZ keeps the numbers up to 100 to itself. */
const FIRST_NUMBER = 101;
const LAST_NUMBER = 've.lastNumber';

/**
 * Check a request and write the VE's record, still invisible (`ready: false`). Everything that can be refused is refused here,
 * before an operation begins.
 * @param layers of a clone; default: the template's, which must be there then
 * @param spare a VE that stands ready (spares.ts), and becomes this one: number, uids, link-layer address and disk are its
 * @throws VeldError `name.invalid`, `ve.name_taken`, `template.not_found`, `property.*`, `address.*`, `port.taken`, `uid.none_free`
 */
export function reserveVe(context: VeContext, request: CreateRequest, layers?: readonly LayerRef[], spare?: VeRecord): VeRecord {
  const { store, network } = context;
  const name = checkName(request.name);
  const template = store.findTemplate(request.template);
  const set = parseProperties({ ...template && !layers && commandOf(template), ...request.properties });
  context.resources.check(resolveProperties(set));
  checkDisk(context, resolveProperties(set));
  checkMounts(context, resolveProperties(set));
  if (!template && !layers) throw new VeldError('template.not_found', `There is no template ${JSON.stringify(request.template)}.`);
  return store.transaction(() => {
    if (store.veByName(name)) throw new VeldError('ve.name_taken', `There is already a VE named ${name}.`);
    const ves = store.listVes();
    const ve: VeRecord = {
      ...spare ?? {
        uuid: randomUUID(),
        number: nextNumber(store),
        template: template?.fingerprint ?? request.template,
        layers: [...layers ?? template!.layers],
        uidBase: allocateRange(store),
        mac: randomMac(),
        desired: 'stopped',
        ready: false,
        guestDirty: false,
        lastExit: null,
        suspended: null,
        deployed: null,
        notStarted: null,
      },
      name,
      properties: set,
      addresses: [],
      createdAt: new Date().toISOString(),
    };
    ve.addresses = network.assign(ve, ves);
    network.checkPublish(ve, ves);
    if (spare) {
      store.updateVe(ve);
      return ve;
    }
    insertNew(store, ve);
    return ve;
  });
}

/** What runs in a VE of an application image, as properties: the image's own command, which others that are asked for replace. */
function commandOf({ source }: TemplateRecord): Record<string, unknown> {
  const command = source.kind === 'oci' ? source.command as OciCommand | undefined : undefined;
  if (!command || command.args.length === 0) return {};
  return { 'boot.command': command.args, 'boot.env': command.env, 'boot.cwd': command.cwd, 'boot.user': command.user };
}

/** The same for a VE that was one before, with its link-layer address where nobody else has that by now. */
export function reserveAgain(context: VeContext, request: CreateRequest, mac: string, layers?: readonly LayerRef[]): VeRecord {
  const ve = reserveVe(context, request, layers);
  return context.store.listVes().some((other) => other.uuid !== ve.uuid && other.mac === mac) ? ve : updateVe(context.store, ve.uuid, { mac });
}

/** The number of the next VE: none is given twice. */
export function nextNumber(store: Store): number {
  return Math.max(FIRST_NUMBER - 1, store.getMeta<number>(LAST_NUMBER) ?? 0) + 1;
}

/** Write the record of a new VE, whose number is the next one. */
export function insertNew(store: Store, ve: VeRecord): void {
  store.transaction(() => {
    store.setMeta(LAST_NUMBER, ve.number);
    store.insertVe(ve);
  });
}

/** Carry out the creation of a reserved VE. @param personal what its user wants in it (personal/) */
export async function createVe(context: VeContext, ve: VeRecord, task: Task, personal?: Personal): Promise<VeRecord> {
  const { store, volumes } = context;
  task.undo('record', () => forgetRecord(context, ve.uuid));
  task.phase('volume');
  task.progress(5, 'making the disk');
  task.undo('volume', () => volumes.destroyVolume(ve.uuid));
  await makeVolume(context, ve, { personal });
  return store.transaction(() => {
    task.phase('ready');
    return updateVe(store, ve.uuid, { ready: true });
  });
}

export interface FirstFiles {
  /** In the place of another VE's, which the layers below it may hold. */
  anew?: boolean;
  /** On which it will stand; default: the record's. */
  layers?: readonly LayerRef[];
  personal?: Personal | undefined;
}

/** Make the disk of a new VE, with its identity on it, and what its user wants there. */
export async function makeVolume(context: VeContext, ve: VeRecord, first: FirstFiles = {}): Promise<void> {
  const { store, volumes } = context;
  await volumes.createVolume(ve.uuid, ve.uidBase, ve.number, ve.layers, spaceOf(ve));
  const template = store.findTemplate(ve.template);
  if (!template) throw new VeldError('template.not_found', 'The template was deleted meanwhile.');
  // What the user wants comes first: its folders are as they are in the template.
  const rows = await personalRows(context, ve, first.layers ?? ve.layers, first.personal);
  await volumes.seedVolume(ve.uuid, ve.uidBase, [...rows, ...await seedFiles(context, ve, template, first.anew === true)]);
}

/** The identity files of a new VE: they can be laid into the fresh upper, nobody else has touched it. */
async function seedFiles(context: VeContext, ve: VeRecord, template: TemplateRecord, anew: boolean): Promise<GuestRow[]> {
  if (template.layers.length === 0) throw new VeldError('template.invalid', `The template ${template.name} has no layer.`);
  const root = await openGuestRoot(treeOf(context, template));
  try {
    const files: GuestRow[] = [];
    const properties = resolveProperties(ve.properties);
    for (const file of filesOf(context, ve, properties)) {
      if (await isWanted(file, root)) files.push({ path: file.path, content: file.content, mode: 0o644 });
    }
    if (await root.folderExists('/etc/ssh') && await root.exists('/usr/sbin/sshd') && (anew || !(await root.exists(HOST_KEY)))) files.push(...sshHostKeys(`root@${properties.hostname ?? ve.name}`));
    if (anew || await isEmptyFile(root, MACHINE_ID)) files.push({ path: MACHINE_ID, content: `${ve.uuid.replaceAll('-', '')}\n`, mode: 0o444 });
    return files;
  } finally {
    root.close();
  }
}

/**
 * Where systemd keeps who it is, machine-id(5). The template's is empty: then systemd takes it from container_uuid at its first boot, writes it, and waits
 * for the disk twice before it does anything else. The same, written here, costs that boot nothing. A missing file means "first boot", and stays missing.
 */
const MACHINE_ID = '/etc/machine-id';

async function isEmptyFile(root: GuestRoot, path: string): Promise<boolean> {
  try {
    return (await root.readFile(path, 64)).length === 0;
  } catch {
    return false; // none, or something else
  }
}

/** Remove every trace of a VE whose volume is gone. */
export function forgetRecord(context: VeContext, uuid: string): void {
  removeLogs(context.settings, uuid);
  if (context.store.veByUuid(uuid)) context.store.deleteVe(uuid);
}

/** A locally administered, unicast address (IEEE 802: second bit of the first octet set, first bit clear). */
export function randomMac(): string {
  return ['02', ...randomBytes(5).toString('hex').match(/../g)!].join(':');
}
