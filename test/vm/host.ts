/** A machine with Veld on it, as the tests of this tier use it: as root at a shell, and by the API. */
import type { DoctorCheck } from '../../src/jobs/doctor.ts';
import type { VeDetail, VeView } from '../../src/ve/types.ts';
import { api } from '../lib/http.ts';
import type { Api } from '../lib/http.ts';
import { until } from '../lib/wait.ts';
import { PROGRAM, programDisk } from './disks.ts';
import type { Suite } from './image.ts';
import { boot } from './machine.ts';
import type { Machine, MachineOptions } from './machine.ts';
import { stateDisk } from './state.ts';

const TEMPLATES: Record<Suite, string> = { bookworm: 'debian-12', trixie: 'debian-13' };

/** How long anything that a machine does by itself may take, in milliseconds: it is ten times slower, and so may this one be. */
export const PATIENCE = 300_000;

/** The same for one command, in milliseconds: a migration may have a whole template to send, from one emulated machine to another. */
const COMMAND_PATIENCE = 900_000;

export interface Host {
  readonly machine: Machine;
  /** Of quickstart, and of all VEs here. */
  readonly template: string;
  /** Directory of the VEs' control groups in the cgroup2 hierarchy. */
  readonly group: string;
  /** Where the Veld lies that is installed now. */
  program: string;
  /** `veld LINE` at a shell of root: a start of Node, which takes a second here. Where the command line is not what is tested, use the API. */
  veld(line: string, allow?: boolean): Promise<string>;
  /** `veld --json LINE`. */
  json<T>(line: string): Promise<T>;
  /** The API, from outside. It may have to be asked twice when the machine or the daemon has started anew: see {@link answers}. */
  api: Api;
  list(): Promise<VeView[]>;
  show(ve: string): Promise<VeDetail>;
  doctor(): Promise<DoctorCheck[]>;
  exec(ve: string, ...command: string[]): Promise<{ exitCode: number; stdout: string; stderr: string }>;
  /** Standard output of a command in a VE, trimmed. */
  said(ve: string, ...command: string[]): Promise<string>;
  /** Change properties. */
  set(ve: string, changes: Record<string, unknown>): Promise<void>;
  /** Create a VE of the template and start it. */
  create(ve: string): Promise<VeDetail>;
  destroy(ve: string): Promise<void>;
  /** Text of a file in a VE's control group. */
  control(ve: VeDetail, file: string): Promise<string>;
  /** Pid and start time of a VE's init, or nothing. */
  init(ve: VeDetail): Promise<string>;
  /** Wait until the daemon answers. */
  answers(): Promise<void>;
  /** Wait until systemd in a VE has booted. @throws as {@link healthy} does */
  booted(ve: string): Promise<void>;
  /** See that nothing in a VE has failed. @throws with what its failed units and their journal say */
  healthy(ve: string): Promise<void>;
}

/** Give a machine Veld's disks, and know it as a host. */
export async function bootHost(options: MachineOptions & { hybrid?: boolean }): Promise<Host> {
  return hostOf(await boot({ ...await hostOptions(options) }), options);
}

/** The options of a machine with Veld's disks. */
export async function hostOptions<T extends MachineOptions>(options: T): Promise<T> {
  return { ...options, disks: [programDisk(), await stateDisk(options.suite)] };
}

/** Know a machine as a host. */
export function hostOf(machine: Machine, { suite, hybrid = false }: { suite: Suite; hybrid?: boolean }): Host {
  const door = async (): Promise<Api> => api(await machine.forward('/run/veld/veld.sock'));
  const host: Host = {
    machine,
    template: TEMPLATES[suite],
    group: hybrid ? '/sys/fs/cgroup/unified/veld-main' : '/sys/fs/cgroup/veld.slice/veld-main.slice/veld-main-ves.service',
    program: PROGRAM,
    veld: (line, allow = false) => machine.ask(`veld ${line}`, { allow, timeout: COMMAND_PATIENCE }),
    json: async <T>(line: string): Promise<T> => JSON.parse(await host.veld(`--json ${line}`)) as T,
    api: {
      raw: async (...request) => (await door()).raw(...request),
      call: async <T>(method: string, path: string, body?: unknown): Promise<T> => (await door()).call<T>(method, path, body),
      operate: async (...request) => (await door()).operate(...request),
      socket: () => { throw new Error('not through a machine'); },
    },
    list: () => host.api.call<VeView[]>('GET', '/v1/ves'),
    show: (ve) => host.api.call<VeDetail>('GET', `/v1/ves/${ve}`),
    doctor: async () => (await host.api.call<{ checks: DoctorCheck[] }>('GET', '/v1/doctor')).checks,
    exec: (ve, ...command) => host.api.call('POST', `/v1/ves/${ve}/exec`, { command }),
    said: async (ve, ...command) => (await host.exec(ve, ...command)).stdout.trim(),
    set: async (ve, changes) => void await host.api.operate('PATCH', `/v1/ves/${ve}/properties`, { changes }),
    async create(ve) {
      await host.api.operate('POST', '/v1/ves', { name: ve, template: host.template, start: true });
      return host.show(ve);
    },
    destroy: async (ve) => void await host.api.operate('DELETE', `/v1/ves/${ve}?force=true`),
    control: (ve, file) => machine.ask(`cat ${host.group}/${ve.number}/${file}`),
    init: (ve) => machine.ask(`cat /run/veld/ves/${ve.number}/init 2>/dev/null`, { allow: true }),
    async answers() {
      await until('the daemon to answer', async () => (await host.api.raw('GET', '/v1')).status === 200, PATIENCE, 250);
    },
    async booted(ve) {
      await until(`${ve} to be up`, async () => {
        const word = await host.said(ve, 'systemctl', 'is-system-running');
        return ['running', 'degraded', 'maintenance'].includes(word);
      }, PATIENCE, 250);
      await host.healthy(ve);
    },
    async healthy(ve) {
      const word = await host.said(ve, 'systemctl', 'is-system-running');
      if (word === 'running') return;
      const failed = await host.said(ve, 'sh', '-c', 'for unit in $(systemctl --failed --no-legend --plain | cut -d " " -f 1); do systemctl status --no-pager --full --lines=20 "$unit"; done');
      throw new Error(`${ve} is ${word}:\n${failed}`);
    },
  };
  return host;
}

/**
 * `./quickstart` as root would run it, until the VE `demo` is up. Where there are no settings spares are switched off: they come and go by themselves, which tests that
 * compare traces must not meet.
 * @returns what it said
 */
export async function quickstart(host: Host): Promise<string> {
  await host.machine.run(`[ -e /etc/veld/settings.json ] || { mkdir -p /etc/veld && echo '{"deploy": {"spares": 0}}' >/etc/veld/settings.json; }`);
  const said = await host.machine.ask(`cd ${host.program} && ./quickstart`, { timeout: 600_000 });
  await host.booted('demo');
  return said;
}
