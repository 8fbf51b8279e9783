/** Makes a template of an image that a source offers: its files are brought, checked, and unpacked. */
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import type { Task } from '../ops/types.ts';
import type { TemplateRecord } from '../store/types.ts';
import { checkSignature } from './sources/signature.ts';
import { createDocuments } from './sources/documents.ts';
import { download } from './sources/download.ts';
import { METADATA, parseMetadata, type Metadata } from './sources/metadata.ts';
import type { Image, ImageFile, Source } from './sources/types.ts';
import { fingerprintOf, inspectTree } from './tree.ts';
import type { Staging } from './types.ts';
import { readMember, unpackArchive } from './unpack.ts';

/** What is left of a download that broke off is kept so long, milliseconds. */
const KEPT = 7 * 86_400_000;
/** Most of a detached signature, bytes. */
const SIGNATURE = 64 << 10;
/** Of the work, in percent: until all is there, and until it is unpacked. */
const [THERE, UNPACKED] = [60, 92];

/** An image, where it is, and who vouches for the list that has it. */
export interface PullRequest {
  source: Source;
  image: Image;
  signedBy: string | null;
  /** Of the template. */
  name: string;
  /** False: it may lack an init and a shell. */
  init?: boolean;
}

/**
 * Fill `staging.path` with an image.
 * @param folder of downloads
 * @param options.stall see documents.ts
 * @returns the record without layers and size
 * @throws VeldError `source.unreachable` (what came is kept for the next attempt), `source.corrupt`, `source.untrusted`, `template.invalid`, `disk.full`, `operation.cancelled`
 */
export async function pullImage({ source, image, signedBy, name, init = true }: PullRequest, staging: Staging, folder: string, task: Task, options: { stall?: number; pause?: number } = {}): Promise<Omit<TemplateRecord, 'layers' | 'size'>> {
  forgetOld(folder);
  const total = image.files.reduce((sum, { size }) => sum + (size ?? 0), 0);
  const progress = progressOf(total, (share, text) => task.progress(1 + share * (THERE - 1), text));
  const files: { file: ImageFile; path: string; sha256: string; signedBy: string | null }[] = [];
  // Each in a folder by what it is, so that a later attempt finds it.
  const folders = new Map(image.files.map((file) => [file, join(folder, createHash('sha256').update(file.sha256 ?? `${source.urls[0]}/${file.path}`).digest('hex').slice(0, 32))]));
  let before = 0;
  try {
    for (const [file, own] of folders) {
      mkdirSync(own, { recursive: true, mode: 0o700 });
      const path = join(own, 'data');
      const sha256 = await download(source, file, path, { signal: task.signal, ...options, progress: (bytes) => progress(before + bytes) });
      before += statSync(path).size;
      files.push({ file, path, sha256, signedBy: file.signature === null ? null : await verify(source, file, path, task.signal, options.stall) });
      faultPoint('pull.file');
    }
    await checkFingerprint(image, files.map(({ path }) => path));
    const carrier = files.find(({ file }) => file.role !== 'metadata')!;
    const described = files.find(({ file }) => file.role !== 'tree');
    const metadata = described && await metadataOf(described.path, task.signal);
    mkdirSync(staging.path, { recursive: true, mode: 0o755 });
    await unpackArchive(carrier.path, staging.path, { signal: task.signal, ...carrier.file.role === 'combined' && { within: 'rootfs' }, progress: (share) => task.progress(THERE + share * (UNPACKED - THERE), 'unpacking') });
    task.progress(UNPACKED, 'taking the fingerprint');
    faultPoint('pull.unpacked');
    const facts = inspectTree(staging.path, { init });
    if (init && facts.architecture !== image.architecture) throw new VeldError('template.invalid', `The list says that the image is for ${image.architecture}, and its programs are for ${facts.architecture}.`);
    const fingerprint = await fingerprintOf(staging.path, task.signal);
    const keys = [...new Set([signedBy, ...files.map((each) => each.signedBy)].filter((key) => key !== null))];
    for (const own of folders.values()) rmSync(own, { recursive: true, force: true });
    return {
      fingerprint, name, os: image.os, release: image.release, architecture: facts.architecture, createdAt: new Date().toISOString(),
      source: {
        kind: 'image', source: source.name, product: image.product, serial: image.serial, variant: image.variant, title: image.title, url: source.urls[0], signedBy: keys,
        ...metadata?.description && { description: metadata.description }, ...image.endOfLife !== null && { endOfLife: image.endOfLife },
        files: files.map(({ file, sha256 }) => ({ path: file.path, sha256 })),
      },
    };
  } catch (error) {
    // A broken-off file is gone on with; one that is no good is not looked at again.
    const again = !(error instanceof VeldError) || ['source.unreachable', 'operation.cancelled', 'disk.full'].includes(error.code);
    for (const own of folders.values()) if (!again || !existsSync(join(own, 'data'))) rmSync(own, { recursive: true, force: true });
    throw error;
  }
}

