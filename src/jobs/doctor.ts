/**
 * `veld doctor`: everything that can be wrong with a node, in one list.
 *
 * What it looks at comes in as plain functions, so that it knows neither managers nor files. A function that fails or hangs becomes a
 * warning of its own: a doctor that is ill must not hide the patient's other illnesses.
 */
import { statfsSync } from 'node:fs';
import { askClockSynchronised } from '../kernel/probe-calls.ts';
import type { HostLimit } from '../kernel/host-limits.ts';
import type { Probe } from '../kernel/probes.ts';
import { toVeldError } from '../lib/errors.ts';

export interface DoctorCheck {
  /** Stable: programs match on it. */
  id: string;
  title: string;
  status: 'ok' | 'warn' | 'fail' | 'info';
  message: string;
  /** What VEs suffer from it. */
  consequence?: string;
  /** What to do. */
  remedy?: string;
}

export interface LxcfsState {
  /** Whether its process lives and answers a read. */
  alive: boolean;
  version: string | null;
  /** Whether a memory limit was seen in /proc/meminfo of a running VE; null when no VE with a limit runs. */
  limitSeen: boolean | null;
  /** Why it is not alive, or why the limit is not seen. */
  reason?: string;
  /** What its keeper saw. */
  history?: { ended: number; lastEnd: string | null; trouble: string | null; staleVes: readonly string[] };
}

/** What doctor needs to know of an engine: a part of its manifest. */
export interface EngineState {
  fingerprint: string;
  suite: string;
  /** A Release file was past its Valid-Until, and the settings allowed that. */
  expired: boolean;
  /** Package -> version. */
  packages: Record<string, string>;
  /** ISO 8601. */
  builtAt: string;
}

/** The resolver for VEs. */
export interface NamesState {
  /** Empty where the settings want none. */
  domain: string;
  resolvers: readonly string[];
  answers: boolean | null;
  /** Whether programs of the host find VEs, too. */
  hostFinds: boolean;
}

/** What doctor looks at of another node: a part of what cluster/ says of it. */
export interface NodeHealth {
  name: string;
  state: string;
  reason: string | null;
  /** How far its clock is ahead, milliseconds. */
  clock: number | null;
  uidsOverlap: boolean | null;
}

/** What doctor looks at of a pool. */
export interface PoolHealth {
  name: string;
  path: string;
  /** Null while it is not there. */
  room: { bytes: number; freeBytes: number; inodes: number; freeInodes: number } | null;
  /** Properties that it holds; in words why not. */
  holds: Readonly<Record<string, true | string>> | null;
  ves: readonly string[];
}

export interface DoctorDeps {
  stateDir: string;
  /** `runProbes` of kernel/probes.ts. */
  probes: () => Promise<readonly Probe[]>;
  /** `readHostLimits` of kernel/host-limits.ts: as they are now. */
  hostLimits: () => readonly HostLimit[];
  /** The current engine's manifest. @throws VeldError `engine.missing` */
  engine: () => EngineState;
  /** Undefined where Veld runs without lxcfs. */
  lxcfs?: () => Promise<LxcfsState>;
  /** `warnings()` of the network. */
  networkWarnings: () => Promise<readonly string[]>;
  names?: () => Promise<NamesState>;
  /** `support()` of the resources. */
  resourceSupport: () => Record<string, true | string>;
  /** Memory that limits of running VEs promise, `ratio` of the host's, and how much of it may be. */
  promises?: () => { ratio: number; most: number; unlimited: number };
  /** Other nodes, each asked how it is. */
  nodes?: () => Promise<readonly NodeHealth[]>;
  /** Names of running VEs whose user namespaces belong to another user than their own root; what makes that otherwise, or why there is none. */
  namespaceOwners?: () => { others: readonly string[]; library: { path: string } | { missing: string; remedy: string } };
  /** Where disks of VEs lie. */
  pools?: () => readonly PoolHealth[];
  /** VEs that should run, and do not. */
  failedVes?: () => readonly { name: string; reason: string }[];
  /** Replaced in tests. */
  disk?: (path: string) => { bytes: number; freeBytes: number; files: number; freeFiles: number };
  now?: () => number;
  clockSynchronised?: () => boolean | string;
}

/** Oldest crun that is free of the known ways out of a container (CVE-2026-47766). */
const CRUN_MINIMUM = '1.28';
/** Time for one part, in milliseconds. */
const PART_TIMEOUT = 20_000;
const GiB = 2 ** 30;

