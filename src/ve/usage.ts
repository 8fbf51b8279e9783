/** What VEs use, all of them at a moment, and the processes of one: counters as the kernel keeps them. Rates are the reader's business. */
import { freemem, availableParallelism, loadavg, totalmem } from 'node:os';
import { openGuestRoot } from '../kernel/guest-tree.ts';
import { readProcessUses } from '../kernel/process-table.ts';
import type { ProcessId } from '../kernel/process.ts';
import { VeldError } from '../lib/errors.ts';
import { resolveProperties } from '../spec/properties.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';
import { MAX_ACCOUNT_FILE, UIDS, userNames } from './guest-users.ts';
import { readRunState } from './run-folder.ts';
import type { UsageSample, VeProcesses } from './types.ts';
import { timeOfTicks, viewVes } from './view.ts';

/** Processes of a VE that are told of: as many as the default pids.limit twice over. The rest is counted. */
const MAX_PROCESSES = 8192;

/** Counters of all VEs. Each has the moment at which it was read, for whoever makes rates of two samples. */
export function sampleUsage(context: VeContext): UsageSample {
  const { store, resources, network } = context;
  const trafficOf = network.trafficOfAll();
  const views = new Map(viewVes(context).map((view) => [view.uuid, view]));
  return {
    time: new Date().toISOString(),
    host: { cpus: availableParallelism(), memoryBytes: totalmem(), availableBytes: freemem(), load: loadavg() },
    ves: store.listVes().flatMap((ve) => {
      const view = views.get(ve.uuid);
      if (!view) return [];
      const { uuid, number, name, status, pid, startedAt } = view;
      const properties = resolveProperties(ve.properties);
      return [{
        uuid, number, name, status, pid, startedAt,
        limits: { cpuPercent: properties['cpu.limit'], memoryBytes: properties['memory.limit'], tasks: properties['pids.limit'] },
        clock: monotonic(),
        usage: pid === null ? null : resources.usage(number) ?? null,
        traffic: pid === null ? null : trafficOf(ve) ?? null,
      }];
    }),
  };
}

/**
 * The processes of a running VE. Commands are hostile text.
 * @throws VeldError `ve.not_running`
 */
export async function veProcesses(context: VeContext, ve: VeRecord): Promise<VeProcesses> {
  const { init } = readRunState(context.settings, ve.number);
  if (!init) throw new VeldError('ve.not_running', `${ve.name} is not running.`);
  const pids = context.resources.pids(ve.number);
  const names = await guestUserNames(init);
  const uses = await readProcessUses(pids.slice(0, MAX_PROCESSES));
  // The groups also hold helpers of the host on their way in (tini, crun), and a pid that was given anew since is nobody of ours.
  const inside = uses.filter((use) => use.innerPids.length > 0 && use.uid >= ve.uidBase && use.uid < ve.uidBase + UIDS);
  return {
    clock: monotonic(),
    more: Math.max(0, pids.length - MAX_PROCESSES),
    processes: inside.map((use) => {
      const uid = use.uid - ve.uidBase;
      return {
        pid: use.pid, insidePid: use.innerPids[0]!, uid, user: names.get(uid) ?? null, state: use.state, threads: use.threads,
        cpuSeconds: use.cpuSeconds, memoryBytes: use.memoryBytes, startedAt: timeOfTicks(use.startTime), command: use.command ?? `[${use.comm}]`,
      };
    }),
  };
}

/** Seconds since the host booted, the same clock for this daemon and the next. */
function monotonic(): number {
  return Number(process.hrtime.bigint()) / 1e9;
}

/** Names by uid, from the VE's own account file; none when it cannot be read. */
async function guestUserNames(init: ProcessId): Promise<Map<number, string>> {
  const root = await openGuestRoot(init);
  try {
    return userNames((await root.readFile('/etc/passwd', MAX_ACCOUNT_FILE)).toString('utf8'));
  } catch {
    return new Map();
  } finally {
    root.close();
  }
}
