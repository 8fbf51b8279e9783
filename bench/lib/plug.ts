/** The bridge of the peers, which has no addresses, made one by which the host reaches their containers. It goes with `bench/peers --stop`. */
import { outputOf } from './commands.ts';
import { initOf } from './processes.ts';
import { insideOf } from './ready.ts';

/** Of the addresses for benchmarks (RFC 2544). */
const NET = '198.18.77';
let last = 1;

/** @param group path of a container's group @returns address of its eth0, and of the host on the bridge */
export async function plugIn(bridge: string, group: string): Promise<{ address: string; host: string }> {
  const [host, address] = [`${NET}.1`, `${NET}.${++last}`];
  outputOf('ip', ['address', 'replace', `${host}/24`, 'dev', bridge]);
  await insideOf(initOf(group)!, ['sh', '-c', `ip address flush dev eth0 scope global; ip address add ${address}/24 dev eth0; ip link set eth0 up`]);
  return { address, host };
}
