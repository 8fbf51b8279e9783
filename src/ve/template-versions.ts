/**
 * Versions of a template: a name belongs to the newest, or to the one that was put back, and the others are called by their number. Which templates were versions of which name is this node's own knowledge;
 * each is a template as any other, and goes by `template delete`.
 */
import { VeldError } from '../lib/errors.ts';
import type { Task } from '../ops/types.ts';
import type { Store, TemplateRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { findTemplate } from './template-verbs.ts';

/** A version as it is listed. */
export interface VersionView {
  number: number;
  /** What it is called now. */
  name: string;
  fingerprint: string;
  /** It has the name. */
  current: boolean;
  /** ISO 8601. */
  createdAt: string;
  /** Of the VE that it was made of; null: it was not made of one here. */
  ve: string | null;
  description: string;
  /** Bytes of what is its own: of its uppermost layer. */
  size: number;
  layers: number;
  /** VEs that stand on it. */
  uses: number;
}

/** Name -> its versions, also those that are gone: a number is never given twice. */
type Lines = Record<string, { fingerprint: string; number: number }[]>;

const KEY = 'template.versions';

interface Line {
  name: string;
  /** Oldest first. */
  versions: { number: number; template: TemplateRecord }[];
  /** Of the next one. */
  next: number;
}

/** The versions among which a template is. One that has never been replaced is its own first. */
function lineOf(store: Store, template: TemplateRecord): Line {
  const lines = store.getMeta<Lines>(KEY) ?? {};
  const name = Object.keys(lines).find((line) => lines[line]!.some(({ fingerprint }) => fingerprint === template.fingerprint)) ?? template.name;
  const known = [...Object.hasOwn(lines, name) ? lines[name]! : []];
  const next = (): number => Math.max(0, ...known.map(({ number }) => number)) + 1;
  // Somebody may have made another template of that name, after all versions were deleted or called otherwise.
  const now = store.findTemplate(name);
  if (now?.name === name && !known.some(({ fingerprint }) => fingerprint === now.fingerprint)) known.push({ fingerprint: now.fingerprint, number: next() });
  const templates = new Map(store.listTemplates().map((one) => [one.fingerprint, one]));
  return { name, next: next(), versions: known.flatMap(({ fingerprint, number }) => (templates.has(fingerprint) ? [{ number, template: templates.get(fingerprint)! }] : [])) };
}

/** Note which number a template has among the versions of a name. To be called in a transaction. */
function note(store: Store, name: string, versions: readonly { fingerprint: string; number: number }[]): void {
  const lines = store.getMeta<Lines>(KEY) ?? {};
  const before = Object.hasOwn(lines, name) ? lines[name]! : [];
  const changed = new Set(versions.map(({ fingerprint }) => fingerprint));
  store.setMeta(KEY, { ...lines, [name]: [...before.filter(({ fingerprint }) => !changed.has(fingerprint)), ...versions].toSorted((a, b) => a.number - b.number) });
}

/** What the template that has a name is called when another one takes it. */
function nameOf(store: Store, line: string, number: number): string {
  const wanted = `${line.slice(0, 50)}-v${number}`;
  for (let n = 1; ; n += 1) {
    const free = n === 1 ? wanted : `${wanted}-${n}`;
    if (!store.findTemplate(free)) return free;
  }
}

/** What is to be done when a new version takes the place of a template: for `makeTemplate`. */
export function succession(store: Store, old: TemplateRecord): { replaced: Pick<TemplateRecord, 'fingerprint' | 'name' | 'source'>; kept: (template: TemplateRecord) => void } {
  const { name, versions, next } = lineOf(store, old);
  const { number } = versions.find(({ template }) => template.fingerprint === old.fingerprint)!;
  return {
    replaced: { fingerprint: old.fingerprint, name: nameOf(store, name, number), source: { ...old.source, replaced: 'kept' } },
    kept: (template) => note(store, name, [{ fingerprint: old.fingerprint, number }, { fingerprint: template.fingerprint, number: next }]),
  };
}

/** Of a name, or of the one among whose versions a template is. Newest first. @throws VeldError `template.not_found` */
export function templateHistory(context: Pick<VeContext, 'store'>, key: string, uses: (template: TemplateRecord) => number): VersionView[] {
  const { store } = context;
  const { name, versions } = lineOf(store, findVersioned(context, key));
  return versions.map(({ number, template }) => ({
    number, name: template.name, fingerprint: template.fingerprint, current: template.name === name, createdAt: template.createdAt, ve: typeof template.source.ve === 'string' ? template.source.ve : null,
    description: typeof template.source.description === 'string' ? template.source.description : '', size: store.layer(template.layers.at(-1)?.id ?? '')?.size ?? 0, layers: template.layers.length, uses: uses(template),
  })).toReversed();
}

/** A template, or the newest version of a name whose template was deleted. */
function findVersioned(context: Pick<VeContext, 'store'>, key: string): TemplateRecord {
  const { store } = context;
  const lines = store.getMeta<Lines>(KEY) ?? {};
  const left = store.findTemplate(key) ?? (Object.hasOwn(lines, key) ? lines[key]!.toReversed().map(({ fingerprint }) => store.findTemplate(fingerprint)).find((one) => one !== undefined) : undefined);
  return left ?? findTemplate(context as VeContext, key);
}

/**
 * Find the version that is to have the name again.
 * @param version number (`2`, `v2`), name or fingerprint; default: the one before that which has the name
 * @throws VeldError `template.not_found`, `version.not_found`
 */
export function findVersion(context: Pick<VeContext, 'store'>, key: string, version?: string): { line: string; current: { number: number; template: TemplateRecord } | undefined; wanted: { number: number; template: TemplateRecord } } {
  const { name, versions } = lineOf(context.store, findVersioned(context, key));
  const current = versions.find(({ template }) => template.name === name);
  const number = /^v?(\d{1,9})$/.exec(version ?? '')?.[1];
  const wanted = version === undefined ? versions.findLast((one) => one.number < (current?.number ?? Infinity))
    : versions.find((one) => (number === undefined ? one.template.name === version || (version.length >= 8 && one.template.fingerprint.startsWith(version)) : one.number === Number(number)));
  if (!wanted) throw new VeldError('version.not_found', version === undefined ? `${name} has no version before the one that it is.` : `${name} has no version ${JSON.stringify(version.slice(0, 80))}.`);
  if (wanted === current) throw new VeldError('version.not_found', `${name} is version ${wanted.number} already.`);
  return { line: name, current, wanted };
}

/** Give the name to another version. VEs stay on what they stand on. */
export function rollBackTemplate(context: VeContext, key: string, version: string | undefined, task: Task): { name: string; version: number; before: string | null; fingerprint: string } {
  const { store } = context;
  task.phase('roll-back');
  const done = store.transaction(() => {
    const { line, current, wanted } = findVersion(context, key, version);
    const before = current ? nameOf(store, line, current.number) : null;
    if (current) store.updateTemplate(current.template.fingerprint, { name: before!, source: { ...current.template.source, replaced: 'kept' } });
    const { replaced: _, ...source } = wanted.template.source;
    store.updateTemplate(wanted.template.fingerprint, { name: line, source });
    note(store, line, [wanted, ...current ? [current] : []].map(({ number, template }) => ({ fingerprint: template.fingerprint, number })));
    return { name: line, version: wanted.number, before, fingerprint: wanted.template.fingerprint };
  });
  task.commit();
  context.events.emit('template.rolled-back', { data: done });
  return done;
}
