/** veldd: puts the floors together, and takes them apart again. VEs live on without it. */
import { chmodSync, mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { apiDoor, buildApi } from './api/app.ts';
import { listenOnSocket } from './api/socket.ts';
import { createBackups } from './jobs/backups.ts';
import { createNodes } from './cluster/nodes.ts';
import { writeBeancounterFiles } from './jobs/beancounter-files.ts';
import { runDoctor, type DoctorCheck } from './jobs/doctor.ts';
import { isLimitSeen } from './jobs/limit-seen.ts';
import { keepGroupFlags } from './jobs/keep-group-flags.ts';
import { createLxcfsKeeper } from './jobs/lxcfs-keeper.ts';
import { mendNetwork } from './jobs/mend-network.ts';
import { createOomOrder } from './jobs/oom-order.ts';
import { graceVes, orderedVes, sampledVes, scheduledVes } from './jobs/sampled-ves.ts';
import { createInsideQuotas } from './jobs/inside-quotas.ts';
import { countedVes, serveQuotas } from './ve/quota-tools/ves.ts';
import { createDiskGrace } from './jobs/disk-grace.ts';
import { createSampler } from './jobs/sampler.ts';
import { nameServersChanged } from './ve/name-servers.ts';
import { findHierarchies } from './kernel/cgroup.ts';
import { currentEngine, engineManifest } from './kernel/engine.ts';
import { mendGroupFlags } from './kernel/group-flags.ts';
import { raiseHostLimits, readHostLimits } from './kernel/host-limits.ts';
import { lxcfsFolder, lxcfsPath, lxcfsStatus } from './kernel/lxcfs.ts';
import { currentLxcfs } from './kernel/lxcfs-build.ts';
import { compileQuotaClient } from './kernel/quota-client.ts';
import { peerCredentials } from './kernel/peer-credentials.ts';
import { runProbes } from './kernel/probes.ts';
import { bootId, readProcess } from './kernel/process.ts';
import { compileOwnerLibrary, findOwnerLibrary, ownedByAnother } from './kernel/namespace-owner.ts';
import { exitNow } from './kernel/syscalls.ts';
import { VeldError, toVeldError } from './lib/errors.ts';
import { readIfExists, writeFileAtomic } from './lib/files.ts';
import { claimInstance, otherInstances } from './lib/instances.ts';
import { takeLock } from './lib/lock.ts';
import { openLog, type Logger } from './lib/log.ts';
import { run } from './lib/run.ts';
import { loadSettings, type Settings } from './lib/settings.ts';
import { createNetwork } from './network/network.ts';
import { createNameService } from './network/resolver.ts';
import { createEventBus } from './ops/events.ts';
import { createOperations } from './ops/operations.ts';
import { createResources } from './resources/resources.ts';
import { DEFAULT_POOL } from './spec/disk-properties.ts';
import { createPools } from './storage/pools.ts';
import { createSessionRegistry } from './ve/sessions.ts';
import { createStates } from './checkpoint/states.ts';
import { criuCacheFolder, prepareCriuCache } from './kernel/criu.ts';
import { readRecords } from './store/read-only.ts';
import { openStore } from './store/sqlite.ts';
import { createTemplateBuilder } from './templates/builder.ts';
import { createImagePuller } from './templates/puller.ts';
import { createPublisher } from './templates/publishing/publisher.ts';
import { staleVes } from './ve/lxcfs-binds.ts';
import type { VeContext } from './ve/context.ts';
import { createMigration } from './migration/migration.ts';
import { peersOf } from './migration/peers.ts';
import { viewCapacity } from './ve/capacity.ts';
import { readersInside, writeInside } from './ve/beancounters.ts';
import { findPreset, listPresets } from './ve/presets.ts';
import { viewStats } from './ve/stats.ts';
import { openPools } from './ve/pool-verbs.ts';
import { createVeManager, type RunningVeManager } from './ve/manager.ts';
import { promisedRanges, uidBlock } from './ve/uid-ranges.ts';

/** How long operations may take to end or roll back when the daemon stops, in milliseconds. */
const STOP_TIMEOUT = 10_000;

/** Operations that `--records` tells of, the newest. */
const RECORDED_OPERATIONS = 100;

const VERSION = (JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }).version;

