/** Two VEs, a host and the world, for tests inside a network namespace (see agents.ts): the world has an uplink of the host, and no way round it. */
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { ipBatch, linkExists } from '../../kernel/links.ts';
import { readSysctl } from '../../kernel/sysctl.ts';
import { defaultSettings } from '../../lib/settings.ts';
import type { Settings } from '../../lib/settings.ts';
import type { VeRecord } from '../../store/types.ts';
import { createNetwork } from '../network.ts';
import type { NetworkManager } from '../types.ts';
import { plugLinks, startAgent } from './agents.ts';
import type { Agent } from './agents.ts';

/** The host's and the world's addresses on the uplink. */
export const HOST4 = '198.51.100.1';
export const HOST6 = '2001:db8:1::1';
export const WORLD4 = '198.51.100.2';
export const WORLD6 = '2001:db8:1::2';

export interface Lab {
  settings: Settings;
  network: NetworkManager;
  world: Agent;
  /** Records as the store would have them; `network` asks for them. */
  ves: VeRecord[];
  agents: Map<number, Agent>;
  /** Another daemon's view of the same host. */
  make(network?: Partial<Settings['network']>): NetworkManager;
  /** Make, admit and build a VE that serves on port 80 and hears datagrams on port 9. */
  add(number: number, addresses: string[], properties?: Record<string, unknown>): Promise<Agent>;
  /** Change properties of a VE as `set` does it. */
  set(number: number, properties: Record<string, unknown>): Promise<void>;
  record(number: number): VeRecord;
  sh(file: string, ...args: string[]): string;
  /** What a server sees the host as, or the error's code. */
  fromHost(host: string, port: number): string;
  counter(name: string): number;
  close(): Promise<void>;
}

export async function makeLab(): Promise<Lab> {
  const folder = mkdtempSync(join(tmpdir(), 'veld-t1-'));
  chmodSync(folder, 0o711); // as the daemon makes it
  const settings = { ...defaultSettings('t1'), runDir: folder, stateDir: join(folder, 'state') };
  const ves: VeRecord[] = [];
  const agents = new Map<number, Agent>();
  const make = (network: Partial<Settings['network']> = {}): NetworkManager => createNetwork({ ...settings, network: { ...settings.network, ...network } }, () => ves);
  const world = await startAgent();
  await ipBatch([`link add up0 type veth peer name eth0 netns ${world.pid}`, 'link set up0 up', `addr add ${HOST4}/24 dev up0`, `addr add ${HOST6}/64 dev up0 nodad`]);
  world.ip('link set lo up', 'link set eth0 up', `addr add ${WORLD4}/24 dev eth0`, `addr add ${WORLD6}/64 dev eth0 nodad`);
  await ipBatch([`route add default via ${WORLD4}`, `route add default via ${WORLD6}`]);
  while (readSysctl('net', 'ipv4', 'ip_forward') === undefined || !execFileSync('ip', ['link', 'show', 'up0'], { encoding: 'utf8' }).includes('LOWER_UP')) await sleep(5);
  const network = make();
  await network.setup();
  await world.ask('serve', 80);
  await world.ask('hear', 9);

  const lab: Lab = {
    settings, network, world, ves, agents, make,
    async add(number, addresses, properties = {}) {
      const agent = await startAgent();
      agents.set(number, agent);
      const ve: VeRecord = {
        uuid: `uuid-${number}`, number, name: `ve${number}`, template: '', layers: [], uidBase: 0, properties, addresses, mac: `02:00:00:00:00:${(number & 255).toString(16).padStart(2, '0')}`,
        desired: 'running', ready: true, guestDirty: false, createdAt: '', lastExit: null, suspended: null, deployed: null, notStarted: null,
      };
      ves.push(ve);
      await network.admit(ve);
      const plan = network.plan(ve);
      for (const { link } of plan.links) if (linkExists(link)) throw new Error(`${link} is there already`);
      plugLinks(plan, agent, settings.runDir);
      await agent.ask('serve', 80);
      await agent.ask('hear', 9);
      return agent;
    },
    async set(number, properties) {
      const before = lab.record(number);
      const after = { ...before, properties };
      ves[ves.indexOf(before)] = after;
      await network.guard(before, after);
    },
    record(number) {
      const ve = ves.find((each) => each.number === number);
      if (!ve) throw new Error(`no VE ${number}`);
      return ve;
    },
    sh: (file, ...args) => execFileSync(file, args, { encoding: 'utf8' }),
    fromHost(host, port) {
      const script = `const s=require('net').connect({host:'${host}',port:${port},timeout:700});s.on('data',d=>{process.stdout.write(d);s.destroy()});s.on('timeout',()=>{process.stdout.write('ETIMEDOUT');process.exit(1)});s.on('error',e=>{process.stdout.write(e.code)})`;
      return spawnSync(process.execPath, ['-e', script], { encoding: 'utf8' }).stdout.trim();
    },
    counter: (name) => Number(/packets (\d+)/.exec(lab.sh('nft', 'list', 'counter', 'inet', 'veld_t1', name))?.[1]),
    async close() {
      for (const agent of [world, ...agents.values()]) agent.stop();
      await network.teardown();
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return lab;
}