/** Look at everything. The order of the list is always the same. */
export async function runDoctor(deps: DoctorDeps): Promise<{ checks: DoctorCheck[] }> {
  const parts: [id: string, title: string, look: () => DoctorCheck[] | Promise<DoctorCheck[]>][] = [
    ['kernel', 'Kernel', async () => (await deps.probes()).map(fromProbe)],
    ['limits', 'Limits of the host', () => hostLimits(deps.hostLimits())],
    ['resources', 'Limits of VEs', () => resources(deps.resourceSupport())],
    ['engine', 'Engine', () => engine(deps)],
    ['lxcfs', 'lxcfs', async () => { const state = await deps.lxcfs?.(); return [...lxcfs(state), ...lxcfsHistory(state?.history)]; }],
    ['network', 'Network', async () => network(await deps.networkWarnings())],
    ['names', 'Names of VEs', async () => (deps.names ? [names(await deps.names())] : [])],
    ['promises', 'Memory promised to VEs', () => (deps.promises ? [promises(deps.promises())] : [])],
    ['owners', 'Owners of VEs', () => (deps.namespaceOwners ? [namespaceOwners(deps.namespaceOwners())] : [])],
    ['disk', 'Disk space', () => [disk(deps)]],
    ['pools', 'Pools', () => pools(deps.pools?.() ?? [])],
    ['clock', 'Clock', () => [clock(deps)]],
    ['nodes', 'Other nodes', async () => nodes(await deps.nodes?.() ?? [])],
    ['ves', 'VEs', () => ves(deps.failedVes?.() ?? [])],
  ];
  const found = await Promise.all(parts.map(async ([id, title, look]) => {
    try {
      return await inTime(async () => look());
    } catch (error) {
      return [{ id, title, status: 'warn' as const, message: `Could not be checked: ${toVeldError(error).message}` }];
    }
  }));
  return { checks: found.flat() };
}

async function inTime(look: () => Promise<DoctorCheck[]>): Promise<DoctorCheck[]> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${PART_TIMEOUT / 1000} s.`)), PART_TIMEOUT);
  });
  try {
    return await Promise.race([look(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function fromProbe({ id, title, ok, message, required, consequence, remedy }: Probe): DoctorCheck {
  const status = ok === true ? 'ok' : ok === false ? (required ? 'fail' : 'info') : required ? 'warn' : 'info';
  return { id, title, status, message, ...(consequence !== undefined && { consequence: `Without it: ${consequence}` }), ...(remedy !== undefined && { remedy }) };
}

function hostLimits(limits: readonly HostLimit[]): DoctorCheck[] {
  const low = limits.filter((limit) => limit.value !== null && limit.value < limit.need);
  if (low.length === 0) return [{ id: 'limits', title: 'Limits of the host', status: 'ok', message: `All ${limits.filter((l) => l.value !== null).length} are high enough.` }];
  return low.map(({ name, value, need, consequence }) => ({
    id: `limits.${name}`, title: name, status: 'warn', message: `It is ${value}; many VEs need ${need}.`,
    consequence: `When it is reached: ${consequence}.`, remedy: `sysctl -w ${name}=${need} (and in /etc/sysctl.d, to last)`,
  }));
}

/** Limits that a server as it comes does not hold: its disk has another scheduler, or its controllers are on v1. */
const RARE: readonly string[] = ['io.priority', 'memory.guarantee'];

function resources(support: Record<string, true | string>): DoctorCheck[] {
  const missing = Object.entries(support).filter((entry): entry is [string, string] => entry[1] !== true);
  const held = Object.keys(support).filter((property) => support[property] === true);
  const checks = missing.map(([property, why]): DoctorCheck => {
    const row = { id: `resources.${property}`, title: property, message: `It cannot be held: ${why}.`, consequence: 'Setting it is refused.' };
    // Few hosts need these, and some kernels have no way.
    if (RARE.includes(property)) return { ...row, status: 'info' };
    if (!property.startsWith('ubc.')) return { ...row, status: 'warn' };
    const needs = property.endsWith('sock') ? 'CONFIG_CGROUP_BPF' : 'CONFIG_DEBUG_INFO_BTF, CONFIG_BPF_EVENTS, and on its processor programs at its functions (CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS)';
    const consequence = `Setting it is refused, and \`veld beancounters\` ${property === 'ubc.numflock' ? 'knows only how many there are now' : 'does not count it'}.`;
    return { ...row, status: 'info', consequence, remedy: `Install clang and bpftool, then start the daemon again; the kernel needs ${needs}.` };
  });
  if (checks.every(({ status }) => status === 'info')) checks.unshift({ id: 'resources', title: 'Limits of VEs', status: 'ok', message: `${held.join(', ')} can be held.` });
  return checks;
}

