/**
 * What a support bundle holds. Everything is chosen by name: nothing from inside a VE, no environment of a command, no console unless it is asked
 * for. Most of it needs no daemon, because a daemon that does not run is what people ask for help about.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { arch, release, uptime, version } from 'node:os';
import { dirname, join } from 'node:path';
import type { Client } from '../../client/client.ts';
import type { VeView } from '../../ve/types.ts';
import { findHierarchies, readControl } from '../../kernel/cgroup.ts';
import { currentEngine, engineManifest, listEngines } from '../../kernel/engine.ts';
import { readHostLimits } from '../../kernel/host-limits.ts';
import { installRoot } from '../../kernel/install-root.ts';
import { currentLxcfs } from '../../kernel/lxcfs-build.ts';
import { runProbes } from '../../kernel/probes.ts';
import { readIfExists } from '../../lib/files.ts';
import { run } from '../../lib/run.ts';
import { DEFAULT_SETTINGS_FILE, type Settings } from '../../lib/settings.ts';
import { VERSION } from '../../lib/version.ts';
import { recentEvents } from './recent-events.ts';
import { listTree, readTail } from './read-host.ts';

/** One file of the bundle. */
export interface Item {
  /** Path in the bundle. */
  name: string;
  /** Text, or a value that becomes JSON. Undefined: there is nothing of the kind here. */
  gather: () => unknown;
}

export interface ItemOptions {
  settings: Settings;
  client: Client;
  /** Whether the daemon answers; what only it can tell is left out otherwise. */
  daemonUp: boolean;
  /** Consoles of the VEs, too. */
  consoleLogs: boolean;
}

/** Longest run of one program, in milliseconds. */
const PROGRAM_TIMEOUT = 15_000;
/** Of a log file, in bytes; its end counts. */
const LOG_TAIL = 4 << 20;
const CONSOLE_TAIL = 256 << 10;

/** Settings of the kernel beside those that Veld looks after itself, below /proc/sys. */
const SYSCTLS = [
  'kernel/osrelease', 'kernel/unprivileged_userns_clone', 'kernel/apparmor_restrict_unprivileged_userns', 'kernel/keys/maxkeys', 'kernel/pid_max', 'kernel/threads-max',
  'kernel/io_uring_disabled', 'kernel/dmesg_restrict', 'kernel/tainted', 'vm/overcommit_memory', 'vm/swappiness', 'vm/max_map_count', 'vm/unprivileged_userfaultfd', 'fs/file-nr',
  'fs/file-max', 'fs/nr_open', 'fs/inotify/max_user_instances', 'fs/inotify/max_user_watches', 'net/ipv4/ip_forward', 'net/ipv4/conf/all/rp_filter', 'net/ipv4/conf/default/rp_filter',
  'net/ipv6/conf/all/forwarding', 'net/ipv6/conf/all/disable_ipv6', 'net/ipv6/conf/all/proxy_ndp', 'net/ipv4/neigh/default/gc_thresh3', 'net/ipv6/neigh/default/gc_thresh3',
  'net/netfilter/nf_conntrack_max', 'net/netfilter/nf_conntrack_count', 'net/bridge/bridge-nf-call-iptables', 'user/max_user_namespaces',
];

/** Files of a group that say what it is, may, and uses. */
const CONTROLS = [
  'cgroup.controllers', 'cgroup.subtree_control', 'cgroup.type', 'cgroup.events', 'cgroup.stat', 'cpu.stat', 'cpu.weight', 'cpu.max', 'cpu.pressure', 'memory.current', 'memory.max',
  'memory.swap.max', 'memory.events', 'memory.stat', 'memory.pressure', 'io.pressure', 'pids.current', 'pids.max', 'pids.events', 'cpu.shares', 'cpu.cfs_quota_us', 'cpu.cfs_period_us',
  'cpuacct.usage', 'memory.limit_in_bytes', 'memory.usage_in_bytes', 'memory.memsw.limit_in_bytes', 'memory.failcnt', 'memory.oom_control', 'freezer.state',
];

/** Files of a run folder: paths, numbers and states of Veld's own. Not exec/, where commands of users lie. */
const RUN_FILES = ['env', 'lowers', 'host.batch', 'guest.batch', 'init', 'exited', 'pid', 'conmon.pid', 'conmon.log', 'reboot.log', 'config.json'];

