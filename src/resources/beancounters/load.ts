/**
 * The BPF programs that count sockets: compiled with clang where that has not been done, loaded with bpftool.
 * They are pinned for a moment only, in a file system of our own: from then on the daemon has them open, and the groups at which they stand hold them.
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { closeAll, mapOf, openPinned } from '../../kernel/bpf.ts';
import type { BpfMap } from '../../kernel/bpf.ts';
import { installRoot } from '../../kernel/install-root.ts';
import { detachMount } from '../../kernel/syscalls.ts';
import { toVeldError, VeldError } from '../../lib/errors.ts';
import { run } from '../../lib/run.ts';

export const FILTERS = { ingress: 'veld_ingress', connect4: 'veld_connect4', connect6: 'veld_connect6' } as const;
/** Programs by where they stand. */
export type Filters = Record<keyof typeof FILTERS, number>;

/** A version of the programs, with the maps that they share. */
export interface Programs {
  create: number;
  release: number;
  connections: number;
  /** What stands at a group only where there is a limit. */
  filters: Filters;
  counters: BpfMap;
  limits: BpfMap;
}

/** v3 of the instruction set has the atomic operations (Linux 5.12). -g: the kernel wants to know the types of what is kept with a socket. */
const FLAGS = ['-target', 'bpf', '-mcpu=v3', '-O2', '-g', '-Wall'];
const TIMEOUT = 60_000;

/** Where the object of this version's source is, or will be: beside the bundles. */
export function objectFile(root = installRoot()): string {
  const hash = createHash('sha256').update(readFileSync(sourceFile())).update(FLAGS.join(' ')).digest('hex').slice(0, 16);
  return join(root, 'dist', `sockets-${hash}.bpf.o`);
}

function sourceFile(): string {
  return fileURLToPath(new URL('./sockets.bpf.c', import.meta.url));
}

/** Compile, unless that has been done. @returns the object @throws VeldError `property.unsupported` without clang */
export async function compilePrograms(object = objectFile()): Promise<string> {
  if (existsSync(object)) return object;
  mkdirSync(join(object, '..'), { recursive: true });
  const temporary = `${object}.${process.pid}`;
  try {
    await run('clang', [...FLAGS, '-c', sourceFile(), '-o', temporary], { timeout: TIMEOUT });
    renameSync(temporary, object);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw unsupported('the BPF programs that count sockets could not be compiled (package clang)', error);
  }
  return object;
}

/**
 * Load them.
 * @param runDir a file system is mounted there for a moment
 * @throws VeldError `property.unsupported` with the reason
 */
export async function loadPrograms(runDir: string): Promise<Programs> {
  const object = await compilePrograms();
  const folder = join(runDir, 'bpf');
  forget(folder); // of a daemon that was killed here
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const fds: number[] = [];
  try {
    await run('mount', ['-t', 'bpf', '-o', 'mode=0700', 'veld-bpf', folder], { timeout: TIMEOUT });
    await run('bpftool', ['prog', 'loadall', object, join(folder, 'sockets'), 'pinmaps', join(folder, 'sockets')], { timeout: TIMEOUT });
    const open = (name: string): number => {
      const fd = openPinned(join(folder, 'sockets', name));
      fds.push(fd);
      return fd;
    };
    return {
      create: open('veld_create'), release: open('veld_release'), connections: open('veld_connections'),
      filters: Object.fromEntries(Object.entries(FILTERS).map(([hook, name]) => [hook, open(name)])) as Filters,
      counters: mapOf(open('veld_counters')), limits: mapOf(open('veld_limits')),
    };
  } catch (error) {
    closeAll(fds);
    throw unsupported('the kernel does not take the BPF programs that count sockets (package bpftool)', error);
  } finally {
    forget(folder);
  }
}

function forget(folder: string): void {
  try {
    detachMount(folder);
  } catch { /* nothing is mounted there */ }
  try {
    rmdirSync(folder);
  } catch { /* it is not there */ }
}

function unsupported(what: string, error: unknown): VeldError {
  const { message } = toVeldError(error);
  return new VeldError('property.unsupported', `${what}: ${message.replace(/\.$/, '').slice(0, 500)}`, { cause: error });
}