function engine(deps: DoctorDeps): DoctorCheck[] {
  const title = 'Engine';
  let state: EngineState;
  try {
    state = deps.engine();
  } catch (thrown) {
    const error = toVeldError(thrown);
    return [{ id: 'engine', title, status: 'fail', message: error.message, consequence: 'No VE can start.', remedy: error.hint }];
  }
  const versions = ['crun', 'conmon', 'criu'].map((name) => `${name} ${state.packages[name] ?? 'unknown'}`).join(', ');
  const checks: DoctorCheck[] = [{ id: 'engine', title, status: 'ok', message: `${versions} from ${state.suite}, built ${state.builtAt.slice(0, 10)} (${state.fingerprint.slice(0, 12)}).` }];
  if (older(state.packages.crun ?? '', CRUN_MINIMUM)) {
    checks.push({
      id: 'engine.crun', title, status: 'warn', message: `crun ${state.packages.crun} is older than ${CRUN_MINIMUM}.`,
      consequence: 'It has known ways out of a container.', remedy: 'Build a newer engine: `veld engine build`.',
    });
  }
  if (state.expired) {
    checks.push({
      id: 'engine.release', title, status: 'warn', message: `It was built from a Release file past its Valid-Until (engine.expiredRelease=record).`,
      consequence: 'Security fixes of the suite may be missing.', remedy: 'Build it again from a mirror that is up to date.',
    });
  }
  return checks;
}

/** Compare the upstream part of Debian versions, number by number. An unknown version is not older. */
function older(version: string, minimum: string): boolean {
  const numbers = (text: string): number[] => (/(?:^\d+:)?(\d+(?:\.\d+)*)/.exec(text)?.[1] ?? '').split('.').filter(Boolean).map(Number);
  const have = numbers(version);
  if (have.length === 0) return false;
  for (const [i, wanted] of numbers(minimum).entries()) if ((have[i] ?? 0) !== wanted) return (have[i] ?? 0) < wanted;
  return false;
}

function lxcfs(state: LxcfsState | undefined): DoctorCheck[] {
  const row = { id: 'lxcfs', title: 'lxcfs' };
  const consequence = 'Programs in VEs see the memory and CPUs of the host; limits hold all the same.';
  if (state === undefined) return [{ ...row, status: 'info', message: 'Not used on this node.', consequence }];
  const why = state.reason === undefined ? '' : ` (${state.reason})`;
  const name = `lxcfs ${state.version ?? 'of unknown version'}`;
  if (!state.alive) return [{ ...row, status: 'warn', message: `It does not run${why}.`, consequence, remedy: 'Run `./quickstart` again.' }];
  if (state.limitSeen === null) return [{ ...row, status: 'ok', message: `${name} runs; no running VE has a memory limit to see.` }];
  if (state.limitSeen) return [{ ...row, status: 'ok', message: `${name} runs, and a VE sees its memory limit.` }];
  return [{ ...row, status: 'warn', message: `${name} runs, but a VE does not see its memory limit${why}.`, consequence }];
}

function lxcfsHistory(history: LxcfsState['history']): DoctorCheck[] {
  if (history === undefined) return [];
  const { ended, lastEnd, trouble, staleVes } = history;
  const row = { title: 'lxcfs', status: 'warn' as const };
  const checks: DoctorCheck[] = [];
  if (trouble !== null) checks.push({ ...row, id: 'lxcfs.start', message: `The last start failed: ${trouble}`, remedy: 'It is tried again; see the daemon log.' });
  if (ended > 0) {
    checks.push({ ...row, id: 'lxcfs.ended', message: `It ended ${ended === 1 ? 'once' : `${ended} times`} since the daemon began, last at ${lastEnd}, and was started again.`,
      consequence: 'Reading /proc/meminfo and its like failed in VEs for a moment.', remedy: 'See lxcfs.log.1 in the run folder, and the daemon log.' });
  }
  if (staleVes.length > 0) {
    checks.push({ ...row, id: 'lxcfs.stale', message: `${staleVes.join(', ')}: files of an lxcfs that is gone.`,
      consequence: 'Reading /proc/meminfo and its like may fail there.', remedy: 'Restart these VEs; the daemon log tells why they could not be mended.' });
  }
  return checks;
}