/** All items, in the order of the archive. */
export function bundleItems(options: ItemOptions): Item[] {
  const { settings } = options;
  return [
    { name: 'versions.json', gather: () => versions(options) },
    { name: 'settings/effective.json', gather: () => settings },
    { name: 'settings/settings.json', gather: () => parsed(readTail(process.env.VELD_SETTINGS ?? DEFAULT_SETTINGS_FILE, LOG_TAIL)) },
    ...daemonItems(options),
    { name: 'store/records.json', gather: async () => JSON.parse((await run(join(installRoot(), 'bin/veldd'), ['--records'], {
      timeout: PROGRAM_TIMEOUT, env: process.env.VELD_SETTINGS === undefined ? {} : { VELD_SETTINGS: process.env.VELD_SETTINGS },
    })).stdout) as unknown },
    { name: 'engine/current.json', gather: () => engine(settings) },
    { name: 'engine/lxcfs.json', gather: () => currentLxcfs(settings.stateDir)?.manifest },
    ...logItems(settings),
    ...veItems(options),
    ...kernelItems(settings),
    ...networkItems(settings),
  ];
}

function file(name: string, path: string, tail = LOG_TAIL): Item {
  return { name, gather: () => readTail(path, tail) };
}

/** JSON as a value, so that what a secret's name stands before is taken out as a whole: the environment of init, too. Else the text. */
function parsed(text: string | undefined): unknown {
  try {
    return text === undefined ? undefined : JSON.parse(text) as unknown;
  } catch {
    return text;
  }
}

function program(name: string, words: readonly [string, ...string[]]): Item {
  return {
    name,
    async gather() {
      const [command, ...args] = words;
      const { code, stdout, stderr } = await run(command, args, { allow: true, timeout: PROGRAM_TIMEOUT });
      return `$ ${words.join(' ')}\n${stdout}${stderr}${code === 0 ? '' : `(status ${code})\n`}`;
    },
  };
}

async function versions({ client, daemonUp }: ItemOptions): Promise<object> {
  return {
    veld: VERSION, daemon: daemonUp ? await client.request('GET', '/v1') : null, node: process.version, installedIn: installRoot(),
    kernel: { release: release(), version: version(), architecture: arch() }, uptimeSeconds: uptime(), os: readIfExists('/etc/os-release') ?? null,
    time: new Date().toISOString(), timeZone: Intl.DateTimeFormat().resolvedOptions().timeZone, uid: process.getuid?.(),
  };
}

/** What only the daemon knows. */
function daemonItems({ client, daemonUp, settings }: ItemOptions): Item[] {
  if (!daemonUp) {
    // Doctor's part that needs no daemon.
    return [{ name: 'doctor-without-daemon.json', gather: async () => ({
      probes: await runProbes({ stateDir: settings.stateDir, runDir: settings.runDir }), hostLimits: readHostLimits(),
    }) }];
  }
  const ask = (name: string, path: string): Item => ({ name, gather: () => client.request('GET', path) });
  return [
    ask('doctor.json', '/v1/doctor'),
    { name: 'daemon/ves.json', gather: async () => {
      const ves = await client.request<VeView[]>('GET', '/v1/ves');
      // One that is destroyed meanwhile stays as the list had it.
      return Promise.all(ves.map((ve) => client.request('GET', `/v1/ves/${ve.uuid}`).catch(() => ve)));
    } },
    ask('daemon/usage.json', '/v1/usage'),
    ask('daemon/templates.json', '/v1/templates'),
    ask('daemon/nodes.json', '/v1/nodes'),
    ask('daemon/operations.json', '/v1/operations?limit=500'),
    ask('daemon/metrics.txt', '/metrics'),
    { name: 'daemon/events.json', gather: () => recentEvents(client) },
  ];
}

function engine({ stateDir }: Settings): object {
  const current = currentEngine(stateDir);
  return { ...current, manifest: engineManifest(stateDir, current.fingerprint), all: listEngines(stateDir) };
}

function logItems({ log, instance }: Settings): Item[] {
  const unit = instance === 'main' ? 'veldd.service' : `veldd-${instance}.service`;
  return [
    file('logs/veldd.log', log.file), file('logs/veldd.log.1', `${log.file}.1`), file('logs/veldd.out', join(dirname(log.file), 'veldd.out')),
    ...existsSync('/run/systemd/system') ? [
      program('logs/journal.txt', ['journalctl', '--no-pager', '--lines=3000', '-u', unit]), program('logs/unit.txt', ['systemctl', 'status', '--no-pager', '--full', 'veld*']),
    ] : [],
    program('logs/kernel.txt', ['dmesg']),
  ];
}

