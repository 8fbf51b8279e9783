/**
 * The kinds of init that Veld knows, told by the program that runs as pid 1, never by the template's name: how each shows that it is up,
 * and how it is asked to power off. `libexec/veld-shutdown` asks in the same ways when the host goes down.
 */
import { existsSync, readlinkSync } from 'node:fs';
import { basename, join } from 'node:path';
import { findInitctl, requestRunlevel } from '../kernel/initctl.ts';
import { signalProcess } from '../kernel/pidfd.ts';
import { readProcessFile, type ProcessId } from '../kernel/process.ts';
import { listensTo } from '../kernel/signals.ts';

/** Path in an application VE of the init that runs its command; mounted over what the template has there. */
export const COMMAND_INIT = '/run/veld/init';

/** `command`: Veld's own init with the one command of an application VE. */
export type InitKind = 'systemd' | 'sysvinit' | 'busybox' | 'command' | 'other';

interface InitRow {
  /** Whether it has shown that it is up. @param group the VE's cgroup2 directory @param elapsed milliseconds since the boot */
  isUp(init: ProcessId, group: string, elapsed: number): boolean;
  /** Ask it to power off. @returns whether it can have heard */
  powerOff(init: ProcessId): boolean;
}

/** What an init that gives no sign is given to die in, in milliseconds. */
const GRACE = 300;

/** The same for one that looks like sysvinit but has no FIFO: it should have had one long ago. */
const LONG_GRACE = 5000;

/** A command runs once it was found; one that fails in its first moments (a wrong argument) still makes the start fail. */
const COMMAND_GRACE = 100;

/** SIGRTMIN+4 on Linux (glibc's SIGRTMIN is 34; systemd counts from it): poweroff.target. */
const SYSTEMD_POWEROFF = 34 + 4;

/** What an unknown init may take as a wish to shut down, the clearest first: the custom of LXC's templates, and that of servers. (SIGINT is Ctrl-Alt-Del to an init.) */
const END_SIGNALS: readonly NodeJS.Signals[] = ['SIGPWR', 'SIGTERM'];

export const INITS: Readonly<Record<InitKind, InitRow>> = {
  systemd: {
    // It makes system.slice after it has its inotify instances, its bus and its units: a dead one never does.
    isUp: (_, group) => existsSync(join(group, 'system.slice')),
    powerOff: (init) => signalProcess(init, SYSTEMD_POWEROFF),
  },
  sysvinit: {
    // It opens its FIFO in its main loop, after it has read its inittab. (SIGPWR would only do what a line of the inittab says.)
    isUp: (init) => findInitctl(init.pid) !== undefined,
    powerOff: (init) => requestRunlevel(init.pid, '0'),
  },
  busybox: {
    // Its handler for SIGTSTP is set up last, before it reads its inittab. (What it takes by sigwait(3) is not in its mask all the time.)
    isUp: (init) => listensTo(init.pid, 'SIGTSTP'),
    powerOff: (init) => signalProcess(init, 'SIGUSR2'),
  },
  command: {
    isUp: (init, _, elapsed) => elapsed >= COMMAND_GRACE && commandRuns(init.pid),
    powerOff: (init) => signalProcess(init, 'SIGTERM'),
  },
  other: {
    isUp: (init, _, elapsed) => elapsed >= (basename(programOf(init)) === 'init' ? LONG_GRACE : GRACE),
    powerOff(init) {
      const signal = END_SIGNALS.find((name) => listensTo(init.pid, name));
      return signal !== undefined && signalProcess(init, signal);
    },
  },
};

/** What kind of init this is; undefined while crun has not yet made way for it, or when it has ended. */
export function initKind(init: ProcessId): InitKind | undefined {
  const program = programOf(init);
  if (program === '') return undefined;
  if (program === COMMAND_INIT) return 'command';
  if (basename(program) === 'systemd') return 'systemd';
  // A script that busybox' shell runs has the shell's name there.
  if (basename(program) === 'busybox' && basename((readProcessFile(init.pid, 'cmdline') ?? '').split('\0')[0] ?? '') === 'init') return 'busybox';
  if (findInitctl(init.pid) !== undefined) return 'sysvinit';
  return 'other';
}

/** Path of the program that init runs, as init sees it; empty while crun has not yet made way for it. */
function programOf(init: ProcessId): string {
  try {
    const path = readlinkSync(`/proc/${init.pid}/exe`);
    return /crun|memfd:/.test(path) ? '' : path;
  } catch {
    return '';
  }
}

/** Whether the init of an application VE has a child that is not itself any more: its command was found and runs. */
function commandRuns(pid: number): boolean {
  const children = (readProcessFile(pid, `task/${pid}/children`) ?? '').trim().split(' ').filter(Boolean);
  return children.some((child) => {
    try {
      return readlinkSync(`/proc/${child}/exe`) !== COMMAND_INIT;
    } catch {
      return false; // it has just ended; what init makes of that is seen next
    }
  });
}
