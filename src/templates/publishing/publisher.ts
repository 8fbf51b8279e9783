/** Publishes templates, and serves them. */
import { mkdirSync, rmSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import { createGate } from '../../lib/gate.ts';
import type { Logger } from '../../lib/log.ts';
import type { Settings } from '../../lib/settings.ts';
import { serverCertificate } from './certificate.ts';
import { packFiles, type Packed } from './pack.ts';
import { checkAliases, findProduct, nameProduct, nextSerial, openvzName, usualAliases, type ProductName } from './products.ts';
import { filesOf, makeDocuments, placeFiles, readRecord, resourcesOf, sweepFiles, writeRecord, type PublicRecord } from './record.ts';
import { createFileServer, type FileServer } from './server.ts';
import { createSigner, ownKeyFolder, type SigningKey } from './signer.ts';
import type { Publication, PublishedProduct, PublishedVersion, Publisher, PublishOptions, Resource, TreeOfTemplate } from './types.ts';
import type { Task } from '../../ops/types.ts';

/** How often listening is tried again where it was not possible, and how often it is looked whether the certificate is still good. Milliseconds. */
const [AGAIN, CARE] = [2000, 3_600_000];

/** @param settings `stateDir` has the folder `published`, see record.ts */
export function createPublisher(settings: Pick<Settings, 'stateDir' | 'images'>, log: Logger): Publisher {
  const { images } = settings;
  const folder = join(settings.stateDir, 'published');
  const signer = createSigner(ownKeyFolder(folder), images.gnupgHome);
  /** What changes the record does it alone. */
  const gate = createGate();
  const counts = { requests: 0, bytes: 0 };
  let record: PublicRecord | undefined;
  let resources: ReadonlyMap<string, Resource> = new Map();
  let key: SigningKey | undefined;
  let authority: string | null = null;
  let error: string | null = null;
  let server: FileServer | undefined;
  const timers: NodeJS.Timeout[] = [];

  const load = (): PublicRecord => {
    if (!record) {
      record = readRecord(folder);
      resources = resourcesOf(folder, record);
    }
    return record;
  };

  /** Make the new lists, and put them in the place of the old ones. From `place` on there is no way back. */
  const change = async (products: PublishedProduct[], task: Task, place: () => void): Promise<void> => {
    const old = load();
    // Lists that are older than one that was seen are not believed: also with a clock that was put back.
    const updated = new Date(Math.max(Date.now(), Date.parse(old.updated) + 1000));
    key = await signer.key();
    if (!key && old.signedBy !== null) throw new VeldError('published.unsigned', 'The lists have been signed until now, and there is no key any more.');
    if (!key) task.warn('Nothing is signed, because gpg is not installed on this node: others have to go by TLS. (apt-get install gpg gpg-agent)');
    const documents = await makeDocuments(products, updated, key, (text) => signer.sign(text));
    faultPoint('template-publish.signed');
    task.commit();
    place();
    faultPoint('template-publish.placed');
    const next: PublicRecord = { format: 1, updated: updated.toISOString(), products, signedBy: key?.fingerprint ?? null, documents };
    writeRecord(folder, next);
    record = next;
    resources = resourcesOf(folder, next);
    faultPoint('template-publish.listed');
    sweepFiles(folder, next);
  };

  const sorted = (products: PublishedProduct[]): PublishedProduct[] => products.toSorted((a, b) => (a.product < b.product ? -1 : 1));

  /** What is there already of it. */
  const before = (name: ProductName, { aliases, openvz }: PublishOptions, fingerprint: string): { product: PublishedProduct | undefined; aliases: string[]; same: boolean } => {
    const { products } = load();
    const product = products.find((each) => each.product === name.product);
    const newest = product?.versions.at(-1);
    return { product, aliases: checkAliases(aliases ? [...usualAliases(name), ...aliases] : product?.aliases ?? usualAliases(name), name, products), same: newest?.template.fingerprint === fingerprint && (openvz !== true || newest.openvz !== null) };
  };

  const publication = (product: PublishedProduct, added: boolean): Publication => {
    const newest = product.versions.at(-1)!;
    return { product: product.product, serial: newest.serial, aliases: product.aliases, bytes: filesOf(newest).reduce((sum, { size }) => sum + size, 0), added, signedBy: load().signedBy };
  };

  const publish = async ({ template, path, check }: TreeOfTemplate, options: PublishOptions, task: Task): Promise<Publication> => {
    const name = nameProduct(template, options.as);
    if (options.openvz) openvzName(name);
    const already = before(name, options, template.fingerprint);
    let packed: Packed | undefined;
    const incoming = join(folder, 'incoming', task.id);
    if (!already.same) {
      task.undo('packed', () => rmSync(incoming, { recursive: true, force: true }));
      task.phase('pack');
      packed = await packFiles({ tree: path, template, folder: incoming, openvz: options.openvz ?? already.product?.versions.at(-1)!.openvz != null, level: options.level ?? 6, signal: task.signal, onProgress: (share, words) => task.progress(1 + share * 94, words) });
      check();
      faultPoint('template-publish.packed');
    }
    task.progress(96, 'signing the lists');
    return gate.alone(async () => {
      task.signal.throwIfAborted();
      // Another one may have been published meanwhile.
      const now = before(name, options, template.fingerprint);
      const old = now.product;
      if (now.same && old && JSON.stringify(now.aliases) === JSON.stringify(old.aliases)) {
        rmSync(incoming, { recursive: true, force: true });
        return publication(old, false);
      }
      const versions = now.same ? old!.versions : [...old?.versions ?? [], await versionOf(template, packed!, nextSerial(Date.now(), old?.versions.at(-1)?.serial), incoming, task)].slice(-images.keep);
      const product: PublishedProduct = { ...name, aliases: now.aliases, endOfLife: typeof template.source.endOfLife === 'string' ? template.source.endOfLife : null, versions };
      task.phase('list');
      await change(sorted([...load().products.filter((each) => each.product !== name.product), product]), task, () => {
        if (packed && !now.same) placeFiles(folder, incoming, filesByName(packed));
        rmSync(incoming, { recursive: true, force: true });
      });
      return publication(product, !now.same);
    });
  };

  const versionOf = async (template: TreeOfTemplate['template'], packed: Packed, serial: string, incoming: string, task: Task): Promise<PublishedVersion> => {
    const { tree, metadata, lxc, openvz, fingerprint } = packed;
    const signature = openvz && await signer.key() ? await signer.detach(join(incoming, 'openvz'), task.signal) : null;
    return { serial, template: { name: template.name, fingerprint: template.fingerprint }, tree, metadata, lxc, fingerprint, openvz: openvz && { ...openvz, signature } };
  };

  const listen = async (): Promise<void> => {
    const [, host = '', port] = /^\[?([^\]]*?)\]?:(\d+)$/.exec(images.listen) ?? [];
    const certificate = (): ReturnType<typeof serverCertificate> | null => {
      if (images.scheme === 'http') return null;
      mkdirSync(folder, { recursive: true, mode: 0o700 });
      const made = serverCertificate(join(folder, 'tls.json'), images);
      ({ authority } = made);
      return made;
    };
    let tls: ReturnType<typeof certificate>;
    try {
      tls = certificate();
      const made = createFileServer({ resources: () => resources, tls, log, onAnswer: (bytes) => { counts.requests += 1; counts.bytes += bytes; } });
      await made.listen(host, Number(port));
      server = made;
    } catch (cause) {
      throw cause instanceof VeldError ? cause : new VeldError('published.not_listening', `Templates cannot be served at ${images.listen}: ${(cause as Error).message}.`, { cause });
    }
    error = null;
    log.info({ address: images.listen, scheme: images.scheme }, 'published templates are served');
    if (!tls) return;
    const care = setInterval(() => {
      try {
        const next = certificate();
        if (next && next.cert !== tls?.cert) server?.renew(next);
        tls = next;
      } catch (cause) {
        log.error({ err: cause }, 'the certificate of the server of images could not be renewed');
      }
    }, CARE);
    timers.push(care.unref());
  };

  return {
    list: () => load().products,
    publish,
    unpublish: (name, serial, task) => gate.alone(async () => {
      task.signal.throwIfAborted();
      const { products } = load();
      const product = findProduct(products, name);
      const gone = serial === undefined ? product.versions : product.versions.filter((version) => version.serial === serial);
      if (gone.length === 0) throw new VeldError('published.not_found', `There is no version ${JSON.stringify(serial?.slice(0, 40))} of ${product.product}.`);
      const left = product.versions.filter((version) => !gone.includes(version));
      task.phase('list');
      await change(sorted([...products.filter((each) => each !== product), ...left.length > 0 ? [{ ...product, versions: left }] : []]), task, () => {});
      return { product: product.product, serials: gone.map((version) => version.serial) };
    }),
    async start(heard) {
      rmSync(join(folder, 'incoming'), { recursive: true, force: true });
      sweepFiles(folder, load());
      if (images.listen === '') return;
      try {
        await listen();
      } catch (cause) {
        ({ message: error } = cause as VeldError);
        // The address may come later than the daemon: after a boot of the host, say.
        let trying = false;
        const again = setInterval(() => {
          if (trying) return;
          trying = true;
          void listen().then(() => {
            clearInterval(again);
            heard();
          }, () => {}).finally(() => { trying = false; });
        }, AGAIN);
        timers.push(again.unref());
        throw cause;
      }
    },
    state() {
      const { signedBy, documents } = load();
      return {
        url: images.listen === '' ? null : `${images.scheme}://${images.address || images.listen.replace(/^(0\.0\.0\.0|\[::\])(?=:)/, hostname().toLowerCase())}`, error, authority,
        key: signedBy === null ? null : { fingerprint: signedBy, armored: documents['key.asc'] ?? key?.armored ?? '' }, ...counts,
      };
    },
    async close() {
      for (const timer of timers) clearInterval(timer);
      await server?.close();
    },
  };
}

/** Files by their names in the folder in which they were made. */
function filesByName({ tree, metadata, lxc, openvz }: Packed): (readonly [string, Packed['tree']])[] {
  return [['tree', tree], ['metadata', metadata], ['lxc', lxc], ...openvz ? [['openvz', openvz] as const] : []];
}
