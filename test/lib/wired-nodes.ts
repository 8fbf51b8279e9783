/** Two nodes and a client, each a machine of its own on one wire (wire.ts): what a test of theirs begins with. */
import { mkdirSync } from 'node:fs';
import { makeInstance, type Instance } from './instance.ts';
import { pair } from './nodes.ts';
import { makeWire, type Machine, type Wire } from './wire.ts';

/** Subnets of the wire (RFC 5737, RFC 3849), and who is what in them. */
export const WIRE4 = (host: number): string => `192.0.2.${host}`;
export const WIRE6 = (host: number): string => `2001:db8:1::${host}`;

export interface WiredNode {
  /** Its name on the wire and as a node. */
  name: string;
  machine: Machine;
  veld: Instance;
}

export interface Wired {
  wire: Wire;
  a: WiredNode;
  b: WiredNode;
  client: Machine;
  destroy(): Promise<void>;
}

/** Where installations on a host tell of each other: those of two machines do not. */
const INSTANCES = '/run/veld-instances';

/** Nodes alpha and beta, paired. On each eth0 is the uplink, and eth1 a port of the bridge `lan`; neither sees the other's folders, nor that it is on the same host. */
export async function makeWiredNodes(): Promise<Wired> {
  const wire = await makeWire();
  const made: Instance[] = [];
  const destroy = async (): Promise<void> => {
    for (const veld of made) await veld.destroy();
    await wire.close();
  };
  try {
    const connect = async (machine: Machine, name: string, host: number): Promise<void> => {
      await wire.plug(machine, name, 'eth0');
      machine.ip(`addr add ${WIRE4(host)}/24 dev eth0`, `addr add ${WIRE6(host)}/64 dev eth0 nodad`);
    };
    const node = async (name: string, host: number): Promise<WiredNode> => {
      const machine = await wire.machine();
      await connect(machine, name, host);
      machine.ip('link add lan type bridge', 'link set lan addrgenmode none up');
      // Or it would be answered for there, too, and what goes to the node would come by either link.
      machine.sh('sh', '-c', 'echo 1 >/proc/sys/net/ipv4/conf/lan/arp_ignore');
      await wire.plug(machine, name, 'eth1');
      machine.ip('link set eth1 addrgenmode none master lan');
      const veld = makeInstance({ prefix: machine.prefix, settings: (settings) => {
        settings.nodes = { listen: `${WIRE4(host)}:7800`, name, address: '' };
        settings.network.uplinks = ['eth0'];
      } });
      made.push(veld);
      return { name, machine, veld };
    };
    const [a, b, client] = [await node('alpha', 1), await node('beta', 2), await wire.machine()];
    await connect(client, 'client', 9);
    mkdirSync(INSTANCES, { recursive: true, mode: 0o700 });
    for (const [one, other] of [[a, b], [b, a]] as const) for (const folder of [other.veld.dir, INSTANCES]) one.machine.sh('mount', '-t', 'tmpfs', 'none', folder);
    await Promise.all([a.veld.start(), b.veld.start()]);
    await pair(a.veld, b.veld, 'beta');
    return { wire, a, b, client, destroy };
  } catch (error) {
    await destroy();
    throw error;
  }
}
