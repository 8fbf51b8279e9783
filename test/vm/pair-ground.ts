/** Two machines with Veld on a wire: one is Debian 12 with its controllers on cgroup v1, the other Debian 13 with cgroup v2. */
import { hostOf, hostOptions, quickstart, type Host } from './host.ts';
import { joinedPair } from './machine.ts';

export interface Pair {
  one: Host;
  two: Host;
  /** Addresses on the wire, and of the VEs, of each host. */
  nodes: readonly { host: Host; address: string; pool: string }[];
  /** Set up the wire of machines that have booted. */
  joinWire(): Promise<void>;
  /** Both run Veld, each with a VE `demo`. */
  runVeld(): Promise<void>;
  /** The second one is known to the first as `two`, and knows it as `one`. */
  become(): Promise<void>;
}

/** Boot both. @param cpus QEMU's names of their processors; default: the same for both */
export async function bootPair({ cpus = [] }: { cpus?: readonly [string, string] | [] } = {}): Promise<Pair> {
  const machines = await joinedPair(
    await hostOptions({ suite: 'bookworm', memory: 1536, cpu: cpus[0], append: 'systemd.unified_cgroup_hierarchy=0' }),
    await hostOptions({ suite: 'trixie', memory: 1536, cpu: cpus[1] }));
  const [one, two] = [hostOf(machines[0], { suite: 'bookworm', hybrid: true }), hostOf(machines[1], { suite: 'trixie' })];
  const nodes = [{ host: one, address: '10.99.0.1', pool: '10.101.0.0/24' }, { host: two, address: '10.99.0.2', pool: '10.102.0.0/24' }];
  return {
    one, two, nodes,
    async joinWire() {
      await Promise.all(nodes.map(async ({ host, address }, i) => {
        const other = nodes[1 - i]!;
        await host.machine.run(`ip link set eth1 up; ip addr replace ${address}/24 dev eth1 && ip route replace ${other.pool} via ${other.address}`);
      }));
    },
    async runVeld() {
      await Promise.all(nodes.map(async ({ host, pool, address }) => {
        await host.machine.run(`mkdir -p /etc/veld && echo '{"network": {"pools": ["${pool}"]}, "nodes": {"listen": "${address}:7430"}}' >/etc/veld/settings.json`);
        await quickstart(host);
      }));
    },
    async become() {
      const { token } = JSON.parse(await two.veld('node token --json')) as { token: string };
      await one.machine.run(`echo ${token} | veld node add two`);
    },
  };
}
