/** BPF programs on their way from source to object: compiled with clang where that has not been done, with the bundle or by the daemon. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COMPILE_TIMEOUT, compileOnce, sourceVersion } from '../../kernel/compile-once.ts';
import { installRoot } from '../../kernel/install-root.ts';
import { toVeldError, VeldError } from '../../lib/errors.ts';

/** What they count, which is a source file's name, in words. */
export const SOURCES = { sockets: 'sockets', files: 'open files', locks: 'file locks' } as const;
export type Source = keyof typeof SOURCES;

const HEADERS: Readonly<Record<Source, readonly string[]>> = { sockets: ['common.bpf.h'], files: ['common.bpf.h', 'owner.bpf.h'], locks: ['common.bpf.h', 'owner.bpf.h'] };

/**
 * v3 of the instruction set has the atomic operations (Linux 5.12). -g: the kernel wants to know the types of what is kept with a socket, and libbpf by which
 * names the running kernel has what is read of its memory.
 */
const FLAGS = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-Wall'];
/** Longest that a program may take which is run here, in milliseconds. */
export const TIMEOUT = COMPILE_TIMEOUT;

/** By what a version is known. */
export function versionOf(source: Source): string {
  return sourceVersion(FLAGS, [`${source}.bpf.c`, ...HEADERS[source]].map(file));
}

/** Where the object of this version's source is, or will be: beside the bundles. */
export function objectFile(source: Source, root = installRoot()): string {
  return join(root, 'dist', `${source}-${versionOf(source)}.bpf.o`);
}

function file(name: string): string {
  return fileURLToPath(new URL(`./${name}`, import.meta.url));
}

/** Compile, unless that has been done. @returns the object @throws VeldError `property.unsupported` without clang */
export async function compilePrograms(source: Source, object = objectFile(source)): Promise<string> {
  await compileOnce([...FLAGS, '-c'], [file(`${source}.bpf.c`)], object).catch((error: unknown) => {
    throw unsupported(`the BPF programs that count ${SOURCES[source]} could not be compiled (package clang)`, error);
  });
  return object;
}

/** The error that says why something cannot be counted here. */
export function unsupported(what: string, error: unknown): VeldError {
  const { message } = toVeldError(error);
  return new VeldError('property.unsupported', `${what}: ${message.replace(/\.$/, '').slice(0, 500)}`, { cause: error });
}
