/**
 * A test's own Veld: a real daemon with a name, folders, addresses and uids of its own, next to whatever else runs on the host.
 *
 * Usage: `const veld = await fileInstance()` at the top of a file, then `veld.api`, `veld.cli(...)`. The instance is destroyed when the test or file ends,
 * whatever happens; `./check` sweeps what an interrupted test left.
 */
import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { closeSync, cpSync, existsSync, mkdirSync, openSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { after } from 'node:test';
import type { Settings } from '../../src/lib/settings.ts';
import { defaultSettings } from '../../src/lib/settings.ts';
import type { VeDetail, VeView } from '../../src/ve/types.ts';
import { CLI, DAEMON_MAIN } from './program.ts';
import { ENGINE_SUITES, useEngine, useTemplate } from './cache.ts';
import { requireGuard } from './guard.ts';
import { api } from './http.ts';
import type { Api } from './http.ts';
import { traceLines, tracesOf } from './leftovers.ts';
import { FOLDER_PREFIX, claimName, poolsOf } from './names.ts';
import { sweepInstance } from './sweep.ts';
import { until } from './wait.ts';


/** What bin/veldd gives Node. */
const DAEMON_FLAGS = ['--disable-warning=ExperimentalWarning', '--max-semi-space-size=2', '--optimize-for-size'];
const DAEMON_ENVIRONMENT = { MALLOC_ARENA_MAX: '1' };

export interface InstanceOptions {
  /** Added to the daemon's environment at every start, e.g. VELD_FAULT. */
  env?: Record<string, string>;
  /** Changes of the settings. */
  settings?: (settings: Settings) => void;
  /** The daemon to run instead of the sources': the release bundle. */
  program?: string;
  /** Folders of more templates: `guestTemplate` of cache.ts. */
  templates?: readonly string[];
  /** Mounts a file system at the state folder, which is empty. It goes with the instance. */
  mountState?: (stateDir: string) => void;
  /** Begins the commands by which daemon and `veld` are run: those of a machine of wire.ts. */
  prefix?: readonly string[];
  /** With an engine only: the instance that builds the cached template. */
  noTemplate?: boolean;
}

export interface CliResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface Instance {
  readonly name: string;
  /** Holds state, run folder, settings, logs. */
  readonly dir: string;
  readonly settings: Settings;
  readonly settingsFile: string;
  readonly api: Api;
  /** Pid of the daemon, or undefined when it does not run. */
  readonly pid: number | undefined;
  /** Start the daemon and wait until it answers. @param env for this start only */
  start(env?: Record<string, string>): Promise<void>;
  /** SIGTERM, and wait for the end. @returns its exit status, or the signal */
  stop(): Promise<number | string>;
  /** SIGKILL, and wait for the end. */
  kill9(): Promise<void>;
  /** Wait until the daemon has ended by itself. @param timeout milliseconds */
  died(timeout?: number): Promise<void>;
  /**
   * Run `veld` with a daemon that dies of its fault point meanwhile, and start another: the client follows its operation from the one to the other.
   * @param between what is to be seen while there is none
   */
  cliAcross(args: readonly string[], between?: () => unknown): Promise<CliResult>;
  /** `stop` and `start`. */
  restart(env?: Record<string, string>): Promise<void>;
  /** Start another daemon with the same settings. Rejects with its exit status and last words when it ends. */
  second(): Promise<never>;
  /** Run `veld` against this instance. */
  cli(...args: string[]): Promise<CliResult>;
  /** The same with something on standard input. */
  cliWith(input: string | Uint8Array, ...args: string[]): Promise<CliResult>;
  /** `veld --json ...` that must succeed: its parsed standard output. */
  json<T = unknown>(...args: string[]): Promise<T>;
  /** Views of all VEs, by the API. */
  list(): Promise<VeView[]>;
  show(ve: string): Promise<VeDetail>;
  /** Run a command in a VE by the API; output is text. */
  exec(ve: string, ...command: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }>;
  /** Create a VE of the test template and start it. */
  createRunning(ve: string, properties?: Record<string, unknown>): Promise<VeDetail>;
  /** Wait until systemd inside says running. @returns its last word */
  booted(ve: string): Promise<string>;
  /** Output of the daemons of this instance, and their log. */
  daemonLog(): string;
  /** Everything on the host that carries the name, its own folder excepted. */
  traces(): string[];
  /** The same without what goes on inside of running VEs: their processes, private mounts, nested groups. */
  outline(): string[];
  /** Remove the instance from the host. @returns what resisted */
  destroy(): Promise<string[]>;
}

/** Make an instance and start its daemon. */
export async function startInstance(options: InstanceOptions = {}): Promise<Instance> {
  const instance = makeInstance(options);
  try {
    await instance.start();
    return instance;
  } catch (error) {
    await instance.destroy();
    throw error;
  }
}

/** A running instance for all tests of a file, destroyed after them. Await it at the top of the file (a root `before` is not waited for). */
export async function fileInstance(options: InstanceOptions = {}): Promise<Instance> {
  const instance = await startInstance(options);
  after(() => instance.destroy());
  return instance;
}

/** Make the folders of an instance; nothing runs yet. */
export function makeInstance(options: InstanceOptions = {}): Instance {
  const owner = requireGuard();
  const name = claimName();
  const dir = FOLDER_PREFIX + name;
  writeFileSync(join(dir, 'owner'), owner);
  const settings: Settings = {
    ...defaultSettings(name),
    stateDir: join(dir, 'state'), runDir: join(dir, 'run'), socket: join(dir, 'run/veld.sock'), socketGroup: 'root',
    log: { level: 'debug', file: join(dir, 'veldd.log'), maxBytes: 64 << 20 },
    network: { pools: poolsOf(name), uplinks: [], veToVe: true, veToHost: false, classes: [], domain: `${name}.internal` },
    deploy: { warm: false, spares: 0 },
    checkpoint: { stallTimeout: 60 },
    nodes: { listen: '', name: '', address: '' },
    engine: { suites: ENGINE_SUITES, mirror: '', expiredRelease: 'record' },
  };
  options.settings?.(settings);
  const settingsFile = join(dir, 'settings.json');
  writeFileSync(settingsFile, JSON.stringify({ ...settings, libexecDir: undefined }, null, 2));
  mkdirSync(settings.stateDir, { mode: 0o700 });
  options.mountState?.(settings.stateDir);
  useEngine(settings.stateDir);
  if (options.noTemplate !== true) useTemplate(settings.stateDir);
  for (const folder of options.templates ?? []) useTemplate(settings.stateDir, folder);
  return instanceOf(name, dir, settings, settingsFile, options);
}

function instanceOf(name: string, dir: string, settings: Settings, settingsFile: string, options: InstanceOptions): Instance {
  const door = api(settings.socket);
  let daemon: ChildProcess | undefined;
  let ended: Promise<number | string> = Promise.resolve(0);
  const [program, ...before] = [...options.prefix ?? [], process.execPath];
  const environment = { ...process.env, VELD_SETTINGS: settingsFile, VELD_TEST_OK: undefined, NODE_TEST_CONTEXT: undefined, ...options.env };

  const instance: Instance = {
    name, dir, settings, settingsFile, api: door,
    get pid() {
      return daemon?.pid;
    },
    async start(env = {}) {
      if (daemon) throw new Error(`the daemon of ${name} runs already`);
      const out = openSync(join(dir, 'daemon.out'), 'a');
      // In a session of its own: Ctrl-C at a terminal must reach the test, which stops it in order.
      const child = spawn(program, [...before, ...DAEMON_FLAGS, options.program ?? DAEMON_MAIN], { cwd: '/', env: { ...environment, ...DAEMON_ENVIRONMENT, ...env }, stdio: ['ignore', out, out], detached: true });
      closeSync(out);
      daemon = child;
      ended = new Promise((resolve) => {
        child.on('error', (error) => resolve(error.message));
        child.on('exit', (code, signal) => {
          daemon = undefined;
          resolve(code ?? signal ?? 'unknown');
        });
      });
      await until(`the daemon of ${name} to answer`, async () => {
        if (daemon !== child) return true;
        return (await door.raw('GET', '/v1')).status === 200;
      }, 30_000);
      // A fault may have ended it on purpose; everything else is a failure.
      if (daemon !== child && env.VELD_FAULT === undefined) throw new Error(`the daemon of ${name} ended at once (${await ended}):\n${instance.daemonLog().slice(-3000)}`);
    },
    async stop() {
      if (!daemon) return 0;
      daemon.kill('SIGTERM');
      return within(ended, 20_000, `the daemon of ${name} to stop`);
    },
    async kill9() {
      daemon?.kill('SIGKILL');
      await ended;
    },
    async died(timeout = 30_000) {
      await within(ended, timeout, `the daemon of ${name} to die`);
    },
    async cliAcross(args, between) {
      const result = instance.cli(...args);
      await instance.died();
      await between?.();
      await instance.start();
      return result;
    },
    async restart(env) {
      await instance.stop();
      await instance.start(env);
    },
    second: () => new Promise((_, reject) => {
      const child = spawn(program, [...before, DAEMON_MAIN], { cwd: '/', env: environment, stdio: ['ignore', 'pipe', 'pipe'] });
      let said = '';
      const timer = setTimeout(() => child.kill('SIGKILL'), 15_000);
      for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk: Buffer) => { said += chunk.toString('utf8'); });
      child.on('close', (code, signal) => {
        clearTimeout(timer);
        reject(new Error(`ended with ${code ?? signal}: ${said}`));
      });
    }),
    cli: (...args) => instance.cliWith('', ...args),
    cliWith: (input, ...args) => new Promise((resolve, reject) => {
      const child = spawn(program, [...before, ...CLI, ...args], { env: environment, stdio: ['pipe', 'pipe', 'pipe'] });
      const out: Buffer[] = [];
      const err: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => out.push(chunk));
      child.stderr.on('data', (chunk: Buffer) => err.push(chunk));
      child.stdin.on('error', () => {});
      child.stdin.end(input);
      child.on('error', reject);
      child.on('close', (code, signal) => resolve({ code: code ?? (signal === null ? 1 : 128), stdout: Buffer.concat(out).toString('utf8'), stderr: Buffer.concat(err).toString('utf8') }));
    }),
    async json<T>(...args: string[]) {
      const result = await instance.cli('--json', ...args);
      if (result.code !== 0) throw new Error(`veld ${args.join(' ')} ended with ${result.code}: ${result.stderr}`);
      return JSON.parse(result.stdout) as T;
    },
    list: () => door.call<VeView[]>('GET', '/v1/ves'),
    show: (ve) => door.call<VeDetail>('GET', `/v1/ves/${ve}`),
    exec: (ve, ...command) => door.call('POST', `/v1/ves/${ve}/exec`, { command }),
    async createRunning(ve, properties = {}) {
      await door.operate('POST', '/v1/ves', { name: ve, template: 'test', properties, start: true });
      return instance.show(ve);
    },
    async booted(ve) {
      return until(`${ve} to be up`, async () => {
        const word = (await instance.exec(ve, 'systemctl', 'is-system-running')).stdout.trim();
        return ['running', 'degraded', 'maintenance'].includes(word) ? word : undefined;
      }, 60_000, 100);
    },
    daemonLog: () => ['daemon.out', 'veldd.log'].map((file) => (existsSync(join(dir, file)) ? readFileSync(join(dir, file), 'utf8') : '')).join('\n'),
    traces: () => traceLines(tracesOf(name, { folder: false })),
    outline: () => instance.traces().filter((line) => !/^(process|mount private:)/.test(line) && !/^cgroup .*\/veld-[a-z]{5}\/\w+\/./.test(line)),
    async destroy() {
      if (daemon) {
        daemon.kill('SIGKILL');
        await ended;
      }
      keepLogs(name, dir, settings);
      return traceLines(await sweepInstance(name));
    },
  };
  return instance;
}

/** Save the logs for whoever reads a failure; `./check` throws away those of files that passed. */
function keepLogs(name: string, dir: string, settings: Settings): void {
  const logs = process.env.VELD_TEST_LOGS;
  if (logs === undefined || !existsSync(dir)) return;
  const target = join(logs, basename(process.argv[1] ?? 'test'), name);
  mkdirSync(target, { recursive: true });
  for (const file of readdirSync(dir)) if (/\.(log|out|json)(\.|$)/.test(file)) cpSync(join(dir, file), join(target, file));
  // Consoles and monitors' last words. Small, and only ordinary files of the host's side.
  spawnSync('/usr/bin/find', [settings.runDir, join(settings.stateDir, 'ves'), '-maxdepth', '3', '-name', '*.log', '-size', '-2M', '-exec', '/bin/cp', '--parents', '{}', target, ';']);
}

async function within<T>(promise: Promise<T>, timeout: number, what: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`Waited ${timeout} ms for ${what}, in vain.`)), timeout);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