/** @returns fingerprint of the key @throws VeldError `source.untrusted` */
async function verify(source: Source, file: ImageFile, path: string, signal: AbortSignal, stall: number | undefined): Promise<string> {
  const what = `${source.urls[0]}/${file.path}`;
  const signature = await createDocuments(source, { signal, stall }).get(file.signature!, SIGNATURE);
  if (signature === undefined) throw new VeldError('source.untrusted', `${what} is not signed: there is no ${file.signature}.`);
  return (await checkSignature({ file: path, signature }, source.keyring!, what, signal)).signedBy;
}

/** Of all files, one behind the other. @throws VeldError `source.corrupt` */
async function checkFingerprint({ files, fingerprint, product, source }: Image, paths: readonly string[]): Promise<void> {
  if (fingerprint === null || files.length < 2) return; // of one file it is its hash
  const hash = createHash('sha256');
  for (const path of paths) for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Buffer);
  const found = hash.digest('hex');
  if (found !== fingerprint) throw new VeldError('source.corrupt', `The files of ${product} do not belong together: ${source} says that their fingerprint is ${fingerprint}, and it is ${found}.`);
}

/** @throws VeldError `template.invalid` */
export async function metadataOf(path: string, signal?: AbortSignal): Promise<Metadata> {
  const content = await readMember(path, 'metadata.yaml', METADATA, signal);
  if (content === undefined) throw new VeldError('template.invalid', 'The image has no metadata.yaml where its metadata is.');
  return parseMetadata(content);
}

/** Words about how far a download is: share, rate, time left. @param tell called at most four times a second */
function progressOf(total: number, tell: (share: number, text: string) => void): (bytes: number) => void {
  const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(bytes < 10 * 2 ** 20 ? 1 : 0);
  let [begun, first, last]: [number, number, number] = [0, 0, 0];
  return (bytes) => {
    const now = performance.now();
    if (begun === 0) [begun, first] = [now, bytes]; // what an earlier attempt brought says nothing about the rate
    if (now - last < 250 && bytes < total) return;
    last = now;
    const rate = now > begun + 500 ? (bytes - first) / (now - begun) * 1000 : 0;
    const left = rate > 0 && total > bytes ? `, ${formatSeconds((total - bytes) / rate)} left` : '';
    tell(total > 0 ? Math.min(1, bytes / total) : 0, `downloading: ${mib(bytes)}${total > 0 ? ` of ${mib(total)}` : ''} MiB${rate > 0 ? `, ${mib(rate)} MiB/s` : ''}${left}`);
  };
}

function formatSeconds(seconds: number): string {
  return seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.ceil(seconds / 60)} min`;
}

/** Remove what downloads that nobody went on with have left. */
function forgetOld(folder: string): void {
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder)) {
    const path = join(folder, name);
    const data = statSync(join(path, 'data'), { throwIfNoEntry: false }) ?? statSync(path, { throwIfNoEntry: false });
    if (data && Date.now() - data.mtimeMs > KEPT) rmSync(path, { recursive: true, force: true });
  }
}