const USAGE = `Usage: veldd [--settings FILE] [--records]

The daemon of Veld. Settings: FILE, else $VELD_SETTINGS, else /etc/veld/settings.json; defaults where there is none.
With --records it only prints what the store holds, as JSON, whether a daemon runs or not.
SIGTERM stops it; VEs go on, and the next daemon adopts them. SIGHUP opens the log file anew.
`;

/** Why lxcfs does not serve, in words. */
const LXCFS_REASONS = { running: '', absent: 'none was built for this host', stopped: 'it does not run', broken: 'its mount does not answer' } as const;

/** Undo steps of what was opened, run last to first. */
type Closers = (() => void | Promise<void>)[];

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { settings: { type: 'string' }, records: { type: 'boolean' }, help: { type: 'boolean', short: 'h' }, version: { type: 'boolean', short: 'V' } } });
  if (values.help) {
    process.stdout.write(USAGE);
    return;
  }
  if (values.version) {
    process.stdout.write(`${VERSION}\n`);
    return;
  }
  if (process.geteuid?.() !== 0) throw new VeldError('usage', 'veldd must be run by root.', { hint: 'Use sudo, or the systemd unit.' });
  const settings = loadSettings(values.settings);
  if (values.records) {
    process.stdout.write(`${JSON.stringify(readRecords(join(settings.stateDir, 'veld.db'), RECORDED_OPERATIONS))}\n`);
    return;
  }
  process.chdir('/'); // keeps no file system busy
  settings.libexecDir = fileURLToPath(new URL('../libexec', import.meta.url));
  await serve(settings);
}

/** Run the daemon until a signal ends it. */
async function serve(settings: Settings): Promise<void> {
  const closers: Closers = [];
  const logFile = openLog(settings.log);
  const log = logFile.logger;
  dieLoudly(log);
  process.on('SIGHUP', () => logFile.reopen());

  let stop: Promise<void> | undefined;
  const onSignal = (signal: NodeJS.Signals): void => {
    if (stop) exitNow(1); // asked twice: at once
    log.info({ signal }, 'stopping');
    stop = close(closers, log).then(() => exitNow(0));
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);

  try {
    log.info({ version: VERSION, pid: process.pid, instance: settings.instance, node: process.version }, 'veldd begins');
    await open(settings, log, closers, () => stop !== undefined);
  } catch (error) {
    if (stop) return; // the signal came first, and what was open is gone under our feet
    log.fatal({ err: error }, 'veldd cannot run');
    await close(closers, log);
    throw error;
  }
}

