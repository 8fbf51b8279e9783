/**
 * The table of user beancounters: OpenVZ's rows in OpenVZ's order, and for each what counts it, and what holds it, on a kernel without OpenVZ.
 * Names, order and meaning: proc_user_beancounters(5) of OpenVZ, kernel/bc/ of its kernels.
 */

/** OpenVZ's LONG_MAX: what `unlimited` is written as. */
export const UNLIMITED = 9_223_372_036_854_775_807n;

/** The page in which OpenVZ counts, in bytes, whatever the host's own is. */
export const PAGE = 4096;

export type Unit = 'items' | 'pages' | 'bytes';

/** What stands for a row's amount: see the folder resources/beancounters/. */
export type Source = 'none' | 'memory' | 'pids' | 'sockets' | 'ptys';

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
  source: Source;
  /** What keeps the amount here. Empty: nothing. */
  counted: string;
  /** What refuses more of it here, by kind of host. Empty: nothing does. */
  held: { v2: string; hybrid: string };
  /** Property by which it is limited. */
  property?: string;
  /** What is not as it was with OpenVZ, or what the number leaves out. */
  note?: string;
}

const NOTHING = { v2: '', hybrid: '' };
const both = (what: string): { v2: string; hybrid: string } => ({ v2: what, hybrid: what });
const PART_OF_MEMORY = 'Part of what memory.limit holds.';

/** The rows, in the file's order; `dummy` rows, which OpenVZ keeps for programs that count lines, have no name of their own. */
export const BEANCOUNTERS: readonly BeancounterRow[] = [
  { name: 'kmemsize', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Kernel memory that cannot be swapped out.', source: 'memory', counted: 'memory.stat (v2: kernel without sockets and page tables of user pages; v1: memory.kmem)', held: NOTHING, note: PART_OF_MEMORY },
  { name: 'lockedpages', unit: 'pages', rank: 'auxiliary', pair: 'equal', help: 'Memory locked by mlock(2).', source: 'memory', counted: 'memory.stat (unevictable)', held: NOTHING, note: 'Counts ramfs and locked shared memory, too.' },
  { name: 'privvmpages', unit: 'pages', rank: 'secondary', pair: 'both', help: 'Private address space that could be used.', source: 'none', counted: '', held: NOTHING, note: 'No stock kernel counts it by groups.' },
  { name: 'shmpages', unit: 'pages', rank: 'auxiliary', pair: 'equal', help: 'Shared memory and tmpfs.', source: 'memory', counted: 'memory.stat (shmem)', held: NOTHING, note: PART_OF_MEMORY },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', source: 'none', counted: '', held: NOTHING },
  { name: 'numproc', unit: 'items', rank: 'primary', pair: 'equal', help: 'Processes and threads.', source: 'pids', counted: 'pids.current', held: both('pids.max'), property: 'pids.limit' },
  { name: 'physpages', unit: 'pages', rank: 'auxiliary', pair: 'limit', help: 'RAM, page cache included.', source: 'memory', counted: 'memory.current (v1: memory.usage_in_bytes)', held: { v2: 'memory.max', hybrid: 'memory.limit_in_bytes' }, property: 'memory.limit', note: 'The refusal is memory that is taken back, or the end of a process. On v2 failcnt counts the times at which there was nothing left to take back.' },
  { name: 'vmguarpages', unit: 'pages', rank: 'primary', pair: 'guarantee', help: 'Memory that allocations are promised.', source: 'none', counted: '', held: NOTHING },
  { name: 'oomguarpages', unit: 'pages', rank: 'secondary', pair: 'guarantee', help: 'Memory that is promised when the host runs out of it.', source: 'memory', counted: 'memory and swap; failcnt: memory.events (oom_kill)', held: NOTHING, note: 'Counts processes that were ended for want of memory.' },
  { name: 'numtcpsock', unit: 'items', rank: 'primary', pair: 'equal', help: 'TCP sockets.', source: 'sockets', counted: 'BPF programs at the group', held: both('BPF programs at the group'), property: 'ubc.numtcpsock', note: 'A connection that comes in counts from being established to its end, whoever has accepted it. Over the limit what is sent to listening sockets is dropped.' },
  { name: 'numflock', unit: 'items', rank: 'auxiliary', pair: 'both', help: 'File locks.', source: 'none', counted: '', held: NOTHING },
  { name: 'numpty', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Pseudo-terminals.', source: 'ptys', counted: 'names in /dev/pts', held: both('max= of devpts'), property: 'ubc.numpty', note: 'Held for programs, not against the root of the VE, who can mount it anew. The kernel counts neither peak nor refusals.' },
  { name: 'numsiginfo', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Queued signals.', source: 'none', counted: '', held: NOTHING },
  { name: 'tcpsndbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Send buffers of TCP sockets.', source: 'memory', counted: 'memory.stat (sock), all buffers together (v1: memory.kmem.tcp)', held: NOTHING, note: `All buffers of sockets are counted together, here. ${PART_OF_MEMORY}` },
  { name: 'tcprcvbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Receive buffers of TCP sockets.', source: 'none', counted: '', held: NOTHING, note: 'Counted in tcpsndbuf.' },
  { name: 'othersockbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Buffers of other sockets.', source: 'none', counted: '', held: NOTHING, note: 'Counted in tcpsndbuf (v2).' },
  { name: 'dgramrcvbuf', unit: 'bytes', rank: 'secondary', pair: 'both', help: 'Receive buffers of datagram sockets.', source: 'none', counted: '', held: NOTHING, note: 'Counted in tcpsndbuf (v2).' },
  { name: 'numothersock', unit: 'items', rank: 'primary', pair: 'equal', help: 'Sockets other than TCP.', source: 'sockets', counted: 'BPF programs at the group', held: both('BPF programs at the group'), property: 'ubc.numothersock', note: 'Of IPv4 and IPv6: UDP, raw, ping, SCTP. Local (UNIX), netlink and packet sockets are not in it.' },
  { name: 'dcachesize', unit: 'bytes', rank: 'auxiliary', pair: 'both', help: 'Names of files that the kernel keeps in memory because they are in use.', source: 'none', counted: '', held: NOTHING, note: 'Counted in kmemsize.' },
  { name: 'numfile', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Open files.', source: 'none', counted: '', held: NOTHING },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', source: 'none', counted: '', held: NOTHING },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', source: 'none', counted: '', held: NOTHING },
  { name: 'dummy', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Keeps the line.', source: 'none', counted: '', held: NOTHING },
  { name: 'numiptent', unit: 'items', rank: 'auxiliary', pair: 'equal', help: 'Rules of netfilter.', source: 'none', counted: '', held: NOTHING },
  { name: 'swappages', unit: 'pages', rank: 'auxiliary', pair: 'limit', help: 'Swap.', source: 'memory', counted: 'memory.swap.current (v1: memory.memsw less memory)', held: { v2: 'memory.swap.max', hybrid: 'memory.memsw.limit_in_bytes' }, property: 'memory.swap', note: 'On v1 the limit is of memory and swap together. Its line came with VSwap, after all others.' },
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
  /** What keeps the amounts; null: nothing does, and they say nothing. */
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
