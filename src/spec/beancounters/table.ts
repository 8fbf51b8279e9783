/**
 * The table of user beancounters: OpenVZ's rows in OpenVZ's order, and for each what counts it, and what holds it, on a kernel without OpenVZ.
 * Names, order and meaning: proc_user_beancounters(5) of OpenVZ, kernel/bc/ of its kernels.
 */

/** OpenVZ's LONG_MAX: what `unlimited` is written as. */
export const UNLIMITED = 9_223_372_036_854_775_807n;

/** The page in which OpenVZ counts, in bytes, whatever the host's own is. */
export const PAGE = 4096;

export type Unit = 'items' | 'pages' | 'bytes';

/** What a reader can know of an amount. */
export type Kept = 'held' | 'maxheld' | 'failcnt';

/** `v2`: cgroup2 has the controllers; `hybrid`: cgroup v1 has them. */
export interface Hosts {
  v2: string;
  hybrid: string;
}

export interface BeancounterRow {
  name: string;
  unit: Unit;
  /** What OpenVZ's manual calls it. `primary`: what an administrator sets; `secondary`: follows from those; `auxiliary`: the rest. */
  rank: 'primary' | 'secondary' | 'auxiliary';
  /**
   * `equal`: one number, written twice; `both`: above the barrier what can wait is refused, above the limit all; `guarantee`: the barrier is what a VE is promised;
   * `limit`: the barrier says nothing.
   */
  pair: 'equal' | 'both' | 'guarantee' | 'limit';
  /** What it counts, for people. */
  help: string;
  /** What keeps the amount here, by kind of host. Empty: nothing. */
  counted: Hosts;
  /** What refuses more of it. Empty: nothing does. */
  held: Hosts;
  /** Property by which it is limited. */
  property?: string;
  /** What is not as it was with OpenVZ, or what the number leaves out. */
  note?: string;
}

const NOTHING: Hosts = { v2: '', hybrid: '' };
const both = (what: string): Hosts => ({ v2: what, hybrid: what });
const PROGRAMS = both('BPF programs at the group');
const IN_KERNEL = both('BPF programs in the kernel');
const PART_OF_MEMORY = 'Part of what memory.limit holds.';

