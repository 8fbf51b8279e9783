/** A real API on a socket of its own over a manager that has no kernel below it. For unit tests only. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient, type Client } from '../client/client.ts';
import { VeldError } from '../lib/errors.ts';
import { createLogger } from '../lib/log.ts';
import { createEventBus, type EventBus } from '../ops/events.ts';
import { createOperations, type OperationManager } from '../ops/operations.ts';
import { checkName } from '../spec/names.ts';
import { parseProperties, resolveProperties } from '../spec/properties.ts';
import { openStore } from '../store/sqlite.ts';
import { buildApi } from './app.ts';
import { COUNTERS, GAUGES, pointOf, type Reading } from '../resources/history/fields.ts';
import { capacityOf } from '../resources/capacity.ts';
import { viewStats } from '../ve/stats.ts';
import { createSessionTable } from './sessions.ts';
import { listenOnSocket } from './socket.ts';
import type { Task } from '../ops/types.ts';
import type { OperationRecord } from '../store/types.ts';
import type { PublishedProduct } from '../templates/publishing/types.ts';
import type { ExecRequest, ExecSession, PoolView, TemplateView, VeDetail, VeManager, VeStatus } from '../ve/types.ts';
import type { Api, ApiDeps } from './types.ts';

/** A command whose other end is in the test's hands. */
export interface FakeCommand {
  request: ExecRequest;
  stdin: PassThrough;
  stdout: PassThrough;
  stderr: PassThrough;
  signals: string[];
  sizes: [number, number][];
  exit(code: number): void;
}

/** What a test has. */
export interface Bench {
  api: Api;
  client: Client;
  socket: string;
  events: EventBus;
  operations: OperationManager;
  lines: Record<string, unknown>[];
  commands: FakeCommand[];
  /** Clock of the session table, milliseconds. */
  clock: { now: number };
  /** Thrown by the next call of the manager. */
  failNext(error: Error): void;
  /** Replaces the work of operations; its end is theirs. */
  work: (task: Task) => Promise<unknown>;
  addVe(name: string, status?: VeStatus): VeDetail;
  close(): Promise<void>;
}

