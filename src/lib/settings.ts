/** The daemon's settings: one file, checked as a whole when it is read. Docs: docs/reference/settings.md. */
import { isIPv4 } from 'node:net';
import { readIfExists } from './files.ts';
import { VeldError } from './errors.ts';

/** Where the settings file is unless VELD_SETTINGS names another. */
export const DEFAULT_SETTINGS_FILE = '/etc/veld/settings.json';

export interface Settings {
  /** Name of this installation, part of every global name (cgroup, link, nft table): 1 to 5 of a-z0-9, a letter first. */
  instance: string;
  /** Persistent state: database, templates, layers, VEs, engines. Mode 0700, root. */
  stateDir: string;
  /** Volatile state of this boot. */
  runDir: string;
  /** Unix socket of the API. */
  socket: string;
  /** Group that may use the socket (equals root on this host), created by quickstart. */
  socketGroup: string;
  /** Folder with presets of the administrator, NAME.conf each. */
  presetsDir: string;
  /** Folder with sources of templates of the administrator, NAME.conf each. */
  sourcesDir: string;
  /** Folder with recipes of templates of the administrator, NAME.yaml each. */
  recipesDir: string;
  log: {
    /** pino level. */
    level: 'trace' | 'debug' | 'info' | 'warn' | 'error';
    /** Log file; rotated when it reaches maxBytes, one old file kept. */
    file: string;
    maxBytes: number;
  };
  network: {
    /** Pools from which addresses are given, CIDR. The first address of an IPv4 pool is the host's own. */
    pools: string[];
    /** Host links towards the world: NAT for private pools and proxy ARP/ND happen there. Empty: links of the default routes, found at start. */
    uplinks: string[];
    /** Whether VEs may talk to each other. */
    veToVe: boolean;
    /** Whether VEs may open connections to the host itself (ICMP echo always may). */
    veToHost: boolean;
    /** Classes by which the traffic of VEs is counted, `NAME=NETWORK,NETWORK` each. The pools are `inside`, what is in none is `outside`. */
    classes: string[];
    /** Domain of the names of VEs (`web.veld.internal`), which the instance's own resolver answers. Empty: no resolver, VEs ask those of the host. */
    domain: string;
  };
  engine: {
    /** Debian suites tried in this order for crun, conmon and criu >= 4.2. */
    suites: string[];
    /** Debian mirror; empty: that of the machine's own package sources (needed on hosts that are not Debian). */
    mirror: string;
    /** What to do with a Release file past its Valid-Until: `refuse`, or `record` (use it, note it, show it in doctor). */
    expiredRelease: 'refuse' | 'record';
  };
  deploy: {
    /** Whether `create --start` brings a warm image of the template to life instead of booting it, and whether such images are made. */
    warm: boolean;
    /** How many VEs of each template that was deployed within the last hour stand ready, from its warm image: `create --start` takes one of them. 0: none. */
    spares: number;
  };
  checkpoint: {
    /** Seconds after which a dump or a restore that does nothing is ended: the VE runs on, or stays suspended. */
    stallTimeout: number;
  };
  nodes: {
    /** Where other nodes are heard, `ADDRESS:PORT`; empty: nowhere. */
    listen: string;
    /** What this node calls itself to others; empty: the host's name. */
    name: string;
    /** Where others are told to find it, `HOST:PORT`; empty: as `listen` says. */
    address: string;
  };
  images: {
    /** Where templates that this node publishes are served, `ADDRESS:PORT`; empty: nowhere. */
    listen: string;
    /** `http` has no TLS: who pulls must go by signatures then. */
    scheme: 'https' | 'http';
    /** Where others are told to find them, `HOST:PORT`; empty: as `listen` says. */
    address: string;
    /** Files with a certificate (and those between it and its authority behind it) and its key, PEM; empty: made by Veld. */
    certificate: string;
    key: string;
    /** Home folder of GnuPG whose default key signs; empty: Veld's own. */
    gnupgHome: string;
    /** How many versions of what is published are kept. */
    keep: number;
  };
  overcommit: {
    /** What to do when the memory limits of VEs that run are more than `ratio` times the memory of the host: whenever one is made, comes to run, or gets a higher limit. */
    memory: { ratio: number; action: 'refuse' | 'warn' | 'allow' };
  };
  host: {
    /** What the host's own processes weigh beside VEs when CPUs are short, as `cpu.weight` of one of them; they get half at most. */
    cpuWeight: number;
  };
  alerts: {
    /** Percent of a minute in which the CPU limit holds a VE back, from which on an event says so (`ve.throttled`). 0: never. */
    throttled: number;
    /** Percent of its memory.limit that a VE uses, page cache apart, from which on an event says so (`ve.memory_near_limit`). 0: never. */
    memory: number;
  };
  migration: {
    /** Bytes per second that each VE on its way to another node takes of the network at most; null: what it gets. */
    bandwidth: number | null;
  };
  /** The veld-boot, veld-runtime and veld-exit scripts. Set by the daemon from its own place; not read from the file. */
  libexecDir: string;
}

