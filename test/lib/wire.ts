/**
 * A wire between machines that are network namespaces: a switch in a namespace of its own, and a pair of links to it for each machine. Nothing of it is in the
 * network of this host, and all of it goes when the test's process ends, whatever way.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { until } from './wait.ts';

export interface Machine {
  /** Of the process that holds its namespaces. */
  pid: number;
  /** Begins a command that shall run there. */
  prefix: string[];
  /** Run a command there. @returns its output @throws Error with what it said */
  sh(...command: string[]): string;
  /** Run lines of `ip -batch` there. */
  ip(...lines: string[]): void;
  /** Link-layer address of a link. */
  mac(link: string): string;
  /** State of the entry for an address in its table of neighbours, and the link-layer address in it. */
  neighbour(address: string): { state: string; mac: string };
}

export interface Wire {
  /** Its links are named as the machines' ones: `alpha-eth0`. */
  switch: Machine;
  /** Plug a link of a machine in. */
  plug(machine: Machine, name: string, link: string): Promise<void>;
  /** A machine of its own. @param hidden folders that are empty there */
  machine(): Promise<Machine>;
  /** Cut what leads to a link of a machine, and mend it. */
  cut(name: string, link?: string): void;
  mend(name: string, link?: string): void;
  /** Bytes that have gone to a link of a machine. */
  passed(name: string, link?: string): number;
  /** The link of the machine behind which the switch knows a link-layer address. */
  portOf(mac: string): string | undefined;
  close(): Promise<void>;
}

/**
 * Namespaces of networks and mounts with a /sys that shows that network; cgroups are the host's. What the host mounts is mounted there, and not the other way round.
 * It ends with its standard input.
 */
const HOLD = 'mount --rbind /sys/fs/cgroup /mnt && mount -t sysfs sysfs /sys && mount --move /mnt /sys/fs/cgroup && mount --make-rshared / && ip link set lo up && echo ready && exec cat';

export async function makeWire(): Promise<Wire> {
  const ends: (() => Promise<void>)[] = [];
  const machine = async (): Promise<Machine> => {
    const child = spawn('unshare', ['-n', '-m', '--propagation', 'slave', 'sh', '-ec', HOLD], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(child, 'exit');
    ends.push(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    await Promise.race([once(child.stdout, 'data'), ended.then(() => { throw new Error('no namespace could be made'); })]);
    return machineOf(child.pid as number);
  };
  try {
    const middle = await machine();
    middle.ip('link add br0 type bridge', 'link set br0 addrgenmode none up');
    return {
      switch: middle,
      machine,
      async plug(other, name, link) {
        middle.ip(`link add ${name}-${link} type veth peer name ${link} netns ${other.pid}`, `link set ${name}-${link} addrgenmode none master br0 up`);
        other.ip(`link set ${link} up`);
        await until(`${link} of ${name} to be up`, () => other.sh('ip', 'link', 'show', link).includes('LOWER_UP'));
      },
      cut: (name, link = 'eth0') => middle.ip(`link set ${name}-${link} down`),
      mend: (name, link = 'eth0') => middle.ip(`link set ${name}-${link} up`),
      passed: (name, link = 'eth0') => Number(middle.sh('cat', `/sys/class/net/${name}-${link}/statistics/tx_bytes`)),
      portOf: (mac) => (JSON.parse(middle.sh('bridge', '-j', 'fdb', 'show', 'br', 'br0')) as { mac: string; ifname: string; state?: string }[]).find((entry) => entry.mac === mac && entry.state !== 'permanent')?.ifname,
      async close() {
        for (const end of ends) await end();
      },
    };
  } catch (error) {
    for (const end of ends) await end();
    throw error;
  }
}

function machineOf(pid: number): Machine {
  const prefix = ['nsenter', '-t', String(pid), '-n', '-m', '--'];
  const run = (input: string, ...command: string[]): string => {
    const { status, stdout, stderr } = spawnSync(prefix[0]!, [...prefix.slice(1), ...command], { input, encoding: 'utf8' });
    if (status !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
    return stdout;
  };
  const sh = (...command: string[]): string => run('', ...command);
  return {
    pid, prefix, sh,
    ip: (...lines) => void run(`${lines.join('\n')}\n`, 'ip', '-batch', '-'),
    mac: (link) => sh('cat', `/sys/class/net/${link}/address`).trim(),
    neighbour(address) {
      const [entry] = JSON.parse(sh('ip', '-j', 'neigh', 'show', address) || '[]') as { lladdr?: string; state?: string[] }[];
      return { mac: entry?.lladdr ?? '', state: entry?.state?.join() ?? '' };
    },
  };
}

/** Wait until a process has stopped itself (`VELD_FAULT=stop:NAME`). */
export async function stopped(pid: number): Promise<void> {
  await until(`process ${pid} to stop`, () => /^State:\s*T/m.test(readFileSync(`/proc/${pid}/status`, 'utf8')), 30_000, 5);
}
