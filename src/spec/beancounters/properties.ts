/** Properties of a VE that are beancounters under their own names; numproc, physpages and swappages are pids.limit, memory.limit and memory.swap. */
import type { PropertyRow } from '../types.ts';

/** Most things that a beancounter can be told to allow: no host has as many. */
const ITEMS_MAX = 2 ** 31 - 1;

/** Rows of the property table. */
export const BEANCOUNTER_PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'ubc.numtcpsock',
    type: { kind: 'pair', of: 'items', min: 0, max: ITEMS_MAX, equal: true, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most TCP sockets, barrier and limit alike: 80:80.',
    vzctl: { option: 'numtcpsock', key: 'NUMTCPSOCK' },
    needs: 'BPF programs at control groups',
  },
  {
    name: 'ubc.numothersock',
    type: { kind: 'pair', of: 'items', min: 0, max: ITEMS_MAX, equal: true, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most sockets of IPv4 and IPv6 other than TCP; local (UNIX) sockets are not held.',
    vzctl: { option: 'numothersock', key: 'NUMOTHERSOCK' },
    needs: 'BPF programs at control groups',
  },
  {
    name: 'ubc.numpty',
    // One is the console of the VE's init.
    type: { kind: 'pair', of: 'items', min: 1, max: ITEMS_MAX, equal: true, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most pseudo-terminals of the VE\'s /dev/pts, the console among them; the root of the VE can mount another one.',
    vzctl: { option: 'numpty', key: 'NUMPTY' },
  },
  {
    name: 'ubc.numfile',
    type: { kind: 'pair', of: 'items', min: 0, max: ITEMS_MAX, equal: true, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most open files: sockets, pipes and files that are mapped, such as libraries, among them.',
    vzctl: { option: 'numfile', key: 'NUMFILE' },
    needs: 'BPF programs at functions of the kernel',
  },
  {
    name: 'ubc.numflock',
    type: { kind: 'pair', of: 'items', min: 0, max: ITEMS_MAX, equal: false, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most file locks: at the barrier more are refused. What is left of a lock when its middle is taken away is not.',
    vzctl: { option: 'numflock', key: 'NUMFLOCK' },
    needs: 'BPF programs at functions of the kernel',
  },
];
