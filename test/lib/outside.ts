/** A machine outside: a network namespace joined to the host by a pair of links, with a process in it that connects, serves and sends. */
import { spawnSync } from 'node:child_process';
import { after } from 'node:test';
import { startAgent } from '../../src/network/testing/agents.ts';
import type { Agent } from '../../src/network/testing/agents.ts';
import type { Instance } from './instance.ts';
import { poolsOf } from './names.ts';
import { until } from './wait.ts';

export interface Outside extends Agent {
  /** Addresses of the host and of the machine outside on the link between them. */
  host4: string;
  host6: string;
  own4: string;
  own6: string;
}

/** Make it; it goes with the file's tests. The link on the host carries the instance's name, and the addresses follow from it. */
export async function outsideOf(veld: Instance): Promise<Outside> {
  const agent = await startAgent();
  after(() => agent.stop());
  const [, second = '0', third = '0'] = poolsOf(veld.name)[0].split('.');
  // A /30 out of 198.18.0.0/16 (RFC 2544: between test machines only).
  const number = ((Number(second) - 224) << 8) | Number(third);
  const base = `198.18.${number >> 4}`;
  const low = (number & 15) << 4;
  const six = `fd5e:1d00:7e58:${number.toString(16)}`;
  const [host4, own4, host6, own6] = [`${base}.${low + 1}`, `${base}.${low + 2}`, `${six}::1`, `${six}::2`];
  const link = `o${veld.name}`;
  const lines = [`link add ${link} type veth peer name eth0 netns ${agent.pid}`, `addr add ${host4}/30 dev ${link}`, `addr add ${host6}/64 dev ${link} nodad`, `link set ${link} up`];
  const { status, stderr } = spawnSync('ip', ['-batch', '-'], { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
  if (status !== 0) throw new Error(stderr);
  agent.ip('link set lo up', 'link set eth0 up', `addr add ${own4}/30 dev eth0`, `addr add ${own6}/64 dev eth0 nodad`, `route add default via ${host4}`, `route add default via ${host6}`);
  await until('the link between the host and outside', () => spawnSync('ip', ['link', 'show', link], { encoding: 'utf8' }).stdout.includes('LOWER_UP'));
  return { ...agent, host4, host6, own4, own6 };
}
