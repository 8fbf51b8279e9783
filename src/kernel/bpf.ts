/**
 * The door to BPF programs that stand at control groups or at functions of the kernel, and to their maps: bpf(2).
 * Layouts and numbers: union bpf_attr, struct bpf_prog_info and struct bpf_map_info of linux/bpf.h, which only grow at their end.
 *
 * Why these calls are safe, beside what native.ts says: each has a fresh buffer that is larger than what is told the kernel of it; the pointers written
 * into it are those of buffers that a local variable holds until the call has returned, and that are as long as the map's keys and values, whose sizes
 * are asked of the map itself.
 */
import { closeSync } from 'node:fs';
import { checked, native } from './native.ts';

const NR_BPF = process.arch === 'arm64' ? 280 : 321;
const COMMAND = { lookup: 1, update: 2, remove: 3, pin: 6, get: 7, attach: 8, detach: 9, run: 10, programById: 13, mapById: 14, info: 15, query: 16, trace: 17 } as const;
const ALLOW_MULTI = 2;
/** Bytes of the attributes that are given to the kernel: what it does not know of them is 0. */
const ATTRIBUTES = 64;
/** Bytes of the descriptions that are asked for. A kernel that knows less fills less. */
const INFO = 216;
/** Most programs at a group, and most maps of a program, that are looked at. */
const MOST = 64;

/** Where at a control group a program stands (enum bpf_attach_type). */
export const BPF_HOOKS = { ingress: 0, socketCreate: 2, socketOps: 3, connect4: 10, connect6: 11, socketRelease: 34 } as const;
export type BpfHook = keyof typeof BPF_HOOKS;

/** An open map. */
export interface BpfMap {
  fd: number;
  id: number;
  name: string;
  keySize: number;
  valueSize: number;
}

/** @throws the system error as it is */
function bpf(command: keyof typeof COMMAND, fill: (attributes: DataView) => void): number {
  const memory = new ArrayBuffer(ATTRIBUTES * 2);
  fill(new DataView(memory));
  // Safe: see above; the kernel reads and writes at most ATTRIBUTES bytes of twice as many.
  return checked(`bpf(${command})`, native().c.bpf(NR_BPF, COMMAND[command], memory, ATTRIBUTES));
}

function address(buffer: ArrayBuffer): bigint {
  return native().koffi.address(buffer);
}

/** Bytes in memory that never moves. */
function fixed(bytes: Uint8Array): ArrayBuffer {
  const memory = new ArrayBuffer(bytes.length);
  new Uint8Array(memory).set(bytes);
  return memory;
}

/** Open what is pinned at a path of a bpf file system. */
export function openPinned(path: string): number {
  const name = fixed(Buffer.from(`${path}\0`));
  return bpf('get', (attr) => attr.setBigUint64(0, address(name), true));
}

/** Description of an open map. */
export function mapOf(fd: number): BpfMap {
  const info = describe(fd, () => {});
  return { fd, id: info.getUint32(4, true), keySize: info.getUint32(8, true), valueSize: info.getUint32(12, true), name: nameIn(info, 24) };
}

/** Ids of the maps that a program uses. */
export function mapIdsOf(programFd: number): number[] {
  const ids = new ArrayBuffer(MOST * 4);
  const info = describe(programFd, (view) => {
    view.setUint32(52, MOST, true);
    view.setBigUint64(56, address(ids), true);
  });
  return [...new Uint32Array(ids, 0, Math.min(MOST, info.getUint32(52, true)))];
}

/** Name of a program. */
export function programName(programFd: number): string {
  return nameIn(describe(programFd, () => {}), 64);
}

/** How often the kernel left a program out because the processor was in the midst of it already: only where a process can be interrupted in the kernel itself. */
export function missedBy(programFd: number): number {
  return Number(describe(programFd, () => {}).getBigUint64(208, true));
}

function describe(fd: number, ask: (info: DataView) => void): DataView {
  const memory = new ArrayBuffer(INFO * 2);
  const view = new DataView(memory);
  ask(view);
  bpf('info', (attr) => {
    attr.setUint32(0, fd, true);
    attr.setUint32(4, INFO, true);
    attr.setBigUint64(8, address(memory), true);
  });
  return view;
}

