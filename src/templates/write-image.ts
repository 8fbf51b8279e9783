/**
 * A template as one file that Incus, LXD and Veld take: a tar archive with metadata.yaml and the tree below rootfs/. Source: Incus' documentation, "Image format".
 */
import { createWriteStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { stringify } from 'yaml';
import { startBox } from '../kernel/box.ts';
import type { TreeRoot } from '../kernel/mounts.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { writeNewFile } from '../lib/new-file.ts';
import { allEnded, runPiped, type Piped } from '../lib/piped.ts';
import type { TemplateRecord } from '../store/types.ts';

export type ImageCompression = 'zstd' | 'gzip' | 'xz' | 'none';

/** Programs that compress, the same bytes for the same input. */
const COMPRESSORS: Readonly<Record<ImageCompression, [program: string, args: string[]] | null>> = {
  zstd: ['zstd', ['-q', '-T0', '-3', '-c']], gzip: ['gzip', ['-6', '-n', '-c']], xz: ['xz', ['-T0', '-c']], none: null,
};

export interface WriteImageOptions {
  /** Root of the template's tree. */
  tree: TreeRoot;
  template: Pick<TemplateRecord, 'name' | 'os' | 'release' | 'architecture' | 'createdAt' | 'source'>;
  /** The file to be; it must not be there yet. */
  file: string;
  compress: ImageCompression;
  signal: AbortSignal;
  /** Told how many bytes were written. */
  onProgress: (bytes: number) => void;
}

/** What Incus calls a machine that Debian calls otherwise (`uname -m`). */
const MACHINES: Readonly<Record<string, string>> = { amd64: 'x86_64', arm64: 'aarch64', i386: 'i686', armhf: 'armv7l' };

/** metadata.yaml of a template. */
export function metadataText({ name, os, release, architecture, createdAt, source }: WriteImageOptions['template']): string {
  const description = typeof source.description === 'string' ? source.description : `${name} (Veld)`;
  return stringify({
    architecture: MACHINES[architecture] ?? architecture, creation_date: Math.floor(Date.parse(createdAt) / 1000),
    properties: { description, name, os, release, ...typeof source.variant === 'string' && { variant: source.variant }, ...typeof source.serial === 'string' && { serial: source.serial } },
    templates: {},
  });
}

/** How trees are read for images: the same tree gives the same bytes. Attributes of overlayfs are no part of one. In a box there are no names of users: so ACLs have numbers, not the names that this host has for them. */
const READ = [
  '/usr/bin/tar', '--create', '--file=-', '--format=posix', '--pax-option=delete=atime,delete=ctime', '--numeric-owner', '--sort=name', '--acls', '--xattrs', '--xattrs-include=security.capability', '--xattrs-include=user.*', '--sparse',
  '--one-file-system',
];

function packedInBox(args: readonly string[], folders: { in: TreeRoot; out?: string }, signal: AbortSignal): Piped {
  const box = startBox([...READ, ...args], { ...folders, links: 'refused', capabilities: ['dac_read_search'], stdout: 'pipe', signal });
  const ended = box.ended.then(({ code, said }) => {
    if (code !== 0) throw new VeldError('command.failed', `tar ended with status ${code}: ${said}`);
  });
  ended.catch(() => {}); // whoever waits hears of it
  return { output: box.stdout!, ended };
}

/** A tree as an archive of its own. */
export function packedTree(tree: TreeRoot, signal: AbortSignal): Piped {
  return packedInBox(['--directory=/in', '.'], { in: tree }, signal);
}

/**
 * The archive. Links are left as they are; what a hard link leads to moves with it.
 * @param tree goes below rootfs/ @param folder with metadata.yaml
 */
function packed(tree: TreeRoot, folder: string, signal: AbortSignal): Piped {
  return packedInBox(['--directory=/out', 'metadata.yaml', '--directory=/in', '--transform=flags=rSh;s,^\\.,rootfs,', '.'], { in: tree, out: folder }, signal);
}

/**
 * Write it, mode 0600. The name appears when all is on the disk.
 * @returns bytes
 * @throws VeldError `export.file` when the name is taken or cannot be written, `disk.full`, `operation.cancelled`
 */
export async function writeImage({ tree, template, file, compress, signal, onProgress }: WriteImageOptions): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-image-'));
  try {
    return await writeNewFile(file, 'export.file', async (fd) => {
      writeFileSync(join(folder, 'metadata.yaml'), metadataText(template), { mode: 0o644 });
      const chain = [packed(tree, folder, signal)];
      const packer = COMPRESSORS[compress];
      if (packer) chain.push(runPiped(...packer, signal, chain.at(-1)!.output));
      let bytes = 0;
      const counted = new Transform({
        transform(chunk: Buffer, _encoding, done) {
          bytes += chunk.length;
          onProgress(bytes);
          done(null, chunk);
        },
      });
      const written = pipeline(chain.at(-1)!.output, counted, createWriteStream('', { fd, autoClose: false }), { signal });
      await written.catch(async (error: unknown) => {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') await allEnded(chain); // why a program has ended says more
        throw error;
      });
      await allEnded(chain);
      faultPoint('template-export.written');
      return bytes;
    });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