/** Start the API. @param change replaces parts of what it stands on */
export async function openBench(change: Partial<ApiDeps> = {}): Promise<Bench> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-api-'));
  const socket = join(folder, 'veld.sock');
  const lines: Record<string, unknown>[] = [];
  const log = createLogger({ write: (line) => lines.push(JSON.parse(line) as Record<string, unknown>) }, 'debug');
  const store = openStore(':memory:');
  const events = createEventBus();
  const operations = createOperations({ store, events, log });
  const ves = new Map<string, VeDetail>();
  const commands: FakeCommand[] = [];
  const clock = { now: 0 };
  let failure: Error | undefined;

  const find = (key: string): VeDetail => {
    const ve = [...ves.values()].find(({ name, number, uuid }) => key === name || key === String(number) || key === uuid);
    if (!ve) throw new VeldError('ve.not_found', `There is no VE ${key}.`);
    return ve;
  };
  const begin = (kind: string, ve: VeDetail | null, requestId: string | null, work: () => unknown = () => null): OperationRecord =>
    operations.start({ kind, ve: ve?.uuid ?? null, requestId }, async (task) => {
      await bench.work(task);
      return work();
    });
  const verb = (kind: string, status: VeStatus) => (key: string, ...rest: unknown[]): OperationRecord => {
    const ve = find(key);
    return begin(kind, ve, rest.at(-1) as string | null, () => { ve.status = status; });
  };
  const noPreset = (name: string): never => { throw new VeldError('preset.not_found', `There is no preset ${name}.`); };
  const noPool = (name: string): never => { throw new VeldError('pool.not_found', `There is no pool ${name}.`); };
  const noRepository = (name: string): never => { throw new VeldError('repository.not_found', `There is no repository ${name}.`); };
  const noRecipe = (name: string): never => { throw new VeldError('recipe.not_found', `There is no recipe ${name}.`); };
  const noSource = (name: string): never => { throw new VeldError('source.not_found', `There is no source ${name}.`); };
  const noTemplate = (key: string): never => { throw new VeldError('template.not_found', `There is no template ${key}.`); };
  const plain: VeManager = {
    list: () => [...ves.values()],
    listDetails: () => [...ves.values()],
    show: find,
    usage: () => ({
      time: TEMPLATE.createdAt, host: { cpus: 2, memoryBytes: 4096, availableBytes: 2048, load: [0, 0, 0] },
      ves: [...ves.values()].map(({ uuid, number, name, status, pid, startedAt, usage, traffic }) => ({
        uuid, number, name, status, pid, startedAt, usage, traffic, clock: 1, limits: { cpuPercent: null, memoryBytes: 1 << 30, tasks: 4096 },
      })),
    }),
    async processes(key) {
      const { pid } = find(key);
      if (pid === null) throw new VeldError('ve.not_running', `${key} is not running.`);
      return { clock: 1, more: 0, processes: [{
        pid, insidePid: 1, uid: 0, user: 'root', state: 'S', threads: 1, cpuSeconds: 0.5, memoryBytes: 4096, startedAt: TEMPLATE.createdAt, command: '/sbin/init',
      }] };
    },
    async traffic(key) {
      const some = key === undefined ? [...ves.values()] : [find(key)];
      const figures = { rxBytes: 10, rxPackets: 1, txBytes: 20, txPackets: 2 };
      return { classes: [{ name: 'inside', networks: ['10.187.0.0/16'] }, { name: 'outside', networks: [] }], ves: some.map(({ uuid, number, name }) => ({ uuid, number, name, classes: { inside: figures, outside: figures } })) };
    },
    async connections(key) {
      find(key);
      return { held: 3, most: 1000, refused: 0 };
    },
    async beancounters(key) {
      const { pid, number } = find(key);
      if (pid === null) throw new VeldError('ve.not_running', `${key} is not running.`);
      return { number, rows: [{ name: 'numproc', unit: 'items', held: 1, maxheld: 2, barrier: null, limit: 4096, failcnt: 0, kept: ['held', 'maxheld'], counted: 'pids.current', enforced: 'pids.max', note: null }] };
    },
    view: find,
    create(request, requestId) {
      const name = checkName(request.name);
      if (ves.has(name)) throw new VeldError('ve.name_taken', `There is a VE ${name} already.`);
      const set = parseProperties(request.properties ?? {});
      return begin('create', null, requestId, () => { Object.assign(bench.addVe(name), { set }); });
    },
    start: verb('start', 'running'),
    suspend: verb('suspend', 'suspended'),
    resume: verb('resume', 'running'),
    obstacles: async () => [],
    clone: (key, _request, requestId) => begin('clone', find(key), requestId),
    checkpoint: (key, _request, requestId) => begin('checkpoint', find(key), requestId),
    export: (key, _request, requestId) => begin('export', find(key), requestId),
    import: (_request, requestId) => begin('import', null, requestId),
    repositories: () => [],
    repository: noRepository,
    addRepository: (_request, requestId) => begin('repository-add', null, requestId),
    removeRepository: noRepository,
    checkRepository: noRepository,
    backUp: (key, _repository, requestId) => begin('backup', find(key), requestId),
    backups: async () => [],
    restoreBackup: noRepository,
    verifyBackup: noRepository,
    deleteBackup: noRepository,
    restore: (_request, requestId) => begin('restore', null, requestId),
    snapshots: () => [],
    createSnapshot: (key, _request, requestId) => begin('snapshot', find(key), requestId),
    deleteSnapshot: (key, _name, requestId) => begin('snapshot-delete', find(key), requestId),
    rollBack: (key, _name, requestId) => begin('roll-back', find(key), requestId),
    async snapshotDiff(key) {
      find(key);
      return [{ path: '/etc/new', change: 'added', type: 'file' }];
    },
    stop: verb('stop', 'stopped'),
    restart: verb('restart', 'running'),
    freeze: verb('freeze', 'frozen'),
    thaw: verb('thaw', 'running'),
    destroy(key, _options, requestId) {
      const ve = find(key);
      return begin('destroy', ve, requestId, () => ves.delete(ve.name));
    },
    rename(key, name, requestId) {
      const ve = find(key);
      checkName(name);
      return begin('rename', ve, requestId);
    },
    set(key, changes, _options, requestId) {
      const ve = find(key);
      const set = parseProperties(changes);
      return begin('set', ve, requestId, () => { Object.assign(ve.set, set); });
    },
    async exec(key, request) {
      find(key);
      if (request.command[0] === '/missing') throw new VeldError('exec.not_found', '/missing does not exist.');
      if (request.command[0] === '/slow') await sleep(100);
      return fakeCommand(request, commands);
    },
    async shell(key, request) {
      find(key);
      return fakeCommand({ ...request, command: ['login shell'] }, commands);
    },
    async console(key) {
      find(key);
      return fakeCommand({ command: ['console'], tty: { columns: 80, rows: 24, term: 'linux' } }, commands);
    },
    followLogs(key) {
      const { name } = find(key);
      return (async function* () { yield `console of ${name}`; yield 'more'; })();
    },
    async readFiles(key) {
      find(key);
      return fakeCommand({ command: ['read files'] }, commands);
    },
    async writeFiles(key) {
      find(key);
      return fakeCommand({ command: ['write files'] }, commands);
    },
    logs: (key) => `console of ${find(key).name}\n`,
    async quota(key) {
      find(key);
      const limits = { space: { soft: 512, hard: 1024 }, inodes: null };
      const used = { space: 100, inodes: 3, spaceUntil: null, inodesUntil: null };
      return { ve: { limits, used, grace: 60 }, most: 10, users: [{ id: 0, name: 'root', limits, used }], groups: [] };
    },
    async setQuota(key, _kind, who) {
      find(key);
      return { id: Number(who), name: null, limits: { space: null, inodes: null }, used: { space: 0, inodes: 0, spaceUntil: null, inodesUntil: null } };
    },
    pools: () => [POOL],
    pool: (name) => (name === POOL.name ? POOL : noPool(name)),
    createPool: (_request, requestId) => begin('pool-create', null, requestId),
    deletePool: (name, requestId) => (name === POOL.name ? begin('pool-delete', null, requestId) : noPool(name)),
    templates: () => [TEMPLATE],
    template: (key) => (key === TEMPLATE.name ? TEMPLATE : noTemplate(key)),
    buildTemplate: (_request, requestId) => begin('template-build', null, requestId),
    importTemplate: (_request, requestId) => begin('template-import', null, requestId),
    warmTemplate: (key, requestId) => (key === TEMPLATE.name ? begin('template-warm', null, requestId) : noTemplate(key)),
    coolTemplate: (key, requestId) => (key === TEMPLATE.name ? begin('template-cool', null, requestId) : noTemplate(key)),
    sources: () => [SOURCE],
    images: async ({ source }) => (source === undefined || source === SOURCE.name ? { images: [IMAGE], failed: [{ source: 'other', code: 'source.unreachable', message: 'It is not there.' }] } : noSource(source)),
    pullTemplate: (_order, requestId) => begin('template-pull', null, requestId),
    updateTemplate: (key, _options, requestId) => (key === TEMPLATE.name ? begin('template-update', null, requestId) : noTemplate(key)),
    exportTemplate: (key, _options, requestId) => (key === TEMPLATE.name ? begin('template-export', null, requestId) : noTemplate(key)),
    commit: (key, _request, requestId) => begin('template-commit', find(key), requestId),
    history: (key) => (key === TEMPLATE.name ? [{ number: 1, name: TEMPLATE.name, fingerprint: TEMPLATE.fingerprint, current: true, createdAt: TEMPLATE.createdAt, ve: null, description: '', size: 1, layers: 1, uses: 0 }] : noTemplate(key)),
    templateDiff: async (from, to) => (from === TEMPLATE.name ? { from, to, packages: { manager: 'dpkg', added: [{ name: 'nginx', version: '1' }], removed: [], changed: [] }, files: [] } : noTemplate(from)),
    rollBackTemplate: (key, _version, requestId) => (key === TEMPLATE.name ? begin('template-roll-back', null, requestId) : noTemplate(key)),
    published: () => [PRODUCT],
    imageServer: () => ({ url: 'https://node.example:8443', error: null, authority: 'CERTIFICATE', key: { fingerprint: 'AB'.repeat(20), armored: 'KEY' }, requests: 1, bytes: 2 }),
    publishTemplate: (key, _options, requestId) => (key === TEMPLATE.name ? begin('template-publish', null, requestId) : noTemplate(key)),
    unpublish: (_name, _version, requestId) => begin('template-unpublish', null, requestId),
    recipes: () => [RECIPE],
    buildRecipe: (_order, requestId) => begin('template-build', null, requestId),
    buildLog: (name) => (name === RECIPE.name ? 'a line\n' : noRecipe(name)),
    deleteTemplate: (key, requestId) => (key === TEMPLATE.name ? begin('template-delete', null, requestId) : noTemplate(key)),
  };
  const manager = new Proxy(plain, {
    get(target, name) {
      if (failure === undefined) return Reflect.get(target, name) as unknown;
      const error = failure;
      failure = undefined;
      return () => { throw error; };
    },
  });

  const api = await buildApi({
    version: '0.0.0', instance: 'test', log, manager, migration: { migrate: (_key, _request, requestId) => begin('migrate', null, requestId), takeBack: (_key, requestId) => begin('migrate-settle', null, requestId) }, operations, events,
    planning: {
      capacity: () => capacityOf({ cpus: 2, memoryBytes: 4096, availableBytes: 2048, swapBytes: 0, diskBytes: 8192, diskFreeBytes: 1024 }, [...ves.values()].map(({ name, status }) => ({
        name, running: status === 'running', cpuWeight: 100, cpuPercent: null, memoryBytes: 1024, swapBytes: 0, used: null,
      }))),
      presets: () => [PRESET],
      preset: (name) => (name === PRESET.name ? PRESET : noPreset(name)),
    },
    stats: { of: (key, span) => viewStats(find(key), SAMPLES, span), last: (uuid) => SAMPLES.last(uuid) },
    doctor: async () => ({ checks: [{ id: 'kernel', title: 'Kernel', status: 'ok' as const, message: 'fine' }] }),
    ...change,
  }, { sessions: createSessionTable(() => clock.now) });
  await listenOnSocket(api, socket, 'no-such-group');

  const bench: Bench = {
    api, client: createClient(socket), socket, events, operations, lines, commands, clock,
    failNext: (error) => { failure = error; },
    work: async () => {},
    addVe(name, status = 'stopped') {
      const ve = fakeVe(name, 101 + ves.size, status);
      ves.set(name, ve);
      return ve;
    },
    async close() {
      await operations.close(100);
      await api.close();
      store.close();
      rmSync(folder, { recursive: true });
    },
  };
  return bench;
}