/** Open everything, from the ground up. What is opened adds its way of closing to `closers`. */
async function open(settings: Settings, log: Logger, closers: Closers, stopping: () => boolean): Promise<void> {
  const { stateDir, runDir, instance } = settings;
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  // A setuid file made in a VE is setuid on disk: nobody else may walk there.
  chmodSync(stateDir, 0o700);
  mkdirSync(runDir, { recursive: true, mode: 0o711 });

  const lock = takeLock(join(stateDir, 'daemon.lock'));
  if (!lock) throw new VeldError('daemon.running', `Another daemon (pid ${readIfExists(join(runDir, 'veldd.pid'))?.split(' ')[0] ?? 'unknown'}) works on ${stateDir}.`);
  closers.push(() => lock.release());
  const store = openStore(join(stateDir, 'veld.db'));
  closers.push(() => store.close());
  const uids = uidBlock(store, [...promisedRanges(), ...otherUids(instance)]);
  closers.push(await claimInstance({ instance, stateDir, runDir, pools: settings.network.pools, uids: { base: uids.base, count: uids.count * 65_536 } }));
  writeFileAtomic(join(runDir, 'veldd.pid'), `${process.pid} ${readProcess(process.pid)?.startTime ?? 0}\n`, 0o644);
  closers.push(() => rmSync(join(runDir, 'veldd.pid'), { force: true }));

  const events = createEventBus((error) => log.error({ err: error }, 'a listener of events failed'));
  const operations = createOperations({ store, events, log: log.child({ part: 'operations' }) });
  operations.markInterrupted();
  const network = createNetwork(settings, () => store.listVes());
  const resources = createResources({ instance, runDir, disks: settings.stateDir, hostWeight: settings.host.cpuWeight });
  const monitorGroups = (): string[] => {
    const groups = resources.monitorGroups();
    return [groups.unified, ...Object.values(groups.v1)];
  };
  const names = createNameService({ settings, records: () => store.listVes(), groups: monitorGroups });
  const volumes = createPools({
    stateDir, records: () => store.listPools(),
    poolOf: (uuid) => { const ve = store.veByUuid(uuid); return ve && (ve.properties['disk.pool'] as string | undefined ?? DEFAULT_POOL); },
  });
  const states = createStates({ stateDir });
  const templates = createTemplateBuilder({ settings, log: log.child({ part: 'templates' }) });
  const engine = () => currentEngine(stateDir);
  const context: VeContext = {
    settings, store, operations, events, network, names, volumes, resources, states, sessions: createSessionRegistry(), templates, images: createImagePuller(settings), published: createPublisher(settings, log.child({ part: 'images' })), engine, log: log.child({ part: 've' }),
    // Also while it is dead: each boot asks it, and takes what there is then.
    lxcfs: () => lxcfsFolder(runDir) ?? (currentLxcfs(stateDir) === undefined ? null : lxcfsPath(runDir)),
  };
  const manager = createVeManager(context);

  // A host that is not as it should be makes verbs fail, each with its reason, and doctor say so: the daemon itself runs.
  const troubles = new Map<string, DoctorCheck>();
  const trouble = (what: string, error: unknown, then: string): void => {
    const { message, hint } = toVeldError(error);
    // Said once, however often it is tried.
    if (troubles.get(what)?.message !== message) log.error({ err: error }, `${what}: not ready`);
    troubles.set(what, { id: `daemon.${what}`, title: `Start of the daemon: ${what}`, status: 'fail', message, remedy: `${hint} ${then}` });
  };
  const prepare = async (what: string, work: () => unknown, then = 'Then start the daemon again.'): Promise<void> => {
    try {
      await work();
    } catch (error) {
      trouble(what, error, then);
    }
  };
  await prepare('limits', () => {
    for (const { name, reason } of raiseHostLimits(runDir).refused) log.warn({ name, reason }, 'a limit of the host is too low for many VEs');
  });
  for (const [name, error] of await openPools({ store })) trouble(`pool ${name}`, error, 'Then start the daemon again.');
  await prepare('resources', () => resources.setup());
  await prepare('programs', () => resources.loadPrograms());
  await compileOwnerLibrary().catch((error: unknown) => log.warn({ err: error }, 'VEs will not own their user namespaces'));
  await compileQuotaClient().catch((error: unknown) => log.warn({ err: error }, 'VEs will not have quota tools of Veld'));
  const soon = 'It is tried again every few seconds.';
  await prepare('network', () => network.setup(), soon);
  // Once a boot of the host, so that the first suspend need not wait for it. Without an engine there is nothing to learn.
  await Promise.resolve().then(() => prepareCriuCache(engine(), criuCacheFolder(runDir))).catch((error: unknown) => log.debug({ err: error }, 'criu could not look at the kernel yet'));
  const keeper = createLxcfsKeeper({
    options: { stateDir, runDir, instance, groups: monitorGroups() }, events, log: log.child({ part: 'lxcfs' }),
    stale: (device, only) => staleVes({ settings, store, resources }, device, only),
  });
  closers.push(() => keeper.close());
  await keeper.start();
  await prepare('names', () => names.start(), soon);
  nameServersChanged(store, names);

  const bootFile = join(runDir, 'boot-id');
  const startedFile = join(runDir, 'boot-started');
  await manager.adopt(readIfExists(bootFile)?.trim() === bootId());
  // In the same turn: what adopt() set off begins in the next one, and from then on the folder belongs to this boot.
  writeFileAtomic(bootFile, `${bootId()}\n`);
  closers.push(() => manager.close());
  closers.push(network.follow((error, uplinks) => {
    if (error) return trouble('network', error, soon);
    troubles.delete('network');
    log.info({ uplinks }, 'the network is set up anew');
  }));
  void keeper.mend();
  closers.push(mendNetwork([() => network.mend(), async () => {
    const lost = await names.mend();
    if (names.addresses().length > 0) troubles.delete('names');
    return lost;
  }], log.child({ part: 'network' })));
  // Elsewhere the controllers are on v1, and there is nothing to keep.
  const groupFlags = findHierarchies().mode === 'v2' ? keepGroupFlags(mendGroupFlags, log.child({ part: 'resources' })) : undefined;
  closers.push(() => groupFlags?.close());
  closers.push(events.subscribe(({ type }) => {
    if (type !== 'operation.ended') return;
    names.sync();
    void groupFlags?.look();
  }));
  names.sync(); // what recovery has done to records
  void groupFlags?.look();

  closers.push(network.accounting.follow(log.child({ part: 'network' })));

  const sampler = createSampler({ ves: () => sampledVes(context), resources, events, log: log.child({ part: 'sampler' }), folder: join(stateDir, 'history'), alerts: settings.alerts });
  sampler.start();
  closers.push(() => sampler.close());
  context.beforeEnd = (number) => sampler.lastLook(number);
  const oomOrder = createOomOrder({ ves: () => orderedVes(context), samples: sampler, resources, events, log: log.child({ part: 'oom-order' }) });
  oomOrder.start();
  closers.push(() => oomOrder.close());

  const diskGrace = createDiskGrace({ ves: () => graceVes(context), volumes, store, events, log: log.child({ part: 'disk' }) });
  diskGrace.start();
  closers.push(() => diskGrace.close());

  const backups = createBackups({
    ves: () => scheduledVes(context), backUp: (uuid) => manager.backUp(uuid, undefined, null, true), watch: (id, listener) => operations.watch(id, listener), store, events, log: log.child({ part: 'backup' }),
  });
  closers.push(() => backups.close());

  const insideQuotas = createInsideQuotas({ ves: () => countedVes(context), serve: (uuid) => serveQuotas(context, manager, uuid), events, log: log.child({ part: 've' }) });
  closers.push(() => insideQuotas.close());

  closers.push(writeBeancounterFiles({ ves: () => readersInside(context), write: (uuid) => writeInside(context, uuid), log: log.child({ part: 've' }) }));

  const nodes = createNodes({
    settings, store, events, log: log.child({ part: 'nodes' }),
    own: { cgroup: () => Object.keys(resources.monitorGroups().v1).length > 0 ? 1 : 2, engine: () => engineFingerprint(stateDir), uids: { base: uids.base, count: uids.count * 65_536 } },
  });
  const migration = createMigration(context, peersOf(nodes), (kind, ve, requestId, work) => manager.begin(kind, ve, requestId, work));
  closers.push(() => migration.close());
  migration.start();
  const api = await buildApi({
    version: VERSION, instance, log: log.child({ part: 'api' }), manager, migration, operations, events, nodes, peerCredentials, stopping,
    planning: { capacity: () => viewCapacity(context, sampler), presets: () => listPresets(settings), preset: (name) => findPreset(settings, name) },
    stats: { of: (key, span) => viewStats(manager.show(key), sampler, span), last: (uuid) => sampler.last(uuid) },
    doctor: async () => {
      const report = await runDoctor({
        stateDir,
        probes: () => runProbes({ stateDir, runDir, ...mountOfEngine(stateDir) }),
        hostLimits: () => readHostLimits(),
        engine: () => engineManifest(stateDir, engine().fingerprint),
        lxcfs: async () => {
          const status = await lxcfsStatus({ stateDir, runDir });
          const alive = status.state === 'running';
          return { alive, version: status.version, limitSeen: alive ? await isLimitSeen(manager) : null, history: keeper.history(), ...!alive && { reason: LXCFS_REASONS[status.state] } };
        },
        networkWarnings: () => network.warnings(),
        names: async () => ({ domain: names.domain, resolvers: names.addresses(), answers: await names.answers(), hostFinds: await names.hostFinds() }),
        resourceSupport: () => resources.support(),
        promises: () => {
          const { ratio, unlimited } = viewCapacity(context, sampler).memory;
          return { ratio, unlimited, most: settings.overcommit.memory.action === 'allow' ? Infinity : settings.overcommit.memory.ratio };
        },
        namespaceOwners: () => ({ others: manager.list().filter(({ pid, uidBase }) => pid !== null && ownedByAnother(pid, uidBase)).map(({ name }) => name), library: findOwnerLibrary() }),
        nodes: () => nodes.list(true),
        pools: () => manager.pools(),
        failedVes: () => manager.list().filter(({ status }) => status === 'failed').map(({ name, lastExit, notStarted }) => ({ name, reason: notStarted?.reason ?? lastExit?.reason ?? 'unknown' })),
      });
      return { checks: [...troubles.values(), ...report.checks] };
    },
  });
  closers.push(() => api.close());
  closers.push(() => operations.close(STOP_TIMEOUT));
  closers.push(() => suspendWithHost(manager, log));
  closers.push(() => context.published.close());
  await prepare('images', () => context.published.start(() => troubles.delete('images')), soon); // before anybody publishes: it sweeps
  await listenOnSocket(api, settings.socket, settings.socketGroup);
  closers.push(() => nodes.close());
  await prepare('nodes', () => nodes.start(apiDoor(api), () => troubles.delete('nodes')), soon);
  log.info({ socket: settings.socket }, 'veldd is ready');
  await tellSystemd(log);

  const first = readIfExists(startedFile)?.trim() !== bootId();
  await manager.bringUp(first);
  backups.start();
  if (first && !stopping()) writeFileAtomic(startedFile, `${bootId()}\n`);
}

