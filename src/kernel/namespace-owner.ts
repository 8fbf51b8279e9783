/**
 * To whom user namespaces belong. What the kernel counts by user (ucounts: queued signals and timers, message queues, locked memory, inotify, namespaces of
 * each kind) counts for a process's user and for the owner of each user namespace above it (kernel/ucount.c). So the namespace of a VE belongs to that user
 * of the host who is root in it: then it uses up what is its own, and not what host root and all other VEs share.
 */
import { closeSync, existsSync, openSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasCapability } from './capability.ts';
import { compileOnce, sourceVersion } from './compile-once.ts';
import { installRoot } from './install-root.ts';
import { checked, native } from './native.ts';

/** Nothing is linked to it: it comes into others' processes, whatever C library those have. */
const FLAGS = ['-shared', '-fPIC', '-O2', '-ffreestanding', '-nostdlib', '-fno-stack-protector', '-Wall', '-Wextra', '-Werror'];
/** _IO(0xb7, 4), linux/nsfs.h. */
const NS_GET_OWNER_UID = 0xb704;

/** What root of the host has of a VE that it does not own only by really having it: without these it could not even boot one. */
const NEEDED = ['kill', 'net_admin', 'setgid', 'setpcap', 'setuid', 'sys_admin', 'sys_ptrace'] as const;

const file = (name: string): string => fileURLToPath(new URL(`./${name}`, import.meta.url));
/** The second is what else criu does otherwise than it would. */
const SOURCES = ['namespace-owner.c', 'write-only-ttys.c'].map(file);
/** Of the sources as they were when this process began; undefined where there are none. */
let version: string | undefined;

/** Path of the library. It is machine code. @throws the system error as it is, without its sources */
function library(root: string): string {
  version ??= sourceVersion(FLAGS, [...SOURCES, file('system-call.h')]);
  return join(root, 'dist', `${PREFIX}${version}.so`);
}

const PREFIX = `namespace-owner-${process.arch}-`;

/** The library with which VEs are booted, dumped and restored so that they own their user namespaces, or why there is none. */
export function findOwnerLibrary(root = installRoot()): { path: string } | { missing: string; remedy: string } {
  const lacking = NEEDED.filter((name) => !hasCapability(name));
  if (lacking.length > 0) return { missing: `the daemon lacks ${lacking.map((name) => `CAP_${name.toUpperCase()}`).join(', ')}`, remedy: 'Give the daemon these capabilities, and start it again.' };
  // ld.so(8) takes both for the end of a path.
  if (/[\s:]/.test(root)) return { missing: `there is a blank or a colon in the path ${root}`, remedy: 'Move Veld to another folder, and start the daemon again.' };
  try {
    const path = library(root);
    if (existsSync(path)) return { path };
    // Another version's does the same, and VEs that own their namespaces may need it.
    const other = readdirSync(join(root, 'dist')).find((name) => name.startsWith(PREFIX) && name.endsWith('.so'));
    if (other !== undefined) return { path: join(root, 'dist', other) };
  } catch { /* neither source nor folder */ }
  return { missing: 'src/kernel/namespace-owner.c has not been compiled', remedy: 'Install clang, and start the daemon again.' };
}

/** Its path. */
export function ownerLibrary(root = installRoot()): string | undefined {
  const found = findOwnerLibrary(root);
  return 'path' in found ? found.path : undefined;
}

/** Compile it, unless that has been done. @throws VeldError without clang */
export async function compileOwnerLibrary(root = installRoot()): Promise<void> {
  await compileOnce(FLAGS, SOURCES, library(root));
}

/** User id, on the host, of the owner of a process's user namespace. @throws the system error as it is, ENOENT when the process has ended */
export function namespaceOwner(pid: number): number {
  const fd = openSync(`/proc/${pid}/ns/user`, 'r');
  try {
    const uid = new Uint32Array(1);
    // Safe: the kernel writes one uid_t, 32 bits.
    checked('ioctl(NS_GET_OWNER_UID)', native().c.ioctl(fd, NS_GET_OWNER_UID, uid));
    return uid[0] as number;
  } finally {
    closeSync(fd);
  }
}

/** Whether the user namespace of a process belongs to another user. False of a process that has ended. */
export function ownedByAnother(pid: number, uid: number): boolean {
  try {
    return namespaceOwner(pid) !== uid;
  } catch {
    return false;
  }
}
