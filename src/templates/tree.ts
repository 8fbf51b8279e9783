/** Looks at a finished root file system: its fingerprint, and whether it can be a VE at all. Nothing in it is followed out of it. */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { closeSync, constants, openSync, readSync, fstatSync } from 'node:fs';
import { VeldError } from '../lib/errors.ts';
import { ALL_XATTRS } from '../lib/tar.ts';
import { startBox } from '../kernel/box.ts';
import { openStack, type TreeRoot } from '../kernel/mounts.ts';
import { O_CLOEXEC, O_PATH, openat2, RESOLVE } from '../kernel/syscalls.ts';
import { TarReader } from '../lib/tar-entries.ts';
import type { TarEntry } from '../lib/tar-entries.ts';

/** What os-release(5) of the tree says, and what its programs are made for. */
export interface TreeFacts {
  os: string;
  release: string;
  architecture: string;
}

/**
 * The fingerprint of a tree: sha256 over one line per entry in the order of its path's bytes: path, type, mode, uid, gid, extended
 * attributes and sha256 of the content, or the link's target. Times are no part of it, so the same packages give the same fingerprint.
 * GNU tar walks the tree (it follows no link); its stream is read back here.
 * @param root several folders: that of the one tree which they make, the same as if all were in one
 * @throws VeldError `template.invalid` when the tree holds a device node
 */
export async function fingerprintOf(root: TreeRoot, signal?: AbortSignal): Promise<string> {
  const hash = createHash('sha256');
  const reader = new TarReader((entry) => {
    if (entry.type === 'character' || entry.type === 'block') throw new VeldError('template.invalid', `The tree holds the device node ${entry.path}.`);
  }, (entry) => hash.update(`${line(entry)}\n`));
  const tar = (folder: string): string[] => ['/usr/bin/tar', '--create', '--file=-', `--directory=${folder}`, '--sort=name', '--format=posix', '--numeric-owner', ...ALL_XATTRS,
    '--one-file-system', '--hard-dereference', '--', '.'];
  if (typeof root === 'object' && root.length > 1) {
    const box = startBox(tar('/in'), { in: root, links: 'refused', capabilities: ['dac_read_search'], stdout: 'pipe', ...signal && { signal } });
    try {
      for await (const chunk of box.stdout!) reader.write(chunk as Buffer);
      const { code, said } = await box.ended;
      if (code !== 0) throw new VeldError('command.failed', `tar ended with status ${code}: ${said}`);
      reader.end();
    } finally {
      box.kill();
    }
    return hash.digest('hex');
  }
  const [program, ...args] = tar(typeof root === 'string' ? root : root[0]!) as [string, ...string[]];
  const child = spawn(program, args, { cwd: '/', env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' }, stdio: ['ignore', 'pipe', 'pipe'], signal });
  let complaint = '';
  child.stderr.on('data', (chunk: Buffer) => { complaint = (complaint + chunk.toString('utf8')).slice(-2000); });
  const ended = new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  });
  ended.catch(() => {}); // awaited below; it must not count as unhandled while the stream is read
  try {
    for await (const chunk of child.stdout) reader.write(chunk as Buffer);
    const code = await ended;
    if (code !== 0) throw new VeldError('command.failed', `tar ended with status ${code}: ${complaint.trim().split('\n').at(-1)}`);
    reader.end();
  } finally {
    child.kill('SIGKILL');
  }
  return hash.digest('hex');
}

function line(entry: TarEntry): string {
  const xattrs = [...entry.xattrs].toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([key, value]) => `${key}=${value.toString('hex')}`);
  return JSON.stringify([entry.path, entry.type, entry.mode.toString(8), entry.uid, entry.gid, xattrs, entry.sha256 ?? entry.link]);
}

/**
 * Check that a tree has an init and a shell, and read what it is. Links in it are resolved as inside it.
 * @param needs `init: false` for trees of application VEs, which may hold nothing but a program
 * @param root several folders: the one tree that they make
 * @throws VeldError `template.invalid`
 */
export function inspectTree(root: TreeRoot, needs: { init: boolean } = { init: true }): TreeFacts {
  const only = typeof root === 'string' ? root : root.length === 1 ? root[0] : undefined;
  const directory = only === undefined ? openStack(root as readonly string[]) : openSync(only, constants.O_RDONLY | constants.O_DIRECTORY | constants.O_NOFOLLOW);
  try {
    for (const program of needs.init ? ['/sbin/init', '/bin/sh'] : []) {
      const fd = open(directory, program, O_PATH);
      const stat = fd === undefined ? undefined : fstatSync(fd);
      if (fd !== undefined) closeSync(fd);
      if (!stat?.isFile() || (stat.mode & 0o111) === 0) throw new VeldError('template.invalid', `The root file system has no program ${program}.`);
    }
    const machine = read(directory, '/bin/sh', 20);
    const release = read(directory, '/etc/os-release', 64 << 10).toString('utf8');
    const value = (key: string): string => /^[\w.-]{1,64}$/.exec(new RegExp(`^${key}="?([^"\\n]*)"?$`, 'm').exec(release)?.[1] ?? '')?.[0] ?? 'unknown';
    return { os: value('ID'), release: value('VERSION_ID'), architecture: ARCHITECTURES[machine.length < 20 ? 0 : machine.readUInt16LE(18)] ?? 'unknown' };
  } finally {
    closeSync(directory);
  }
}

/** e_machine of elf(5). */
const ARCHITECTURES: Record<number, string> = { 3: 'i386', 62: 'amd64', 40: 'armhf', 183: 'arm64' };

function open(directory: number, path: string, flags: number): number | undefined {
  try {
    return openat2(directory, path, { flags: flags | O_CLOEXEC, resolve: RESOLVE.IN_ROOT | RESOLVE.NO_MAGICLINKS | RESOLVE.NO_XDEV });
  } catch (error) {
    if (['ENOENT', 'ENOTDIR', 'ELOOP', 'EXDEV', 'EACCES'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw error;
  }
}

/** The beginning of an ordinary file, or nothing. A FIFO in its place must not block: O_NONBLOCK, and the type is looked at first. */
function read(directory: number, path: string, limit: number): Buffer {
  const fd = open(directory, path, constants.O_RDONLY | constants.O_NONBLOCK);
  if (fd === undefined) return Buffer.alloc(0);
  try {
    if (!fstatSync(fd).isFile()) return Buffer.alloc(0);
    const buffer = Buffer.alloc(limit);
    return buffer.subarray(0, readSync(fd, buffer, 0, limit, 0));
  } finally {
    closeSync(fd);
  }
}
