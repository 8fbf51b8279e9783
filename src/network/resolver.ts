/**
 * The instance's resolver: VEs and the host find VEs by their names, and VEs find everything else through it.
 *
 * A dnsmasq of its own on the gateway addresses, which lives on without the daemon. Names are files in a folder that it watches, one for
 * each VE, so a new name costs one small file and no reload. What a person should know of it is in docs/explanation/network.md.
 */
import { mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Resolver as DnsClient } from 'node:dns/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from '../lib/errors.ts';
import type { Settings } from '../lib/settings.ts';
import { readIfExists } from '../lib/files.ts';
import { dnsmasqProgram, dnsmasqWords, runningDnsmasq, startDnsmasq, stopDnsmasq, trimDnsmasqLog } from '../kernel/dnsmasq.ts';
import { isAlive } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import { hasIpv6 } from './host.ts';
import { tellHost } from './host-names.ts';
import { listeners } from './listeners.ts';
import { namesOf } from './names.ts';
import { parsePools } from './pools.ts';
import { HOST_NAME, hostsFiles, reverseZones, upstreamFile, zoneConfig } from './zone.ts';

export interface NameService {
  /** `NAME.domain` are the names of VEs; empty: there is no resolver. */
  readonly domain: string;
  /** The host's addresses at which it answers; none while there is no resolver to rely on. */
  addresses(): string[];
  /** Start it, or take over the one that runs. @throws VeldError `network.failed` */
  start(): Promise<void>;
  /** Make the names those of the records. Cheap when nothing has changed. */
  sync(): void;
  /** Look whether it answers, and start it again where it does not. @returns what was wrong, in words */
  mend(): Promise<string[]>;
  /** Whether it answers now; null where there shall be none. */
  answers(): Promise<boolean | null>;
  /** Whether the host's own programs find the names. */
  hostFinds(): Promise<boolean>;
  /** End it and remove its files. */
  stop(): Promise<void>;
}

export interface NameServiceOptions {
  settings: Settings;
  /** All VEs of this node. */
  records: () => readonly VeRecord[];
  /** Control groups for the process. */
  groups: () => readonly string[];
}

/** How long it may take until it answers, in milliseconds. */
const PATIENCE = 5000;
/** Looks in a row without an answer after which it is taken for dead though its process lives. */
const SILENT = 2;

/** The name service of an instance. It touches nothing before `start`. */
export function createNameService({ settings, records, groups }: NameServiceOptions): NameService {
  const { domain } = settings.network;
  const names = namesOf(settings.instance);
  const ipv6 = hasIpv6();
  const pools = parsePools(settings.network.pools).filter((pool) => ipv6 || pool.family === 4);
  const gateways = pools.map(({ gateway }) => gateway);
  const wanted = domain !== '' && gateways.length > 0;
  const folder = join(settings.runDir, 'resolver');
  const hosts = join(folder, 'hosts');
  const written = new Map<string, string>();
  /** The folder of names is there. */
  let prepared = false;
  let reliable = false;
  let silent = 0;

  const config = (): string => zoneConfig({ domain, pools, hosts, upstream: upstreamFile(), user: userOf() });
  const isAsWanted = (): boolean => {
    const running = runningDnsmasq(folder);
    return running !== undefined && !running.outdated && running.config === config();
  };

  const service: NameService = {
    domain,
    addresses: () => (reliable ? gateways : []),

    async start() {
      if (!wanted) {
        await stopDnsmasq(folder);
        return;
      }
      if (dnsmasqProgram() === undefined) throw new VeldError('network.failed', 'Names of VEs cannot be answered: dnsmasq is not installed.', { hint: 'Install the package dnsmasq-base.' });
      mkdirSync(hosts, { recursive: true, mode: 0o755 });
      prepared = true;
      for (const name of readdirSync(hosts)) if (!name.startsWith('.')) written.set(name, readFileSync(join(hosts, name), 'utf8'));
      service.sync();
      if (!isAsWanted() || !(await asked(gateways, domain, 1000))) {
        const started = await startDnsmasq(folder, config(), groups());
        const end = Date.now() + PATIENCE;
        // Not asked before it listens: a question to a closed port is only over when its time is.
        while (!listens(gateways) || !(await asked(gateways, domain, 1000))) {
          if (Date.now() > end || started === undefined || !isAlive(started)) throw new VeldError('network.failed', `The resolver for VEs does not answer: ${dnsmasqWords(folder) || 'it said nothing'}.`);
          await sleep(5);
        }
      }
      silent = 0;
      reliable = true;
      await tellHost({ link: names.gatewayLink, gateways, zones: [domain, ...reverseZones(pools)] });
    },

    sync() {
      if (!prepared) return;
      const files = hostsFiles(records(), domain, pools, { names, ipv6 });
      for (const [name, content] of files) {
        if (written.get(name) === content) continue;
        // Renamed into its place: dnsmasq reads it whole, and passes over names that begin with a dot.
        writeFileSync(join(hosts, `.${name}`), content, { mode: 0o644 });
        renameSync(join(hosts, `.${name}`), join(hosts, name));
        written.set(name, content);
      }
      for (const name of written.keys()) {
        if (files.has(name)) continue;
        rmSync(join(hosts, name), { force: true });
        written.delete(name);
      }
    },

    async mend() {
      if (!wanted || dnsmasqProgram() === undefined) return [];
      service.sync();
      trimDnsmasqLog(folder);
      const good = isAsWanted();
      silent = good && !(await asked(gateways, domain, 1000)) ? silent + 1 : 0;
      if (good && silent < SILENT) {
        await tellHost({ link: names.gatewayLink, gateways, zones: [domain, ...reverseZones(pools)] });
        return [];
      }
      const why = good ? 'the resolver for VEs that answered no more' : runningDnsmasq(folder) ? 'the resolver for VEs, which was out of date' : 'the resolver for VEs';
      await service.start();
      return [why];
    },

    answers: async () => (wanted ? asked(gateways, domain, 1000) : null),

    async hostFinds() {
      const { lookup } = await import('node:dns/promises');
      return lookup(`${HOST_NAME}.${domain}`).then(({ address }) => gateways.includes(address), () => false);
    },

    async stop() {
      prepared = false;
      reliable = false;
      await stopDnsmasq(folder);
      rmSync(folder, { recursive: true, force: true });
    },
  };
  return service;
}

/** Whether somebody has port 53 of each address. */
function listens(gateways: readonly string[]): boolean {
  const open = listeners().filter(({ protocol, port }) => protocol === 'udp' && port === 53);
  return gateways.every((gateway) => open.some(({ address }) => address === gateway));
}

/** Whether each address answers. */
async function asked(gateways: readonly string[], domain: string, timeout: number): Promise<boolean> {
  const answers = await Promise.all(gateways.map(async (gateway) => {
    const client = new DnsClient({ timeout, tries: 1 });
    client.setServers([gateway.includes(':') ? `[${gateway}]` : gateway]);
    try {
      await client.resolve(`${HOST_NAME}.${domain}`, gateway.includes(':') ? 'AAAA' : 'A');
      return true;
    } catch (error) {
      // Any word of its own is one.
      return ['ENOTFOUND', 'ENODATA', 'ESERVFAIL', 'EREFUSED', 'ENOTIMP'].includes((error as NodeJS.ErrnoException).code ?? '');
    }
  }));
  return answers.every(Boolean);
}

/** The account that Debian's package makes, or else nobody. */
function userOf(): string {
  return /^dnsmasq:/m.test(readIfExists('/etc/passwd') ?? '') ? 'dnsmasq' : 'nobody';
}