/** Run folders and groups of VEs, and their host sides in /proc. */
function veItems({ settings, consoleLogs }: ItemOptions): Item[] {
  const folder = join(settings.runDir, 'ves');
  const numbers = existsSync(folder) ? readdirSync(folder).filter((name) => /^\d+$/.test(name)) : [];
  const consoles = join(settings.stateDir, 'logs');
  return [
    { name: 'ves/run-folders.txt', gather: () => listTree(settings.runDir, 3) },
    { name: 'ves/state-folders.txt', gather: () => listTree(settings.stateDir, 2) },
    ...numbers.flatMap((number) => [
      ...RUN_FILES.map((name): Item => ({ name: `ves/${number}/${name}`, gather: () => {
        const text = readTail(join(folder, number, name), 256 << 10);
        return name === 'config.json' ? parsed(text) : text;
      } })),
      { name: `ves/${number}/groups.json`, gather: () => groups(join(folder, number, 'env')) },
      { name: `ves/${number}/processes.json`, gather: () => ['init', 'conmon.pid'].map((name) => ({ name, ...processFacts(readIfExists(join(folder, number, name))) })) },
    ]),
    ...consoleLogs && existsSync(consoles) ? readdirSync(consoles).filter((name) => name.endsWith('.console')).map((name) => file(`consoles/${name}`, join(consoles, name), CONSOLE_TAIL)) : [],
  ];
}

/** What the groups of a VE say, by directory. @param env the run folder's variables */
function groups(env: string): object | undefined {
  const directories = /^VELD_GROUPS='([^']*)'$/m.exec(readIfExists(env) ?? '')?.[1]?.split(' ');
  return directories && Object.fromEntries(directories.map((directory) => [directory, Object.fromEntries(CONTROLS.flatMap((name) => {
    try {
      return [[name, readControl(directory, name)?.split('\n')]];
    } catch (error) {
      return [[name, (error as Error).message]];
    }
  }).filter(([, value]) => value !== undefined))]));
}

/** How a process of the host's side stands; not its command line, its environment, or its files. */
function processFacts(idText: string | undefined): object {
  const pid = Number(idText?.trim().split(' ')[0] ?? Number.NaN);
  if (!Number.isInteger(pid) || pid <= 0) return { pid: null };
  return { pid, ...Object.fromEntries(['status', 'cgroup', 'wchan', 'stack', 'uid_map', 'oom_score_adj'].map((name) => {
    try {
      return [name, readFileSync(`/proc/${pid}/${name}`, 'utf8').split('\n')];
    } catch (error) {
      return [name, (error as Error).message];
    }
  })) };
}

function kernelItems(settings: Settings): Item[] {
  return [
    ...['cmdline', 'version', 'modules', 'cgroups', 'filesystems', 'meminfo', 'loadavg', 'swaps', 'pressure/cpu', 'pressure/memory', 'pressure/io', 'self/mountinfo', 'self/cgroup', 'self/limits']
      .map((name) => file(`kernel/${name.replace('/', '-')}`, `/proc/${name}`)),
    file('kernel/config', `/boot/config-${release()}`),
    { name: 'kernel/sysctl.txt', gather: () => SYSCTLS.map((name) => `${name} = ${readIfExists(`/proc/sys/${name}`)?.trim() ?? '(none)'}\n`).join('') },
    { name: 'kernel/host-limits.json', gather: () => readHostLimits() },
    { name: 'kernel/cgroup-hierarchies.json', gather: () => findHierarchies() },
    { name: 'kernel/lsm', gather: () => readTail('/sys/kernel/security/lsm', 1024) },
    { name: 'processes.json', gather: () => ({ daemon: processFacts(readIfExists(join(settings.runDir, 'veldd.pid'))), lxcfs: processFacts(readIfExists(join(settings.runDir, 'lxcfs.pid'))) }) },
    program('disk/space.txt', ['df', '-hT']), program('disk/files.txt', ['df', '-i']), program('disk/devices.txt', ['lsblk', '-f']),
    program('packages.txt', ['dpkg-query', '-W', 'iproute2', 'nftables', 'util-linux', 'mmdebstrap', 'patchelf', 'systemd', 'tar', 'zstd', 'linux-image*', 'apparmor', 'lxc', 'incus', 'docker*', 'podman']),
  ];
}

function networkItems({ instance }: Settings): Item[] {
  return [
    program('network/addresses.txt', ['ip', '-d', 'address']), program('network/links.txt', ['ip', '-s', '-d', 'link']), program('network/rules.txt', ['ip', 'rule']), program('network/rules6.txt', ['ip', '-6', 'rule']),
    program('network/routes.txt', ['ip', 'route', 'show', 'table', 'all']), program('network/routes6.txt', ['ip', '-6', 'route', 'show', 'table', 'all']),
    program('network/proxies.txt', ['ip', 'neighbour', 'show', 'proxy']), program('network/neighbours.txt', ['ip', 'neighbour']),
    program('network/table.nft', ['nft', '-a', 'list', 'table', 'inet', `veld_${instance}`]), program('network/ruleset.nft', ['nft', '-a', 'list', 'ruleset']),
  ];
}