function network(warnings: readonly string[]): DoctorCheck[] {
  if (warnings.length === 0) return [{ id: 'network', title: 'Network', status: 'ok', message: 'Nothing stands in the way.' }];
  return warnings.map((message, i) => ({ id: `network.${i + 1}`, title: 'Network', status: 'warn', message }));
}

function names({ domain, resolvers, answers, hostFinds }: NamesState): DoctorCheck {
  const row = { id: 'names', title: 'Names of VEs' };
  if (answers === null) return { ...row, status: 'info', message: 'No resolver of their own (`network.domain` in the settings is empty, or there are no pools).' };
  if (!answers) {
    return {
      ...row, status: 'warn', message: 'Their resolver does not answer.', consequence: resolvers.length > 0 ? 'VEs find no name at all until it does.' : 'VEs ask the resolvers of the host, and do not find each other by name.',
      remedy: 'Install dnsmasq-base, see that nothing else has port 53 of the gateway addresses, and read the daemon log; then start the daemon again.',
    };
  }
  if (hostFinds) return { ...row, status: 'ok', message: `VEs and the host find VEs as NAME.${domain}.` };
  return {
    ...row, status: 'info', message: `VEs find each other as NAME.${domain}; programs of the host do not.`,
    remedy: `Put \`nameserver ${resolvers[0]}\` before the others in /etc/resolv.conf (it asks the others itself), or run systemd-resolved.`,
  };
}

function promises({ ratio, most, unlimited }: ReturnType<NonNullable<DoctorDeps['promises']>>): DoctorCheck {
  const row = { id: 'promises', title: 'Memory promised to VEs' };
  const message = `Limits of VEs that run promise ${ratio.toFixed(2)} times the memory of the host${unlimited > 0 ? `; ${unlimited} run without a limit` : ''}.`;
  if (ratio <= most) return { ...row, status: 'ok', message };
  return { ...row, status: 'warn', message, consequence: 'When VEs need what they were promised at the same time, the kernel kills in them.', remedy: 'See `veld capacity`; overcommit.memory.ratio of the settings says from where on this is told.' };
}

function disk(deps: DoctorDeps): DoctorCheck {
  const { bytes, freeBytes, files, freeFiles } = (deps.disk ?? diskOf)(deps.stateDir);
  // Some file systems (btrfs) make inodes as they need them, and say 0.
  const inodes = files > 0 ? freeFiles / files : 1;
  const status = freeBytes < GiB / 2 || inodes < 0.01 ? 'fail' : freeBytes < 5 * GiB || freeBytes / bytes < 0.05 || inodes < 0.05 ? 'warn' : 'ok';
  const message = `${deps.stateDir}: ${(freeBytes / GiB).toFixed(1)} GiB of ${(bytes / GiB).toFixed(1)} free${files > 0 ? `, ${Math.round(inodes * 100)} % of its inodes` : ''}.`;
  const row = { id: 'disk', title: 'Disk space', status, message } as const;
  return status === 'ok' ? row : { ...row, consequence: 'VEs cannot write when it is full.', remedy: 'Remove VEs, templates and old engines, or enlarge the file system.' };
}

/** Each pool: whether it is there, has room, and what can be limited on it. */
function pools(found: readonly PoolHealth[]): DoctorCheck[] {
  return found.map(({ name, path, room, holds, ves }, i): DoctorCheck => {
    const row = { id: `pools.${name}`, title: `Pool ${name}` };
    if (room === null) {
      return { ...row, status: 'fail', message: `It is not there: nothing of it is in ${path}.`, consequence: ves.length > 0 ? `These VEs cannot start: ${ves.join(', ')}.` : 'No VE can be made on it.', remedy: 'Mount its disk, or start the daemon again, which mounts images of its own; `veld pool delete` when it is gone for good.' };
    }
    const held = Object.entries(holds ?? {}).filter(([property, ok]) => ok === true && property.startsWith('disk.')).map(([property]) => property);
    const message = held.length > 0 ? `${held.join(', ')} can be held.` : `No disk quotas: ${Object.values(holds ?? {}).find((why) => why !== true) ?? 'unknown'}.`;
    // The room of the default one is told of by the check of the disk.
    if (i > 0 && (room.freeBytes / room.bytes < 0.05 || (room.inodes > 0 && room.freeInodes / room.inodes < 0.05))) {
      return { ...row, status: 'warn', message: `${(room.freeBytes / GiB).toFixed(1)} GiB of ${(room.bytes / GiB).toFixed(1)} are free, and ${room.inodes > 0 ? `${room.freeInodes} inodes` : 'inodes as they are needed'}. ${message}`, consequence: 'VEs on it cannot write when it is full, whatever their limits.', remedy: 'Destroy VEs or snapshots on it.' };
    }
    return { ...row, status: held.length > 0 ? 'ok' : 'info', message };
  });
}

