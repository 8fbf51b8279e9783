/**
 * What processes of a VE use, from /proc (formats: proc_pid_stat(5), proc_pid_status(5), proc_pid_cmdline(5)).
 *
 * Their names and command lines are whatever they say of themselves. A command line lies in the memory of its process, and reading it can
 * wait for that process: it is read by one thread at a time, which nobody waits for longer than a moment.
 */
import { readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseStat } from './process.ts';

/** Clock ticks a second of /proc (USER_HZ), the same on all architectures that Linux runs on today. */
const USER_HZ = 100;
/** What is kept of a command line, in bytes. */
const COMMAND_LIMIT = 4096;
/** How long command lines may take, all together, in milliseconds. */
const COMMANDS_TIMEOUT = 500;
/** Processes looked at before other work of this program has its turn. */
const SLICE = 64;

/** One process. */
export interface ProcessUse {
  pid: number;
  /** Pids in the pid namespaces below the host's, the outermost first. */
  innerPids: number[];
  /** Clock ticks between boot and its start. */
  startTime: number;
  /** One letter, as in proc(5). */
  state: string;
  /** Effective uid as the host sees it. */
  uid: number;
  threads: number;
  /** CPU time of all its threads, in seconds. */
  cpuSeconds: number;
  /** Memory in RAM, shared pages included, in bytes. */
  memoryBytes: number;
  /** Name of the program, at most 15 bytes. */
  comm: string;
  /** Command line, words parted by blanks; undefined when there is none (it has ended, or wiped it) or it could not be read in time. */
  command: string | undefined;
}

/** Look at processes. Those that end meanwhile are left out. */
export async function readProcessUses(pids: readonly number[]): Promise<ProcessUse[]> {
  const found: ProcessUse[] = [];
  for (const [i, pid] of pids.entries()) {
    if (i % SLICE === SLICE - 1) await nextTurn();
    const use = readProcessUse(pid);
    if (use) found.push(use);
  }
  await readCommands(found);
  return found;
}

function readProcessUse(pid: number): ProcessUse | undefined {
  let stat: string;
  let status: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    status = readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return undefined; // it ended
  }
  const known = parseStat(stat);
  if (!known) return undefined;
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // fields[0] is field 3
  // The name of the process is the first line, and the kernel escapes newlines in it: no other line is its to write.
  const line = (name: string): string[] => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(status)?.[1]?.split(/\s+/) ?? [];
  return {
    pid, startTime: known.startTime, state: known.state, comm: known.comm,
    innerPids: line('NSpid').slice(1).map(Number),
    uid: Number(line('Uid')[1]),
    threads: Number(line('Threads')[0]),
    cpuSeconds: (Number(fields[11]) + Number(fields[12])) / USER_HZ,
    memoryBytes: Number(line('VmRSS')[0] ?? 0) * 1024,
    command: undefined,
  };
}

/** A reading that hangs holds one thread of Node's four; while it does, no other is begun. */
let reading: Promise<void> | undefined;

async function readCommands(uses: readonly ProcessUse[]): Promise<void> {
  if (reading) return;
  const end = performance.now() + COMMANDS_TIMEOUT;
  reading = (async () => {
    for (const use of uses) {
      if (performance.now() > end) return;
      use.command = await readCommand(use.pid);
    }
  })().finally(() => { reading = undefined; });
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => { timer = setTimeout(resolve, COMMANDS_TIMEOUT); });
  await Promise.race([reading, late]);
  clearTimeout(timer);
}

async function readCommand(pid: number): Promise<string | undefined> {
  try {
    await using file = await open(`/proc/${pid}/cmdline`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(COMMAND_LIMIT), 0, COMMAND_LIMIT, null);
    const text = buffer.toString('utf8', 0, bytesRead).replace(/\0+$/, '').replaceAll('\0', ' ');
    return text === '' ? undefined : text;
  } catch {
    return undefined; // it ended
  }
}
