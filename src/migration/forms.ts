/** What messages of another node must look like: nothing of them is believed, or shown to anybody, before it has been through here. */
import { VeldError } from '../lib/errors.ts';
import { checkTemplateName } from '../spec/names.ts';
import { isUserQuotas } from '../ve/disk.ts';
import { checkSnapshotWord } from '../ve/snapshot.ts';
import { isTemplateRecord } from '../ve/template-verbs.ts';
import { ZSTD } from './packing.ts';
import type { Accept, Arrived, Offer, OfferedSnapshot } from './types.ts';

/** Longest text of another node that is shown, in characters, and most notes. */
const TEXT = 1000;
const NOTES = 20;
/** Layers of its own that a VE or a snapshot may have; snapshots of a VE, and layers that only these stand on. */
export const MOST = { layers: 40, snapshots: 100, snapshotLayers: 1000 };
/** Memory that no machine has, in bytes. */
const MEMORY = 2 ** 50;

/** Extensions of a processor in number. */
const EXTENSIONS = 4096;

const FINGERPRINT = /^[0-9a-f]{64}$/;
const ID = /^[0-9a-f]{32}$/;

/** Text of another node for people: neither control characters nor those that turn the direction of writing. */
export function plain(text: unknown, length = TEXT): string {
  if (typeof text !== 'string') return '';
  // eslint-disable-next-line no-control-regex
  return text.slice(0, length).replaceAll(/[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+/g, ' ');
}

/** A number of another node for people. */
export function shownNumber(value: unknown): string {
  return typeof value === 'number' ? String(value) : 'none';
}

/** Whether this can be the id of a migration. */
export function isId(id: unknown): id is string {
  return typeof id === 'string' && ID.test(id);
}

/** @throws VeldError `migration.stream`; `name.invalid` for the template's */
export function checkForm(offer: Offer): void {
  const { id, epoch, dryRun, copy = false, compress, layers, diskBase, disk, templateLayers, ve, kind, needs } = offer;
  if (!isId(id) || !isCount(epoch) || typeof dryRun !== 'boolean' || typeof copy !== 'boolean' || !isLayers(layers, MOST.layers)
    || !isBase(diskBase) || !isCount(disk) || !isCount(templateLayers) || !['running', 'suspended', 'stopped'].includes(kind)) throw none('an offer');
  if (compress !== undefined && !isTexts(compress)) throw none('an offer of ways to compress');
  if (!isObject(ve) || !['uuid', 'name', 'template', 'mac', 'createdAt', 'resolvers'].every((key) => typeof ve[key as 'uuid'] === 'string') || typeof ve.guestDirty !== 'boolean' || !isObject(ve.properties)
    || !isTexts(ve.addresses) || !FINGERPRINT.test(ve.template) || !isTime(ve.createdAt)) throw none('an offer of a VE');
  if ((kind === 'stopped') !== (needs === null)) throw none('an offer of processes');
  if (needs !== null && (!isObject(needs) || ![needs.engine, needs.architecture, needs.kernel, needs.cgroups].every((text) => typeof text === 'string')
    || !FINGERPRINT.test(needs.engine) || !isTexts(needs.processor) || !(needs.beyond === undefined || isTexts(needs.beyond)) || !isCount(needs.memory) || needs.memory > MEMORY || !isFlag(needs.droppable))) throw none('an offer of processes');
  if (offer.quotas !== undefined && !isUserQuotas(offer.quotas)) throw none('an offer of quotas');
  checkTemplate(offer);
  checkSnapshots(offer);
}

function checkSnapshots({ layers, snapshots, snapshotLayers }: Offer): void {
  if (!isLayers(snapshotLayers, MOST.snapshotLayers) || !Array.isArray(snapshots) || snapshots.length > MOST.snapshots || !snapshots.every(isSnapshot)) throw none('an offer of snapshots');
  for (const { name } of snapshots) checkSnapshotWord(name);
  const places = snapshots.flatMap((snapshot) => snapshot.layers);
  if (new Set(snapshots.map(({ id }) => id)).size < snapshots.length || new Set(snapshots.map(({ name }) => name)).size < snapshots.length) throw none('an offer with a snapshot twice');
  const all = layers.length + snapshotLayers.length;
  if (!places.every((place) => place < all)) throw none('an offer of a snapshot on layers that do not come along');
  const used = new Set(places);
  // Nobody would ever remove it.
  if (!snapshotLayers.every((_layer, place) => used.has(layers.length + place))) throw none('an offer of layers for nothing');
}

function isSnapshot(value: unknown): value is OfferedSnapshot {
  if (!isObject(value)) return false;
  const { id, name, description = '', parent = null, createdAt, properties, layers, engine, processor, memory, droppable } = value;
  return isId(id) && typeof name === 'string' && typeof description === 'string' && (parent === null || isId(parent)) && isTime(createdAt) && isObject(properties) && isCount(memory) && memory <= MEMORY && isTexts(processor) && processor.length <= EXTENSIONS && isFlag(droppable)
    && (engine === null ? memory === 0 && processor.length === 0 : typeof engine === 'string' && FINGERPRINT.test(engine))
    && Array.isArray(layers) && layers.length <= MOST.layers && layers.every(isCount) && new Set(layers).size === layers.length;
}

function checkTemplate({ template, ve }: Offer): void {
  if (!isTemplateRecord(template, ve.template) || !isCount(template.size)) throw none('an offer of a template');
  checkTemplateName(template.name);
}

/** @throws VeldError `migration.stream` */
export function checkAccept({ template, notes, compress }: Accept): Accept {
  if (typeof template !== 'boolean' || !isTexts(notes)) throw none('an answer to an offer');
  return { type: 'accept', template, notes: shownNotes(notes), compress: compress === ZSTD ? ZSTD : null };
}

/** It is there, whatever is wrong with what it says: that is left out. */
export function readArrived({ number, trouble, notes }: Arrived): Pick<Arrived, 'number' | 'trouble'> & { notes: string[] } {
  return { number: isCount(number) ? number : 0, trouble: trouble === null ? null : plain(trouble) || 'It did not say in words what went wrong.', notes: isTexts(notes) ? shownNotes(notes) : [] };
}

function shownNotes(notes: readonly string[]): string[] {
  return notes.slice(0, NOTES).map((note) => plain(note));
}

/** Of users and groups, as a VE counts them, each once. */
function none(what: string): VeldError {
  return new VeldError('migration.stream', `The other node has sent ${what} that is none.`);
}

function isObject<T>(value: T): value is T & Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

/** What need not be said. */
function isFlag(value: unknown): boolean {
  return value === undefined || typeof value === 'boolean';
}

/** First id of a range of ids on a host. */
function isBase(value: unknown): boolean {
  return isCount(value) && value < 2 ** 31 && value % 65_536 === 0;
}

function isLayers(value: unknown, most: number): boolean {
  return Array.isArray(value) && value.length <= most && value.every((layer: unknown) => isObject(layer) && isBase(layer.uidBase));
}

function isTexts(value: unknown): value is string[] {
  return Array.isArray(value) && value.every((text) => typeof text === 'string');
}

/** As Date.toISOString writes it: what else Date.parse takes may hold anything. */
function isTime(value: unknown): boolean {
  return typeof value === 'string' && !Number.isNaN(Date.parse(value)) && new Date(value).toISOString() === value;
}