/** Uids of other installations that run on this host. */
function otherUids(instance: string): { start: number; count: number }[] {
  return otherInstances(instance).flatMap(({ uids }) => (uids ? [{ start: uids.base, count: uids.count }] : []));
}

/** The engine's mount(8), where there is an engine. */
function mountOfEngine(stateDir: string): { mount?: string } {
  try {
    return { mount: currentEngine(stateDir).mount };
  } catch {
    return {};
  }
}

/** Fingerprint of the engine, where there is one. */
function engineFingerprint(stateDir: string): string | null {
  try {
    return currentEngine(stateDir).fingerprint;
  } catch {
    return null;
  }
}

/** Close what was opened, the last first. */
async function close(closers: Closers, log: Logger): Promise<void> {
  for (let closer = closers.pop(); closer !== undefined; closer = closers.pop()) {
    try {
      await closer();
    } catch (error) {
      log.error({ err: error }, 'closing failed');
    }
  }
  log.info('veldd ended');
}

/** When it is the host that goes down: suspend the VEs that want that. systemd is told to wait meanwhile. */
async function suspendWithHost(manager: RunningVeManager, log: Logger): Promise<void> {
  const word = await run('systemctl', ['is-system-running'], { allow: true, timeout: 5000 }).then(({ stdout }) => stdout.trim(), () => 'no systemd');
  if (process.env.VELD_SHUTDOWN !== 'yes' && word !== 'stopping') return;
  const extend = (): void => {
    if (process.env.NOTIFY_SOCKET) void run('systemd-notify', ['EXTEND_TIMEOUT_USEC=60000000'], { env: { NOTIFY_SOCKET: process.env.NOTIFY_SOCKET }, timeout: 5000 }).catch(() => {});
  };
  extend();
  const timer = setInterval(extend, 20_000);
  const count = await manager.suspendAtShutdown().finally(() => clearInterval(timer));
  if (count > 0) log.info({ count }, 'VEs have been suspended with the host');
}

