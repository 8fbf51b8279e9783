/** The files of a version, made of a template's tree. */
import { createHash, type Hash } from 'node:crypto';
import { closeSync, createWriteStream, fsyncSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { TreeRoot } from '../../kernel/mounts.ts';
import { VeldError } from '../../lib/errors.ts';
import { allEnded, runPiped, type Piped } from '../../lib/piped.ts';
import type { TemplateRecord } from '../../store/types.ts';
import { metadataText, packedTree } from '../write-image.ts';
import type { PublishedFile } from './types.ts';

/** A file that lies in the folder, under the name of what it is. */
export type Packed = Record<'tree' | 'metadata' | 'lxc', PublishedFile> & { openvz: PublishedFile | null; fingerprint: string };

export interface PackOptions {
  /** Root of the template's tree. */
  tree: TreeRoot;
  template: TemplateRecord;
  /** Is made; whoever asks takes it away. */
  folder: string;
  openvz: boolean;
  /** Preset of xz(1). */
  level: number;
  signal: AbortSignal;
  /** Told how much of the work is done, 0 to 1, and in words. */
  onProgress: (share: number, words: string) => void;
}

/** What LXC and Debian's kernel call the same machine (`uname -m`). */
const MACHINES: Readonly<Record<string, string>> = { amd64: 'x86_64', i386: 'i686', arm64: 'aarch64', armhf: 'armv7l' };

/**
 * Pack a tree and what goes with it.
 * @throws VeldError `disk.full`, `command.failed`, `operation.cancelled`
 */
export async function packFiles({ tree, template, folder, openvz, level, signal, onProgress }: PackOptions): Promise<Packed> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const created = Math.floor(Date.parse(template.createdAt) / 1000);
  const machine = MACHINES[template.architecture] ?? template.architecture;
  const small = (name: string, files: Record<string, string>): Promise<PublishedFile> => packTexts(files, created, join(folder, name), signal);
  const metadata = await small('metadata', { 'metadata.yaml': metadataText(template) });
  // lxc-download(1) puts its own paths in the place of the words in capitals; each is taken for any kind of container unless it ends with -user.
  const config = (...more: string[]): string => ['common', ...more].map((name) => `lxc.include = LXC_TEMPLATE_CONFIG/${name}.conf\n`).join('') + `lxc.arch = ${machine}\n`;
  const lxc = await small('lxc', { 'config': config(), 'config-user': config('userns'), 'excludes-user': 'dev/*\n' });
  const most = Math.max(template.size, 1);
  const half = openvz ? 0.7 : 1;
  // As far as what is read of the tree: what is written of it is less, nobody knows how much.
  const packed = async (name: string, packer: [string, string[]], beside: Hash[], from: number, to: number): Promise<PublishedFile> => {
    const read = packedTree(tree, signal);
    const counted = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        onProgress(from + (to - from) * Math.min(1, bytes / most), `${Math.round(bytes / (1 << 20))} MiB packed`);
        done(null, chunk);
      },
    });
    let bytes = 0;
    const fed = pipeline(read.output, counted, { signal });
    fed.catch(() => {}); // the chain tells why
    return writeHashed([read, runPiped(...packer, signal, counted)], join(folder, name), beside, signal);
  };
  const both = createHash('sha256').update(readFileSync(join(folder, 'metadata')));
  const root = await packed('tree', ['xz', ['-T0', `-${level}`, '-c']], [both], 0, half);
  return { metadata, lxc, tree: root, openvz: openvz ? await packed('openvz', ['gzip', ['-6', '-n', '-c']], [], half, 1) : null, fingerprint: both.digest('hex') };
}

/** An archive of small texts. @param at seconds since 1970 */
async function packTexts(files: Record<string, string>, at: number, path: string, signal: AbortSignal): Promise<PublishedFile> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-image-'));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text, { mode: 0o644 });
    const archive = runPiped('tar', ['--create', '--file=-', '--format=ustar', '--numeric-owner', '--owner=0', '--group=0', `--mtime=@${at}`, `--directory=${folder}`, '--', ...Object.keys(files)], signal);
    return await writeHashed([archive, runPiped('xz', ['-6', '-c'], signal, archive.output)], path, [], signal);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Write what comes of a chain, mode 0600, and bring it to the disk. @param beside take the same bytes */
async function writeHashed(chain: readonly Piped[], path: string, beside: readonly Hash[], signal: AbortSignal): Promise<PublishedFile> {
  const fd = openSync(path, 'wx', 0o600);
  try {
    const hash = createHash('sha256');
    let size = 0;
    const counted = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        size += chunk.length;
        for (const each of [hash, ...beside]) each.update(chunk);
        done(null, chunk);
      },
    });
    await pipeline(chain.at(-1)!.output, counted, createWriteStream('', { fd, autoClose: false }), { signal }).catch(async (error: unknown) => {
      if ((error as NodeJS.ErrnoException).code === 'ENOSPC') throw new VeldError('disk.full', `No space left for ${path}.`, { cause: error });
      await allEnded(chain);
      throw error;
    });
    await allEnded(chain);
    fsyncSync(fd);
    return { sha256: hash.digest('hex'), size };
  } finally {
    closeSync(fd);
  }
}
