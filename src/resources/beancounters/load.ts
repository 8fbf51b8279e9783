/**
 * The BPF programs that count sockets, loaded with bpftool.
 * They are pinned for a moment only, in a file system of our own: from then on the daemon has them open, and the groups at which they stand hold them.
 */
import { mkdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { closeAll, mapOf, openPinned } from '../../kernel/bpf.ts';
import type { BpfMap } from '../../kernel/bpf.ts';
import { detachMount } from '../../kernel/syscalls.ts';
import { run } from '../../lib/run.ts';
import { compilePrograms, TIMEOUT, unsupported } from './compile.ts';

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

/**
 * Load them.
 * @param runDir a file system is mounted there for a moment
 * @throws VeldError `property.unsupported` with the reason
 */
export async function loadPrograms(runDir: string): Promise<Programs> {
  const object = await compilePrograms('sockets');
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