/** Tell systemd that the daemon is ready, when it waits for that (Node has no datagram sockets of the unix kind; the unit needs NotifyAccess=all). */
async function tellSystemd(log: Logger): Promise<void> {
  const { NOTIFY_SOCKET } = process.env;
  if (!NOTIFY_SOCKET) return;
  try {
    await run('systemd-notify', ['--ready', `--pid=${process.pid}`], { env: { NOTIFY_SOCKET }, timeout: 5000 });
  } catch (error) {
    log.warn({ err: error }, 'systemd could not be told that veldd is ready');
  }
}

/** After an error that nobody caught nothing is known for sure: log it, end, and let the next daemon adopt the VEs. */
function dieLoudly(log: Logger): void {
  const die = (error: unknown, kind: string): never => {
    log.fatal({ err: error }, `veldd dies of an ${kind}`);
    exitNow(1);
  };
  process.on('uncaughtException', (error) => die(error, 'uncaught exception'));
  process.on('unhandledRejection', (error) => die(error, 'unhandled rejection'));
  // Started from a terminal that is gone since.
  process.stdout.on('error', () => {});
  process.stderr.on('error', () => {});
}

main().catch((error: unknown) => {
  const known = error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS') ? new VeldError('usage', error.message, { hint: 'See `veldd --help`.' })
    : toVeldError(error);
  process.stderr.write(`veldd: ${known.message}\nHint: ${known.hint}\n`);
  process.exit(known.exit);
});