/** The rows, in the file's order; `dummy` rows, which OpenVZ keeps for programs that count lines, have no name of their own. */
export const BEANCOUNTERS: readonly BeancounterRow[] = [
  { name: 'kmemsize', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Kernel memory that cannot be swapped out.', counted: { v2: 'memory.stat (kernel)', hybrid: 'memory.kmem.usage_in_bytes' }, held: NOTHING, note: PART_OF_MEMORY },
  { name: 'lockedpages', unit: 'pages', rank: 'auxiliary', pair: 'equal', help: 'Memory locked by mlock(2).', counted: both('memory.stat (unevictable)'), held: NOTHING, note: 'Counts ramfs and locked shared memory, too.' },
  { name: 'privvmpages', unit: 'pages', rank: 'secondary', pair: 'both', help: 'Private address space that could be used.', counted: NOTHING, held: NOTHING, note: 'No stock kernel counts it by groups.' },
  { name: 'shmpages', unit: 'pages', rank: 'auxiliary', pair: 'equal', help: 'Shared memory and tmpfs.', counted: both('memory.stat (shmem)'), held: NOTHING, note: PART_OF_MEMORY },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', counted: NOTHING, held: NOTHING },
  { name: 'numproc', unit: 'items', rank: 'primary', pair: 'equal', help: 'Processes and threads.', counted: both('pids.current'), held: both('pids.max'), property: 'pids.limit', note: 'Before Linux 6.11 a refusal counts for as long as the service is there in which it was.' },
  { name: 'physpages', unit: 'pages', rank: 'auxiliary', pair: 'limit', help: 'RAM, page cache included.', counted: { v2: 'memory.current', hybrid: 'memory.usage_in_bytes' }, held: { v2: 'memory.max', hybrid: 'memory.limit_in_bytes' }, property: 'memory.limit', note: 'At the limit memory is taken back; failcnt counts the times at which there was none to take (v1: the processes that were ended then).' },
  { name: 'vmguarpages', unit: 'pages', rank: 'primary', pair: 'guarantee', help: 'Memory that allocations are promised.', counted: { v2: 'memory.current', hybrid: '' }, held: { v2: 'memory.min', hybrid: '' }, property: 'memory.guarantee', note: 'What the VE has of it is not taken back. No stock kernel promises an allocation itself; soft limits of v1 were tried, and keep nothing.' },
  { name: 'oomguarpages', unit: 'pages', rank: 'secondary', pair: 'guarantee', help: 'Memory that is promised when the host runs out of it.', counted: { v2: 'memory.current and memory.swap.current less page cache', hybrid: 'memory.memsw.usage_in_bytes less page cache' }, held: both('oom_score_adj of its processes, by the daemon'), property: 'memory.oom_guarantee', note: 'Who uses more than its own is ended before who does not. Use is looked at once a second; while the daemon is away what it found last holds. failcnt: processes that were ended for want of memory.' },
  { name: 'numtcpsock', unit: 'items', rank: 'primary', pair: 'equal', help: 'TCP sockets.', counted: PROGRAMS, held: PROGRAMS, property: 'ubc.numtcpsock', note: 'A connection that comes in counts from being established to its end, whoever has accepted it. Over the limit what is sent to listening sockets is dropped.' },
  { name: 'numflock', unit: 'items', rank: 'auxiliary', pair: 'both', help: 'File locks.', counted: IN_KERNEL, held: IN_KERNEL, property: 'ubc.numflock', note: 'New ones are refused at the barrier; one for which a process has waited, and what is left of one whose middle is taken away, are not. Leases are not in it.' },
  { name: 'numpty', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Pseudo-terminals.', counted: both('names in /dev/pts'), held: both('max= of devpts'), property: 'ubc.numpty', note: 'Held for programs, not against the root of the VE, who can mount it anew. The kernel counts neither peak nor refusals.' },
  { name: 'numsiginfo', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Queued signals.', counted: NOTHING, held: NOTHING, note: 'All of a VE together have what RLIMIT_SIGPENDING of the daemon was when it was booted or brought back, for themselves: its root owns its user namespace (`veld doctor` tells where not).' },
  { name: 'tcpsndbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Send buffers of TCP sockets.', counted: { v2: 'memory.stat (sock)', hybrid: '' }, held: NOTHING, note: `Buffers of all sockets, of both directions, on v2; not counted on v1. ${PART_OF_MEMORY}` },
  { name: 'tcprcvbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Receive buffers of TCP sockets.', counted: NOTHING, held: NOTHING, note: 'Counted in tcpsndbuf (v2).' },
  { name: 'othersockbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Buffers of other sockets.', counted: NOTHING, held: NOTHING, note: 'Counted in tcpsndbuf (v2).' },
  { name: 'dgramrcvbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Receive buffers of datagram sockets.', counted: NOTHING, held: NOTHING, note: 'Counted in tcpsndbuf (v2).' },
  { name: 'numothersock', unit: 'items', rank: 'primary', pair: 'equal', help: 'Sockets other than TCP.', counted: PROGRAMS, held: PROGRAMS, property: 'ubc.numothersock', note: 'Of IPv4 and IPv6: UDP, raw, ping, SCTP. Local (UNIX), netlink and packet sockets are not in it.' },
  { name: 'dcachesize', unit: 'bytes', rank: 'auxiliary', pair: 'both', help: 'Names of files that the kernel keeps in memory because they are in use.', counted: NOTHING, held: NOTHING, note: 'Counted in kmemsize.' },
  { name: 'numfile', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Open files.', counted: IN_KERNEL, held: IN_KERNEL, property: 'ubc.numfile', note: 'Sockets, pipes and files that are only mapped are in it. Of a file on an overlay that was mounted within the VE there are two.' },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', counted: NOTHING, held: NOTHING },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', counted: NOTHING, held: NOTHING },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', counted: NOTHING, held: NOTHING },
  { name: 'numiptent', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Rules of netfilter.', counted: NOTHING, held: NOTHING, note: 'The kernel keeps no number of rules; to list them takes a program in the network namespace of the VE, whose root says how long the list is.' },
  { name: 'swappages', unit: 'pages', rank: 'auxiliary', pair: 'limit', help: 'Swap.', counted: { v2: 'memory.swap.current', hybrid: 'memory.memsw.usage_in_bytes less memory.usage_in_bytes' }, held: { v2: 'memory.swap.max', hybrid: 'memory.memsw.limit_in_bytes' }, property: 'memory.swap', note: 'On v1 the limit is of memory and swap together. Its line came with VSwap, after all others.' },
];

/** One row as it is now. Amounts are in the row's unit. */
export interface Beancounter {
  name: string;
  unit: Unit;
  held: number;
  maxheld: number;
  /** Null, here and below: unlimited. */
  barrier: number | null;
  limit: number | null;
  failcnt: number;
  /** Of held, maxheld and failcnt, those that the kernel keeps; others are 0, or (maxheld) what is held now, and say nothing. */
  kept: Kept[];
  /** What keeps them; null: nothing does. */
  counted: string | null;
  /** What refuses more than the limit, now, on this host; null: nothing does. */
  enforced: string | null;
  /** What the numbers leave out. */
  note: string | null;
}

/** All rows of a VE. */
export interface Beancounters {
  /** Number of the VE, which is its `uid` there. */
  number: number;
  rows: Beancounter[];
}