const POOL: PoolView = {
  name: 'fast', path: '/srv/fast', driver: 'overlay', image: { file: '/srv/fast.img', bytes: 4096, fileSystem: 'ext4' }, createdAt: '2026-01-02T03:04:05.678Z', room: { bytes: 4096, freeBytes: 2048, inodes: 10, freeInodes: 5 },
  holds: { 'disk.space': true, 'disk.inodes': true, 'disk.users': 'it cannot', 'soft': true }, ves: [], shared: null, reclaimable: 0,
};

const TEMPLATE: TemplateView = {
  fingerprint: 'ab'.repeat(32), name: 'debian-12', os: 'debian', release: '12', architecture: 'amd64', layers: [{ id: 'l1', uidBase: 0 }], size: 1000,
  createdAt: '2026-01-01T00:00:00.000Z', source: { suite: 'bookworm' }, uses: 0, warm: null, spares: 0,
};

const SOURCE = { name: 'main', description: 'A server', protocol: 'simplestreams' as const, urls: ['https://images.example'], keyring: null, trust: 'https' as const, ca: null, order: 50, file: '/main.conf', shipped: false, error: null };
const IMAGE = {
  name: 'ubuntu:24.04', source: 'main', product: 'ubuntu:noble:amd64:default', serial: '20260101_07:42', os: 'ubuntu', release: '24.04', codename: 'noble', variant: 'default', architecture: 'amd64', title: 'Ubuntu noble', aliases: ['ubuntu/noble'],
  endOfLife: null, fingerprint: null, bytes: 1000, here: [],
};
const FILE = { sha256: 'ab'.repeat(32), size: 1000 };
const PRODUCT: PublishedProduct = {
  product: 'debian:bookworm:amd64:default', os: 'debian', release: '12', codename: 'bookworm', variant: 'default', architecture: 'amd64', aliases: ['debian/12'], endOfLife: null,
  versions: [{ serial: '20260101_000000', template: { name: 'debian-12', fingerprint: 'ab'.repeat(32) }, tree: FILE, metadata: FILE, lxc: FILE, fingerprint: 'cd'.repeat(32), openvz: { ...FILE, signature: null } }],
};
const RECIPE = { name: 'shop', description: 'A shop', from: 'debian-12', file: '/shop.yaml', shipped: true, error: null };
const PRESET = { name: 'small', description: 'A small one', properties: { 'cpu.limit': 50, 'pids.limit': null }, ignored: [], file: '/small.conf', shipped: true, error: null };

