/** A server of images on loopback, for tests: files of a folder, by HTTP with ranges, and what servers do when they fail. */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

/** What it does with a request instead of answering it. */
export type Fault =
  /** The connection ends after so many bytes of the answer. */
  | { drop: number }
  /** Nothing more comes after so many bytes. */
  | { stall: number }
  | { status: number }
  | { to: string }
  /** Ranges are not known. */
  | { whole: true };

export interface ImageServer {
  url: string;
  /** What it serves. */
  folder: string;
  /** Path, and the range that was asked for, of each request. */
  requests: { path: string; range: string | undefined }[];
  /** For the next requests of a path, one each. */
  faults: Map<string, Fault[]>;
  close(): Promise<void>;
}

export async function startImageServer(): Promise<ImageServer> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-images-'));
  const requests: ImageServer['requests'] = [];
  const faults: ImageServer['faults'] = new Map();
  const held = new Set<ServerResponse>();
  const server = createServer((request, answer) => {
    const path = decodeURI(request.url ?? '/').slice(1);
    requests.push({ path, range: request.headers.range });
    const fault = faults.get(path)?.shift();
    const file = join(folder, path);
    if (fault && 'to' in fault) answer.setHeader('location', fault.to);
    const status = fault && 'status' in fault ? fault.status : fault && 'to' in fault ? 302 : path.includes('..') || !statSync(file, { throwIfNoEntry: false })?.isFile() ? 404 : 200;
    if (status !== 200) {
      answer.writeHead(status).end();
      return;
    }
    const content = readFileSync(file);
    const from = fault && 'whole' in fault ? undefined : /^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1];
    const start = Number(from ?? 0);
    const part = content.subarray(start);
    answer.writeHead(from === undefined ? 200 : 206, { 'content-length': part.length, ...from !== undefined && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` } });
    if (fault && 'drop' in fault) answer.write(part.subarray(0, fault.drop), () => answer.destroy());
    else if (fault && 'stall' in fault) {
      held.add(answer);
      answer.write(part.subarray(0, fault.stall));
    } else answer.end(part);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, folder, requests, faults,
    async close() {
      for (const answer of held) answer.destroy();
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
      rmSync(folder, { recursive: true, force: true });
    },
  };
}

/** A key that signs. */
export interface SigningKey {
  /** Its public part, armored. */
  keyring: string;
  fingerprint: string;
  /** An OpenPGP cleartext signed message of a text. @param options further ones of gpg(1) */
  sign(text: string, options?: readonly string[]): string;
  /** A detached signature of a file, armored. */
  detach(file: string): string;
  remove(): void;
}

/** Make one. @param expires as gpg takes it: `never`, `seconds=1` @param clock what gpg shall take for the time, here and when it signs: `20200101T000000` */
export function makeKey(name: string, expires = 'never', clock?: string): SigningKey {
  const home = mkdtempSync(join(tmpdir(), 'veld-gpg-'));
  const gpg = (args: readonly string[], input?: string): string => execFileSync('/usr/bin/gpg', ['--homedir', home, '--batch', '--quiet', '--no-tty', '--pinentry-mode', 'loopback', '--passphrase', '', ...clock === undefined ? [] : ['--faked-system-time', `${clock}!`], ...args], { encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'], ...input !== undefined && { input } });
  gpg(['--quick-generate-key', `${name} <${name}@example.org>`, 'ed25519', 'sign', expires]);
  const fingerprint = /^fpr:+([0-9A-F]{40}):/m.exec(gpg(['--list-keys', '--with-colons']))![1]!;
  const keyring = join(home, 'public.asc');
  writeFileSync(keyring, gpg(['--armor', '--export', fingerprint]));
  return {
    keyring, fingerprint,
    sign: (text, options = []) => gpg([...options, '--clearsign', '--output', '-'], text),
    detach: (file) => gpg(['--armor', '--detach-sign', '--output', '-', file]),
    remove() {
      execFileSync('/usr/bin/gpgconf', ['--homedir', home, '--kill', 'all'], { stdio: 'ignore' });
      rmSync(home, { recursive: true, force: true });
    },
  };
}

/** What a test server lists. */
export interface ServedImage {
  os: string;
  release: string;
  version?: string;
  variant?: string;
  architecture?: string;
  aliases?: string;
  endOfLife?: string;
  /** By their serial, the files of each: type -> path below the folder. `extra`: put over the fields of an item. */
  versions: Record<string, { ftype: string; path: string; extra?: Record<string, unknown> }[]>;
}

/**
 * List images as simplestreams does.
 * @param key signs; null: nobody does
 */
export function writeStreams({ folder }: Pick<ImageServer, 'folder'>, images: readonly ServedImage[], key: Pick<SigningKey, 'sign'> | null, { updated = new Date(), detached }: { updated?: Date; detached?: SigningKey } = {}): void {
  const products = Object.fromEntries(images.map(({ os, release, version, variant = 'default', architecture = hostArchitecture(), aliases = '', endOfLife, versions }) => [`${os.toLowerCase()}:${release}:${architecture}:${variant}`, {
    os, release, release_title: release, variant, arch: architecture, aliases, ...version !== undefined && { version }, ...endOfLife !== undefined && { support_eol: endOfLife },
    versions: Object.fromEntries(Object.entries(versions).map(([serial, items]) => [serial, { items: Object.fromEntries(items.map(({ ftype, path, extra }) => {
      const content = readFileSync(join(folder, path));
      return [ftype, { ftype, path, size: content.length, sha256: createHash('sha256').update(content).digest('hex'), ...extra }];
    })) }])),
  }]));
  const write = (name: string, document: object): void => {
    const file = join(folder, 'streams/v1', name);
    mkdirSync(dirname(file), { recursive: true });
    const text = `${JSON.stringify(document, null, 1)}\n`;
    for (const suffix of ['.json', '.sjson', '.json.gpg']) rmSync(file + suffix, { force: true });
    writeFileSync(`${file}.json`, text);
    if (key) writeFileSync(`${file}.sjson`, key.sign(text));
    if (detached) writeFileSync(`${file}.json.gpg`, detached.detach(`${file}.json`));
  };
  write('index', { format: 'index:1.0', updated: updated.toUTCString(), index: { images: { datatype: 'image-downloads', format: 'products:1.0', path: 'streams/v1/images.json', updated: updated.toUTCString(), products: Object.keys(products) } } });
  write('images', { format: 'products:1.0', content_id: 'images', datatype: 'image-downloads', updated: updated.toUTCString(), products });
}

export function hostArchitecture(): string {
  return execFileSync('/usr/bin/dpkg', ['--print-architecture'], { encoding: 'utf8' }).trim();
}

/** The least that can be a template: a shell of this host, which is its init, too. @returns its folder */
export function smallTree(folder: string, note = ''): string {
  for (const name of ['bin', 'sbin', 'etc', 'usr/share', 'dev']) mkdirSync(join(folder, name), { recursive: true });
  copyFileSync('/bin/dash', join(folder, 'bin/sh'));
  symlinkSync('../bin/sh', join(folder, 'sbin/init'));
  writeFileSync(join(folder, 'etc/os-release'), `ID=ubuntu\nVERSION_ID="24.04"\n# ${note}\n`);
  return folder;
}

/** Pack a tree in a form in which images come. */
export function packTree(tree: string, file: string, form: 'root.tar.xz' | 'squashfs' | 'incus_combined.tar.gz' | 'tar.gz' = 'root.tar.xz'): void {
  mkdirSync(dirname(file), { recursive: true });
  const tar = ['--create', '--numeric-owner', '--owner=0', '--group=0', '--format=posix'];
  if (form === 'squashfs') execFileSync('/bin/sh', ['-c', `tar ${tar.join(' ')} --directory="$1" . | tar2sqfs --quiet --force "$0"`, file, tree], { stdio: 'ignore' });
  else if (form === 'incus_combined.tar.gz') {
    const metadata = mkdtempSync(join(tmpdir(), 'veld-metadata-'));
    writeFileSync(join(metadata, 'metadata.yaml'), METADATA_YAML);
    execFileSync('/usr/bin/tar', [...tar, '--gzip', `--file=${file}`, `--directory=${metadata}`, 'metadata.yaml', `--directory=${tree}`, '--transform=flags=rSh;s,^\\.,rootfs,', '.']);
    rmSync(metadata, { recursive: true });
  } else execFileSync('/usr/bin/tar', [...tar, form === 'tar.gz' ? '--gzip' : '--xz', `--file=${file}`, `--directory=${tree}`, '.']);
}

const METADATA_YAML = 'architecture: x86_64\ncreation_date: 1767225600\nproperties:\n  description: A small one\n  os: ubuntu\n  release: noble\n';

/** The metadata that goes with a tree. */
export function packMetadata(file: string, yaml = METADATA_YAML): void {
  mkdirSync(dirname(file), { recursive: true });
  const folder = mkdtempSync(join(tmpdir(), 'veld-metadata-'));
  writeFileSync(join(folder, 'metadata.yaml'), yaml);
  execFileSync('/usr/bin/tar', ['--create', '--xz', '--numeric-owner', '--owner=0', '--group=0', `--file=${file}`, `--directory=${folder}`, 'metadata.yaml']);
  rmSync(folder, { recursive: true });
}