function nameIn(view: DataView, at: number): string {
  return Buffer.from(view.buffer, at, 16).toString('latin1').replace(/\0.*$/s, '');
}

/** Open a program, or a map, by its id. Throws ENOENT. */
export function openById(what: 'programById' | 'mapById', id: number): number {
  return bpf(what, (attr) => attr.setUint32(0, id, true));
}

/** Ids of the programs that stand at a group itself. @param groupFd an open directory of cgroup2 */
export function programsAt(groupFd: number, hook: BpfHook): number[] {
  const ids = new ArrayBuffer(MOST * 4);
  let attributes: DataView | undefined;
  bpf('query', (attr) => {
    attr.setUint32(0, groupFd, true);
    attr.setUint32(4, BPF_HOOKS[hook], true);
    attr.setBigUint64(16, address(ids), true);
    attr.setUint32(24, MOST, true);
    attributes = attr;
  });
  return [...new Uint32Array(ids, 0, Math.min(MOST, attributes!.getUint32(24, true)))];
}

/** Let a program stand at a group, beside others. It goes with the group. Throws EINVAL when it stands there already. */
export function attachProgram(groupFd: number, programFd: number, hook: BpfHook): void {
  bpf('attach', (attr) => {
    attr.setUint32(0, groupFd, true);
    attr.setUint32(4, programFd, true);
    attr.setUint32(8, BPF_HOOKS[hook], true);
    attr.setUint32(12, ALLOW_MULTI, true);
  });
}

/** Take a program away from a group. Throws ENOENT when it does not stand there. */
export function detachProgram(groupFd: number, programFd: number, hook: BpfHook): void {
  bpf('detach', (attr) => {
    attr.setUint32(0, groupFd, true);
    attr.setUint32(4, programFd, true);
    attr.setUint32(8, BPF_HOOKS[hook], true);
  });
}

/**
 * Let a program stand at the function of the kernel that it was loaded for.
 * @returns a descriptor: with the last one, or the last name in a bpf file system ({@link pin}), it goes
 */
export function attachToFunction(programFd: number): number {
  return bpf('trace', (attr) => attr.setUint32(8, programFd, true));
}

/** Give what a descriptor is of a name in a bpf file system. Throws EEXIST. */
export function pin(fd: number, path: string): void {
  const name = fixed(Buffer.from(`${path}\0`));
  bpf('pin', (attr) => {
    attr.setBigUint64(0, address(name), true);
    attr.setUint32(8, fd, true);
  });
}

/** Call a program that is there to be called (`syscall`). @returns what it returned */
export function callProgram(programFd: number, input: Uint8Array): number {
  const memory = fixed(input);
  let attributes: DataView | undefined;
  bpf('run', (attr) => {
    attr.setUint32(0, programFd, true);
    attr.setUint32(40, memory.byteLength, true);
    attr.setBigUint64(48, address(memory), true);
    attributes = attr;
  });
  return attributes!.getUint32(4, true);
}

/** The value of a key, or undefined. */
export function lookup(map: BpfMap, key: Uint8Array): DataView | undefined {
  const value = new ArrayBuffer(map.valueSize);
  try {
    element('lookup', map, key, value);
    return new DataView(value);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}

/** Set the value of a key. */
export function update(map: BpfMap, key: Uint8Array, value: Uint8Array): void {
  if (value.length !== map.valueSize) throw new Error(`a value of ${map.name} has ${map.valueSize} bytes, not ${value.length}`);
  element('update', map, key, fixed(value));
}

/** Remove a key. One that is not there is no error. */
export function remove(map: BpfMap, key: Uint8Array): void {
  try {
    element('remove', map, key);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
  }
}

function element(command: 'lookup' | 'update' | 'remove', map: BpfMap, key: Uint8Array, value?: ArrayBuffer): void {
  if (key.length !== map.keySize) throw new Error(`a key of ${map.name} has ${map.keySize} bytes, not ${key.length}`);
  const memory = fixed(key);
  bpf(command, (attr) => {
    attr.setUint32(0, map.fd, true);
    attr.setBigUint64(8, address(memory), true);
    if (value) attr.setBigUint64(16, address(value), true);
  });
}

/** Close descriptors; the kernel forgets what nobody else has. */
export function closeAll(fds: Iterable<number>): void {
  for (const fd of fds) closeSync(fd);
}
