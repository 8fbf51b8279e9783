/** Images that sources offer, templates that are made of them, and images that are made of templates. */
import { isAbsolute, join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import type { OperationManager } from '../ops/operations.ts';
import type { Task } from '../ops/types.ts';
import type { OperationRecord, TemplateRecord } from '../store/types.ts';
import { checkTemplateName } from '../spec/names.ts';
import { debianArchitecture } from '../kernel/package-sources.ts';
import { writeImage, type ImageCompression } from '../templates/write-image.ts';
import { authFileOf, fillFromOci } from '../templates/oci/fill.ts';
import { isOci, parseOci, type OciReference } from '../templates/oci/reference.ts';
import { newest } from '../templates/sources/catalogue.ts';
import { findSource, listSources } from '../templates/sources/config.ts';
import type { Image, Source } from '../templates/sources/types.ts';
import type { PullRequest } from '../templates/pull.ts';
import type { VeContext } from './context.ts';
import { treeOf } from './layers.ts';
import { deleteTemplate, findTemplate, makeTemplate } from './template-verbs.ts';
import type { TemplateView } from './types.ts';

/** What a source has, as it is listed. */
export type ImageView = Omit<Image, 'files'> & {
  /** What to ask for it by. */
  name: string;
  /** Bytes to be brought; null: its source does not say. */
  bytes: number | null;
  /** Names of templates here that were made of this version. */
  here: string[];
};

export interface ImageSearch {
  /** Words that must all be in its names or title. */
  words?: readonly string[];
  source?: string;
  /** Also those for other machines, and older versions. */
  all?: boolean;
}

export interface PullOrder {
  /** As people say it; see sources/catalogue.ts. */
  image: string;
  /** Of the template; default by the image: `ubuntu-24.04`. */
  name?: string;
  /** As Debian names it; default that of the host. */
  architecture?: string;
  /** False: it may lack an init and a shell. */
  init?: boolean;
  /** A template that is here under its name and is of the same image will do, whatever its version. */
  any?: boolean;
}

export interface ImageManager {
  sources(): Source[];
  /** @throws VeldError `source.not_found`; sources that could not be asked are told beside what the others have */
  images(search: ImageSearch): Promise<{ images: ImageView[]; failed: { source: string; code: string; message: string }[] }>;
  pullTemplate(order: PullOrder, requestId: string | null): OperationRecord;
  /**
   * Bring the newest version of a template that came from a source: it gets the name, and the one that had it is called by its version, or goes when no VE stands on it.
   * @param keep it stays in any case
   */
  updateTemplate(key: string, options: { keep?: boolean }, requestId: string | null): OperationRecord;
  /** Write a template into a file that Incus, LXD and other nodes take; its result is the file and its bytes. */
  exportTemplate(key: string, options: { file: string; compress?: ImageCompression }, requestId: string | null): OperationRecord;
}

/** What the record of such a template says of where it is from. */
interface Origin {
  kind: 'image';
  source: string;
  product: string;
  serial: string;
  /** A newer version has taken its name; it stays for the VEs on it, or because somebody said so. */
  replaced?: 'used' | 'kept';
}

export function imageManager(context: VeContext, operations: Pick<OperationManager, 'start'>, spares: { drop(template: string): Promise<void> }, view: (template: TemplateRecord) => TemplateView): ImageManager {
  const { settings, store, images } = context;
  /** Products that are being brought: two that fill the same files would spoil both. */
  const busy = new Set<string>();
  const alone = async <T>({ image: { source, product } }: Pick<PullRequest, 'image'>, work: () => Promise<T>): Promise<T> => {
    const key = `${source} ${product}`;
    if (busy.has(key)) throw new VeldError('image.busy', `${product} of ${source} is being brought already.`);
    busy.add(key);
    try {
      return await work();
    } finally {
      busy.delete(key);
    }
  };

  const update = async (old: TemplateRecord, origin: Origin, keep: boolean, task: Task): Promise<TemplateView & { updated: boolean }> => {
    const source = findSource(settings, origin.source);
    task.progress(1, `asking ${source.name}`);
    const { images: all, signedBy } = await images.catalogues.of(source, task.signal);
    const image = newest(all.filter(({ product }) => product === origin.product));
    if (!image) throw new VeldError('image.not_found', `${source.name} has no ${origin.product} any more.`, { hint: 'The template stays as it is. See `veld template search` for what came after it.' });
    const newer = image.serial > origin.serial;
    const kept = { fingerprint: old.fingerprint, name: nameFor(old, origin.serial), source: { ...old.source, replaced: keep ? 'kept' : 'used' } };
    const after = newer ? await alone({ image }, () => makeTemplate(context, (staging) => images.pull({ source, image, signedBy, name: old.name }, staging, task), task, { replaced: kept })) : view(old);
    await dropReplaced(origin, task);
    return { ...after, updated: newer };
  };

  /** Remove versions that were replaced, and on which no VE stands any more. */
  const dropReplaced = async ({ source, product }: Origin, task: Task): Promise<void> => {
    for (const { fingerprint, name, source: its } of store.listTemplates()) {
      if (!isOrigin(its) || its.source !== source || its.product !== product || its.replaced !== 'used' || store.listVes().some(({ template }) => template === fingerprint)) continue;
      await spares.drop(fingerprint);
      await deleteTemplate(context, fingerprint, { ...task, phase() {}, commit() {}, undo() {} }).catch((error: unknown) => {
        // Somebody has made a VE of it meanwhile, or a snapshot stands on it.
        task.warn(`${name} stays: ${(error as Error).message}`);
      });
    }
  };

  /** What the template that is replaced is called. */
  const nameFor = ({ name }: TemplateRecord, serial: string): string => {
    const wanted = `${name.slice(0, 40)}-${serial.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-').slice(0, 16)}`.replace(/-$/, '');
    for (let n = 1; ; n += 1) {
      const free = n === 1 ? wanted : `${wanted}-${n}`;
      if (!store.findTemplate(free)) return free;
    }
  };

  /** An application image: no list has it, and nobody has signed one. */
  const pullOci = (reference: OciReference, name: string | undefined, architecture: string, any: boolean, requestId: string | null): OperationRecord => {
    const called = checkTemplateName(name ?? reference.name);
    const taken = store.findTemplate(called);
    const same = taken?.source.kind === 'oci' && taken.source.reference === reference.text;
    if (taken && !(any && same)) throw new VeldError('template.name_taken', `There is a template named ${called} already.`, { hint: 'Choose another name with --name.' });
    return operations.start({ kind: 'template-pull', ve: null, requestId }, async (task) => (taken ? view(taken) : makeTemplate(context, (staging) => fillFromOci({ reference, name: called, architecture, scratch: join(settings.stateDir, 'cache'), authFile: authFileOf(settings.sourcesDir) }, staging, task), task)));
  };

  return {
    sources: () => listSources(settings),
    async images({ words = [], source, all = false }) {
      const { images: found, failed } = await images.catalogues.all(source);
      const here = new Map<string, string[]>();
      for (const { name, source: origin } of store.listTemplates()) {
        if (!isOrigin(origin)) continue;
        const key = [origin.source, origin.product, origin.serial].join(' ');
        here.set(key, [...here.get(key) ?? [], name]);
      }
      const newestOf = new Map<string, Image>();
      for (const image of found) {
        const key = `${image.source} ${image.product}`;
        newestOf.set(key, newest([image, ...newestOf.get(key) ? [newestOf.get(key)!] : []])!);
      }
      const mine = debianArchitecture();
      const wanted = (all ? found : [...newestOf.values()].filter(({ architecture }) => architecture === mine)).filter((image) => {
        const text = [image.source, image.product, image.os, image.release, image.codename, image.variant, image.title, ...image.aliases].join(' ').toLowerCase();
        return words.every((word) => text.includes(word.toLowerCase().replace(':', ' ')) || text.includes(word.toLowerCase()));
      });
      return {
        images: wanted.map(({ files, ...image }) => ({
          ...image, name: `${image.os}:${image.release}${['default', 'server'].includes(image.variant) ? '' : `/${image.variant}`}`, here: here.get([image.source, image.product, image.serial].join(' ')) ?? [],
          bytes: files.every(({ size }) => size !== null) ? files.reduce((sum, { size }) => sum + size!, 0) : null,
        })),
        failed: failed.map(({ source: name, error }) => ({ source: name, code: error.code, message: error.message })),
      };
    },
    pullTemplate({ image: wanted, name, architecture = debianArchitecture(), init, any = false }, requestId) {
      if (name !== undefined) {
        checkTemplateName(name);
        if (store.findTemplate(name)) throw new VeldError('template.name_taken', `There is a template named ${name} already.`);
      }
      if (isOci(wanted)) return pullOci(parseOci(wanted), name, architecture, any, requestId);
      return operations.start({ kind: 'template-pull', ve: null, requestId }, async (task) => {
        task.progress(1, 'asking the sources');
        const found = await images.catalogues.find(wanted, architecture, task.signal);
        const called = checkTemplateName(name ?? templateNameOf(found.image));
        const taken = store.findTemplate(called);
        // Asked for once more what is here already: that is no fault.
        if (taken && isOrigin(taken.source) && taken.source.product === found.image.product && (any || taken.source.serial === found.image.serial) && taken.source.source === found.source.name) return view(taken);
        if (taken) throw new VeldError('template.name_taken', `There is a template named ${called} already.`, { hint: isOrigin(taken.source) && taken.source.product === found.image.product ? `Bring its newest version: \`veld template update ${called}\`.` : 'Choose another name with --name.' });
        return alone(found, () => makeTemplate(context, (staging) => images.pull({ ...found, name: called, ...init !== undefined && { init } }, staging, task), task));
      });
    },
    exportTemplate(key, { file, compress = 'zstd' }, requestId) {
      const template = findTemplate(context, key);
      if (!isAbsolute(file)) throw new VeldError('export.file', `${JSON.stringify(file.slice(0, 200))} is not an absolute path.`);
      return operations.start({ kind: 'template-export', ve: null, requestId }, async (task) => {
        const bytes = await writeImage({
          tree: treeOf(context, template), template, file, compress, signal: task.signal,
          onProgress: (done) => task.progress(Math.min(98, 1 + 97 * done / Math.max(template.size, done, 1)), `${Math.round(done / (1 << 20))} MiB written`),
        });
        return { file, bytes };
      });
    },
    updateTemplate(key, { keep = false }, requestId) {
      const old = findTemplate(context, key);
      const origin = old.source;
      if (!isOrigin(origin)) throw new VeldError('image.not_found', `The template ${old.name} did not come from a source.`, { hint: 'Build or import it anew.' });
      if (origin.replaced !== undefined) throw new VeldError('image.not_found', `The template ${old.name} is an older version, which a newer one has replaced.`, { hint: 'Update the newer one: see `veld template list`.' });
      findSource(settings, origin.source);
      return operations.start({ kind: 'template-update', ve: null, requestId }, (task) => update(old, origin, keep, task));
    },
  };
}

/** What a template is called for which no name was given. */
export function templateNameOf({ os, release, variant }: Pick<Image, 'os' | 'release' | 'variant'>): string {
  return `${os}-${release}${['default', 'server'].includes(variant) ? '' : `-${variant}`}`.toLowerCase().replaceAll('_', '-');
}

function isOrigin(source: Record<string, unknown>): source is Record<string, unknown> & Origin {
  return source.kind === 'image' && ['source', 'product', 'serial'].every((key) => typeof source[key] === 'string');
}