function diskOf(path: string): ReturnType<NonNullable<DoctorDeps['disk']>> {
  const fs = statfsSync(path);
  return { bytes: fs.blocks * fs.bsize, freeBytes: fs.bavail * fs.bsize, files: fs.files, freeFiles: fs.ffree };
}

function clock(deps: DoctorDeps): DoctorCheck {
  const row = { id: 'clock', title: 'Clock' };
  const now = (deps.now ?? Date.now)();
  let built = 0;
  try {
    built = Date.parse(deps.engine().builtAt);
  } catch { /* the engine has a check of its own */ }
  if (now < built) {
    return {
      ...row, status: 'fail', message: `It says ${new Date(now).toISOString()}, before this node's engine was built.`,
      consequence: 'Signatures and certificates are refused; times in VEs are wrong.', remedy: 'Set the clock, and run a time service.',
    };
  }
  const synchronised = (deps.clockSynchronised ?? askClockSynchronised)();
  if (synchronised === true) return { ...row, status: 'ok', message: 'It is kept by a time service.' };
  return {
    ...row, status: 'info', message: synchronised === false ? 'No time service keeps it.' : `The kernel does not say whether it is kept (${synchronised}).`,
    consequence: 'VEs cannot set it themselves; they go wrong with it.', remedy: 'Run chrony or systemd-timesyncd on the host.',
  };
}

/** Milliseconds by which clocks may differ. */
const CLOCK_TOLERANCE = 1000;

function nodes(found: readonly NodeHealth[]): DoctorCheck[] {
  return found.map(({ name, state, reason, clock, uidsOverlap }): DoctorCheck => {
    const row = { id: `nodes.${name}`, title: `Node ${name}` };
    if (state === 'ended') return { ...row, status: 'info', message: `The pairing has ended: ${reason ?? 'unknown'}.`, remedy: `\`veld node remove ${name}\`, or pair again.` };
    if (state !== 'ok' && state !== 'silent') return { ...row, status: 'warn', message: reason ?? state, consequence: 'No VE can move there or come from there.', remedy: `Look at \`veld node show ${name}\`.` };
    if (clock !== null && Math.abs(clock) > CLOCK_TOLERANCE) {
      return {
        ...row, status: 'warn', message: `Its clock is ${(Math.abs(clock) / 1000).toFixed(1)} s ${clock > 0 ? 'ahead of' : 'behind'} this node's.`,
        consequence: 'Times jump in VEs that move; certificates and tokens may be refused.', remedy: 'Run a time service on both.',
      };
    }
    if (uidsOverlap) return { ...row, status: 'info', message: 'It answers. It uses uids that this node uses, too.', consequence: 'A VE that moves between them gets other uids.' };
    return { ...row, status: 'ok', message: state === 'silent' ? 'It does not listen: only it can ask.' : 'It answers.' };
  });
}

/** Of what the kernel counts by user, see kernel/namespace-owner.ts. */
function namespaceOwners({ others, library }: ReturnType<NonNullable<DoctorDeps['namespaceOwners']>>): DoctorCheck {
  const row = { id: 'owners', title: 'Owners of VEs' };
  const consequence = 'Queued signals, timers, message queues, locked memory and inotify of such VEs count for the host\'s root as well, and one can use up what all of them have.';
  if ('missing' in library) {
    return { ...row, status: 'warn', message: `VEs do not own their user namespaces, or cannot be suspended: ${library.missing}.`, consequence, remedy: library.remedy };
  }
  if (others.length === 0) return { ...row, status: 'ok', message: 'The user namespace of each VE belongs to its own root.' };
  return { ...row, status: 'info', message: `These VEs have run since before that, and do not own their user namespaces: ${others.join(', ')}.`, consequence, remedy: '`veld restart` mends a VE.' };
}

function ves(failed: readonly { name: string; reason: string }[]): DoctorCheck[] {
  return failed.map(({ name, reason }) => ({
    id: `ves.${name}`, title: `VE ${name}`, status: 'warn', message: `It should run, and does not: ${reason}`, remedy: `Read \`veld logs ${name}\`, then \`veld start ${name}\`.`,
  }));
}
