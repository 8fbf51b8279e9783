/**
 * To whom user namespaces belong. What the kernel counts by user (ucounts: queued signals and timers, message queues, locked memory, inotify, namespaces of
 * each kind) counts for a process's user and for the owner of each user namespace above it (kernel/ucount.c). So the namespace of a VE belongs to that user
 * of the host who is root in it: then it uses up what is its own, and not what host root and all other VEs share.
 */
import { closeSync, existsSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hasCapability } from './capability.ts';
import { compileOnce, sourceVersion } from './compile-once.ts';
import { installRoot } from './install-root.ts';
import { checked, native } from './native.ts';

/** Nothing is linked to it: it comes into criu's process, whatever C library that has. */
const FLAGS = ['-shared', '-fPIC', '-O2', '-ffreestanding', '-nostdlib', '-fno-stack-protector', '-Wall', '-Wextra', '-Werror'];
/** _IO(0xb7, 4), linux/nsfs.h. */
const NS_GET_OWNER_UID = 0xb704;

const source = (): string => fileURLToPath(new URL('./namespace-owner.c', import.meta.url));

function library(root: string): string {
  return join(root, 'dist', `namespace-owner-${sourceVersion(FLAGS, [source()])}.so`);
}

/** What criu is to load so that the user namespaces that it makes belong to whom VELD_NAMESPACE_OWNER says. Undefined: it has not been compiled, or is where LD_PRELOAD cannot name it (ld.so(8)). */
export function ownerLibrary(root = installRoot()): string | undefined {
  const path = library(root);
  return existsSync(path) && !/[\s:]/.test(path) ? path : undefined;
}

/** Whether a VE can own its user namespace from its boot on: a root who lacks CAP_SYS_RESOURCE, and has no such library, could not dump it. */
export function canOwnNamespaces(): boolean {
  return ownerLibrary() !== undefined || hasCapability('sys_resource');
}

/** Compile it, unless that has been done. @throws VeldError without clang */
export async function compileOwnerLibrary(root = installRoot()): Promise<void> {
  await compileOnce(FLAGS, source(), library(root));
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
