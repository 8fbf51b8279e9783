/** What Veld aims at beside its peers: one row each, compared with what the same run has measured of them. */
import type { ContestantName } from '../contestants/types.ts';
import type { Samples } from './samples.ts';

export const ROWS = {
  deploy: 'deploy to running, command',
  deployApi: 'deploy to running, API',
  deployWarm: 'deploy from a warm image, command',
  deployWarmApi: 'deploy from a warm image, API',
  deploySpare: 'deploy of a spare, command',
  deploySpareApi: 'deploy of a spare, API',
  start: 'start to running, command',
  stop: 'stop, command',
  kill: 'stop by force, command',
  exec: 'exec true, command',
  execApi: 'exec true, API',
  limit: 'set a live memory limit, command',
  limitApi: 'set a live memory limit, API',
  destroy: 'delete, command',
  list: 'list, many running, command',
  statesApi: 'state of all, many running, API: requests/s',
  statesBytes: 'state of all: bytes of the answer',
  stateApi: 'state of one with what it uses, API',
  execMany: 'exec true, many running, command',
  pss: 'idle VE: PSS of processes and monitor, MB',
  pssMonitor: 'of this the monitor, MB',
  groupMemory: 'idle VE: memory its group counts, no page cache, MB',
  processes: 'idle VE: processes, monitor included',
  daemonRss: 'daemon, many running: RSS, MB',
  daemonCpu: 'daemon, many running and idle: % of one CPU',
} as const;

interface Aim {
  what: string;
  row: string;
  peer: ContestantName;
  /** Where it is another than Veld's. */
  peerRow?: string;
  /** Whether Veld's figure beside the peer's is good enough. */
  holds(veld: number, peer: number): boolean;
}

const AIMS: readonly Aim[] = [
  { what: 'cold deploy to running: at most LXC\'s', row: ROWS.deploy, peer: 'lxc', holds: (veld, lxc) => veld <= lxc },
  { what: 'instant deploy, as a command: at most 0.3 x Incus\' launch', row: ROWS.deploySpare, peer: 'incus', peerRow: ROWS.deploy, holds: (veld, incus) => veld <= 0.3 * incus },
  { what: 'instant deploy, as a command: at most 0.5 x LXC\'s clone and start', row: ROWS.deploySpare, peer: 'lxc', peerRow: ROWS.deploy, holds: (veld, lxc) => veld <= 0.5 * lxc },
  { what: 'instant deploy by API: at most 0.4 x a cold one', row: ROWS.deploySpareApi, peer: 'veld', peerRow: ROWS.deployApi, holds: (warm, cold) => warm <= 0.4 * cold },
  { what: 'instant deploy by API: at most 150 ms', row: ROWS.deploySpareApi, peer: 'veld', peerRow: ROWS.deploySpareApi, holds: (spare) => spare <= 150 },
  { what: 'deploy from a warm image by API, no spare there: at most 150 ms', row: ROWS.deployWarmApi, peer: 'veld', peerRow: ROWS.deployWarmApi, holds: (warm) => warm <= 150 },
  { what: 'exec by API: at most half of `incus exec`', row: ROWS.execApi, peer: 'incus', peerRow: ROWS.exec, holds: (veld, incus) => veld <= incus / 2 },
  { what: 'exec as a command: at most Incus\'', row: ROWS.exec, peer: 'incus', holds: (veld, incus) => veld <= incus },
  { what: 'list of many: at most 0.4 x Incus\'', row: ROWS.list, peer: 'incus', holds: (veld, incus) => veld <= 0.4 * incus },
  { what: 'API state of all: at least 20 x Incus\' requests/s', row: ROWS.statesApi, peer: 'incus', holds: (veld, incus) => veld >= 20 * incus },
  { what: 'idle memory of a VE: at most LXC\'s + 1 MB', row: ROWS.pss, peer: 'lxc', holds: (veld, lxc) => veld <= lxc + 1 },
  { what: 'RSS of the daemon: at most Incus\'', row: ROWS.daemonRss, peer: 'incus', holds: (veld, incus) => veld <= incus },
];

export interface Verdict {
  aim: string;
  veld: number;
  peer: ContestantName;
  peers: number;
  ratio: number;
  verdict: 'PASS' | 'miss';
}

/** Aims of which this run has measured both sides. */
export function judge(samples: Samples): Verdict[] {
  return AIMS.flatMap(({ what, row, peer, peerRow = row, holds }) => {
    const veld = samples.median(row, 'veld');
    const peers = samples.median(peerRow, peer);
    if (veld === undefined || peers === undefined) return [];
    return [{ aim: what, veld, peer, peers, ratio: veld / peers, verdict: holds(veld, peers) ? 'PASS' as const : 'miss' as const }];
  });
}
