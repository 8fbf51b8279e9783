/** Ends a criu that does nothing any more, with whatever it has started: whoever waits for it would wait for ever. */
import { readdirSync, readlinkSync } from 'node:fs';
import { signalProcess } from './pidfd.ts';
import { readProcess, readProcessFile, readProcessFileHead, type ProcessInfo } from './process.ts';

/** Looks at it in the time after which it is given up. */
const LOOKS = 6;

export interface CriuWatch {
  /** How often a criu was ended. */
  ended(): number;
  close(): void;
}

/**
 * Watch over the criu that works from a folder, while there is one.
 * @param folder the one its `--config` is in
 * @param patience milliseconds in which neither it nor a process below it uses the CPU, reads, writes, begins or ends
 * @param onEnd is told what was ended
 */
export function watchCriu(folder: string, patience: number, onEnd: (processes: readonly ProcessInfo[]) => void): CriuWatch {
  let ended = 0;
  let [last, alike] = ['', 0];
  const look = (): void => {
    const family = criuFamily(folder);
    const now = family.map(trace).join('\n');
    // Looks are counted, not time: this process may itself have stood still.
    alike = now === last && family.length > 0 ? alike + 1 : 0;
    last = now;
    if (alike < LOOKS) return;
    ended += 1;
    onEnd(family);
    // criu first: else it would see the others end, and might go on.
    for (const process of family) signalProcess(process, 'SIGKILL');
    alike = 0;
  };
  const timer = setInterval(look, patience / LOOKS);
  timer.unref();
  return { ended: () => ended, close: () => clearInterval(timer) };
}

/** End the criu that works from a folder, and all that it has started, at once. */
export function endCriu(folder: string): void {
  for (const process of criuFamily(folder)) signalProcess(process, 'SIGKILL');
}

/** That criu and all processes below it, it first. */
function criuFamily(folder: string): ProcessInfo[] {
  const all = readdirSync('/proc').flatMap((name) => (/^\d+$/.test(name) ? readProcess(Number(name)) ?? [] : []));
  const family = all.filter(({ pid, comm }) => comm === 'criu' && isCriu(pid) && (readProcessFileHead(pid, 'cmdline') ?? '').includes(`\0${folder}/`));
  const known = new Set(family.map(({ pid }) => pid));
  for (let before = -1; before !== known.size;) {
    before = known.size;
    for (const process of all) {
      if (known.has(process.pid) || !known.has(process.ppid)) continue;
      known.add(process.pid);
      family.push(process);
    }
  }
  return family;
}

/** (One of the host: a VE may have something of that name, too.) */
function isCriu(pid: number): boolean {
  try {
    return readlinkSync(`/proc/${pid}/exe`).endsWith('/criu') && readlinkSync(`/proc/${pid}/ns/user`) === readlinkSync('/proc/self/ns/user');
  } catch {
    return false; // it has ended
  }
}

/** What changes while a process does anything: its state apart, for it may be looked at while it is woken in vain. */
function trace({ pid, startTime }: ProcessInfo): string {
  // Fields 14 and 15 of stat are CPU time in ticks: coarse, so what was read and written counts, too.
  const stat = (readProcessFile(pid, 'stat') ?? '').split(') ').at(-1)?.split(' ') ?? [];
  return [pid, startTime, stat[11], stat[12], /^rchar: \d+\nwchar: \d+/.exec(readIo(pid))?.[0]].join(' ');
}

function readIo(pid: number): string {
  try {
    return readProcessFile(pid, 'io') ?? '';
  } catch {
    return '';
  }
}