/** Of every VE: one of everything a second, and no disk that is counted. */
const READING = { ...Object.fromEntries([...GAUGES, ...COUNTERS].map((field) => [field, 1])), diskReads: Number.NaN } as Reading;
const SAMPLES = {
  last: (_uuid: string) => ({ time: 1_700_000_000, reading: READING, step: { seconds: 2, grown: READING } }),
  history: () => [pointOf(1_700_000_000, 60, READING, READING)],
};

function fakeVe(name: string, number: number, status: VeStatus): VeDetail {
  const running = status === 'running';
  return {
    uuid: `00000000-0000-4000-8000-${String(number).padStart(12, '0')}`, number, name, status, template: { fingerprint: TEMPLATE.fingerprint, name: TEMPLATE.name },
    addresses: ['10.187.0.2'], mac: '02:00:00:00:00:01', uidBase: 1_000_000, pid: running ? 4242 : null, startedAt: running ? TEMPLATE.createdAt : null,
    createdAt: TEMPLATE.createdAt, set: {}, lastExit: null, suspendedAt: null, deployed: null, notStarted: null, health: running ? 'ok' : null, properties: resolveProperties({}), pending: [], grantedTo: null,
    usage: running ? { cpuSeconds: 1.5, memoryBytes: 2048, tasks: 3 } : null, traffic: running ? { rxBytes: 1, txBytes: 2, rxPackets: 3, txPackets: 4 } : null, link: 'vd-101',
    links: [{ name: 'eth0', link: 'vd-101', mac: '02:00:00:00:00:01', hostMac: '02:76:65:6c:64:01', mtu: 1500, bridge: null, addresses: ['10.187.0.2'], prefixes: [], setup: 'host' }],
  };
}

function fakeCommand(request: ExecRequest, commands: FakeCommand[]): ExecSession {
  const { promise, resolve } = Promise.withResolvers<number>();
  const command: FakeCommand = {
    request, stdin: new PassThrough(), stdout: new PassThrough(), stderr: new PassThrough(), signals: [], sizes: [],
    exit(code) {
      command.stdout.end();
      command.stderr.end();
      resolve(code);
    },
  };
  commands.push(command);
  return {
    stdin: command.stdin, stdout: command.stdout, stderr: request.tty ? null : command.stderr, exit: promise,
    resize: (columns, rows) => { command.sizes.push([columns, rows]); },
    kill: (signal) => { command.signals.push(signal); },
  };
}