/** Defaults of all settings for an instance. */
export function defaultSettings(instance = 'main'): Settings {
  const name = instance === 'main' ? 'veld' : `veld-${instance}`;
  return {
    instance,
    stateDir: `/var/lib/${name}`,
    runDir: `/run/${name}`,
    socket: `/run/${name}/veld.sock`,
    socketGroup: 'veld',
    presetsDir: '/etc/veld/presets',
    sourcesDir: '/etc/veld/sources',
    recipesDir: '/etc/veld/recipes',
    log: { level: 'info', file: `/var/log/${name}/veldd.log`, maxBytes: 16 << 20 },
    network: { pools: ['10.187.0.0/16', 'fd5e:1d00:187::/64'], uplinks: [], veToVe: true, veToHost: false, classes: [], domain: `${name}.internal` },
    engine: { suites: ['trixie-backports', 'testing'], mirror: '', expiredRelease: 'refuse' },
    deploy: { warm: true, spares: 1 },
    checkpoint: { stallTimeout: 60 },
    nodes: { listen: '', name: '', address: '' },
    images: { listen: '', scheme: 'https', address: '', certificate: '', key: '', gnupgHome: '', keep: 3 },
    overcommit: { memory: { ratio: 1.5, action: 'warn' } },
    host: { cpuWeight: 1000 },
    alerts: { throttled: 25, memory: 90 },
    migration: { bandwidth: null },
    libexecDir: new URL('../../libexec', import.meta.url).pathname,
  };
}

/**
 * Read the settings file over the defaults.
 * @param file path; a file that does not exist means defaults
 * @throws VeldError `settings.invalid` naming the key
 */
export function loadSettings(file = process.env.VELD_SETTINGS ?? DEFAULT_SETTINGS_FILE): Settings {
  const text = readIfExists(file);
  let given: Record<string, unknown> = {};
  if (text !== undefined) {
    try {
      given = JSON.parse(text) as Record<string, unknown>;
    } catch (error) {
      throw new VeldError('settings.invalid', `${file} is not JSON: ${(error as Error).message}.`);
    }
  }
  const bad = (key: string, why: string): never => {
    throw new VeldError('settings.invalid', `${file}: ${key} ${why}.`, { details: { key } });
  };
  const instance = given.instance ?? 'main';
  if (typeof instance !== 'string' || !/^[a-z][a-z0-9]{0,4}$/.test(instance)) bad('instance', 'must be 1 to 5 of a-z and 0-9, a letter first');
  const settings = defaultSettings(instance as string);
  merge(settings as unknown as Record<string, unknown>, given, '', bad);
  for (const key of ['stateDir', 'runDir', 'socket', 'presetsDir', 'sourcesDir', 'recipesDir'] as const) {
    if (!settings[key].startsWith('/') || /[\n\0:,\\]/.test(settings[key])) bad(key, 'must be an absolute path without colon, comma, backslash or newline');
  }
  for (const pool of settings.network.pools) {
    const [address, bits] = pool.split('/');
    const family = familyOf(address ?? '');
    const n = Number(bits);
    if (family === 0 || !Number.isInteger(n) || n < 8 || n > (family === 4 ? 30 : 120)) bad('network.pools', `holds ${pool}, which is not a CIDR pool`);
  }
  const { domain } = settings.network;
  if (domain !== '' && !(domain.length <= 180 && /^[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/.test(domain))) {
    bad('network.domain', 'must be a domain name in lower case without a dot at its end, or empty');
  }
  for (const link of settings.network.uplinks) if (!/^[A-Za-z0-9_.@-]{1,15}$/.test(link)) bad('network.uplinks', `holds ${link}, which is not a link name`);
  const { spares } = settings.deploy;
  if (!Number.isInteger(spares) || spares < 0 || spares > 100) bad('deploy.spares', 'must be a whole number from 0 to 100');
  const { stallTimeout } = settings.checkpoint;
  if (!(stallTimeout >= 1 && stallTimeout <= 86_400)) bad('checkpoint.stallTimeout', 'must be a number of seconds from 1 to 86400');
  const { nodes, images } = settings;
  for (const [part, { listen, address }] of Object.entries({ nodes, images })) {
    if (listen !== '' && !/^(?:\d{1,3}(?:\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]):\d{1,5}$/.test(listen)) bad(`${part}.listen`, 'must be an address with a port, such as 0.0.0.0:7430 or [::]:7430, or empty');
    if (address !== '' && !/^(?:[A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9_.-]+)?\]):\d{1,5}$/.test(address)) bad(`${part}.address`, 'must be a host with a port, or empty');
    for (const [key, value] of Object.entries({ listen, address })) {
      const port = Number(/\d+$/.exec(value)?.[0] ?? 1);
      if (port < 1 || port > 65_535) bad(`${part}.${key}`, 'must have a port from 1 to 65535');
    }
  }
  for (const key of ['certificate', 'key', 'gnupgHome'] as const) if (images[key] !== '' && !/^\/[^\n\0]*$/.test(images[key])) bad(`images.${key}`, 'must be an absolute path, or empty');
  if ((images.certificate === '') !== (images.key === '')) bad('images.certificate', 'and images.key must both be given, or none');
  if (images.scheme === 'http' && images.certificate !== '') bad('images.certificate', 'is given, and images.scheme is http');
  if (!Number.isInteger(images.keep) || images.keep < 1 || images.keep > 1000) bad('images.keep', 'must be a whole number from 1 to 1000');
  if (nodes.name !== '' && !/^[a-z][a-z0-9-]{0,62}$/.test(nodes.name)) bad('nodes.name', 'must be 1 to 63 of a-z, 0-9 and -, a letter first, or empty');
  const { ratio } = settings.overcommit.memory;
  if (!(ratio >= 0.01 && ratio <= 1000)) bad('overcommit.memory.ratio', 'must be a number from 0.01 to 1000');
  const { cpuWeight } = settings.host;
  if (!Number.isInteger(cpuWeight) || cpuWeight < 1 || cpuWeight > 10_000) bad('host.cpuWeight', 'must be a whole number from 1 to 10000');
  for (const key of ['throttled', 'memory'] as const) {
    if (!(settings.alerts[key] >= 0 && settings.alerts[key] <= 100)) bad(`alerts.${key}`, 'must be a number of percent from 0 to 100');
  }
  const { bandwidth } = settings.migration;
  if (bandwidth !== null && !(Number.isInteger(bandwidth) && bandwidth >= 65_536 && bandwidth <= 2 ** 50)) bad('migration.bandwidth', 'must be a whole number of bytes per second, at least 65536, or null');
  return settings;
}

/** Family of an address, 0 for what is none. Not isIPv6() of Node: its expression takes 3 ms to compile, of every command line; URLs are parsed by machine code. */
function familyOf(address: string): 0 | 4 | 6 {
  if (isIPv4(address)) return 4;
  return /^[0-9A-Fa-f.:]+$/.test(address) && URL.canParse(`http://[${address}]/`) ? 6 : 0;
}

/** Copy `from` over `into`, key by key, refusing unknown keys and other types. */
function merge(into: Record<string, unknown>, from: Record<string, unknown>, prefix: string, bad: (key: string, why: string) => never): void {
  for (const [key, value] of Object.entries(from)) {
    const path = prefix + key;
    if (!Object.hasOwn(into, key) || path === 'libexecDir') bad(path, 'is not a known setting');
    const old = into[key];
    if (Array.isArray(old)) {
      if (!Array.isArray(value) || value.some((v) => typeof v !== 'string')) bad(path, 'must be a list of strings');
      into[key] = value;
    } else if (typeof old === 'object' && old !== null) {
      if (typeof value !== 'object' || value === null || Array.isArray(value)) bad(path, 'must be an object');
      merge(old as Record<string, unknown>, value as Record<string, unknown>, `${path}.`, bad);
    } else {
      const nullable = NULLABLE[path];
      if (typeof value !== (nullable ?? typeof old) && !(nullable && value === null)) bad(path, `must be a ${nullable ? `${nullable}, or null` : typeof old}`);
      const choices = CHOICES[path];
      if (choices && !choices.includes(value as string)) bad(path, `must be one of ${choices.join(', ')}`);
      into[key] = value;
    }
  }
}

/** What may be null, and what it is else. */
const NULLABLE: Record<string, string> = { 'migration.bandwidth': 'number' };

const CHOICES: Record<string, string[]> = {
  'log.level': ['trace', 'debug', 'info', 'warn', 'error'],
  'engine.expiredRelease': ['refuse', 'record'],
  'images.scheme': ['https', 'http'],
  'overcommit.memory.action': ['refuse', 'warn', 'allow'],
};
