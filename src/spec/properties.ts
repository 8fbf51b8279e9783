/** THE table of a VE's properties: one row each; validation, help, schema, completion and the vzctl mapping come from it. */
import { VeldError } from '../lib/errors.ts';
import { LINK_NAME } from './addresses.ts';
import { GUARDS, INTERFACES_MAX, MTU_MAX, MTU_MIN } from './interfaces.ts';
import { formatValue, parseValue, quote } from './values.ts';
import type { Properties, PropertyRow } from './types.ts';

/** A name of the table. */
export type PropertyName = keyof Properties;

const HOST_NAME = /^(?=.*[A-Za-z])[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*$/;

/** Every property, in the order in which help shows them. */
export const PROPERTIES: readonly PropertyRow[] = [
  {
    name: 'description',
    type: { kind: 'text', maxLength: 1024 },
    default: '',
    change: 'live',
    help: 'What the VE is for, one line.',
    vzctl: { option: 'description', key: 'DESCRIPTION' },
  },
  {
    name: 'hostname',
    // 64 is the kernel's __NEW_UTS_LEN.
    type: { kind: 'text', maxLength: 64, pattern: HOST_NAME, patternHelp: 'a host name of letters, digits, - and .' },
    default: null,
    change: 'restart',
    help: 'Host name inside the VE; `auto` is the name of the VE.',
    vzctl: { option: 'hostname', key: 'HOSTNAME' },
  },
  {
    name: 'cpu.weight',
    type: { kind: 'integer', min: 1, max: 10_000 },
    default: 100,
    change: 'live',
    help: 'Share of the CPUs against other VEs when they are short; 200 gets twice what 100 gets.',
    vzctl: { option: 'cpuunits', key: 'CPUUNITS' },
    needs: 'the cpu controller',
  },
  {
    name: 'cpu.limit',
    type: { kind: 'percent', min: 1, max: 102_400, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most CPU time, in percent of one CPU: 150% is one and a half.',
    vzctl: { option: 'cpulimit', key: 'CPULIMIT' },
    needs: 'the cpu controller with bandwidth control',
  },
  {
    name: 'memory.limit',
    // Below 16 MiB no init of a distribution comes up: the VE would only be killed again and again.
    type: { kind: 'bytes', min: 16 << 20, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most memory (RAM), page cache included.',
    vzctl: { option: 'ram', key: 'PHYSPAGES' },
    needs: 'the memory controller',
  },
  {
    name: 'memory.swap',
    type: { kind: 'bytes', min: 0, unlimited: true },
    default: null,
    change: 'live',
    help: 'Most swap, on top of memory.limit; 0 is none.',
    vzctl: { option: 'swap', key: 'SWAPPAGES' },
    needs: 'the memory controller with swap accounting',
  },
  {
    name: 'pids.limit',
    // 4096 is about thirty times what a LAMP server runs, and a fork bomb of that size (16 KiB of kernel stack each, and a few
    // pages more) costs the host some 150 MB, not its life. Podman gives 2048, systemd-nspawn 16384. It changes live.
    type: { kind: 'integer', min: 16, max: 4_194_304, unlimited: true },
    default: 4096,
    change: 'live',
    help: 'Most processes and threads.',
    vzctl: { option: 'numproc', key: 'NUMPROC' },
    needs: 'the pids controller',
  },
  {
    name: 'network.mode',
    type: { kind: 'choice', choices: ['routed', 'bridge', 'none'] },
    default: 'routed',
    change: 'live',
    help: 'What eth0 is: routed by the host, a port of the bridge `network.bridge`, or not there.',
  },
  {
    name: 'network.bridge',
    type: { kind: 'text', maxLength: 15, pattern: new RegExp(`^$|${LINK_NAME.source}`), patternHelp: 'the name of a bridge of the host' },
    default: '',
    change: 'live',
    help: 'Bridge of the host that eth0 is a port of, with `network.mode` bridge; it must be there when the VE starts.',
  },
  {
    name: 'network.addresses',
    type: { kind: 'list', item: 'address', maxItems: 64 },
    default: null,
    change: 'live',
    help: 'Addresses of eth0. Routed: without prefix length; `auto` takes one from each pool. On a bridge: with prefix length; `auto` is DHCP and router advertisements. `none` has none.',
    vzctl: { option: 'ipadd', key: 'IP_ADDRESS' },
  },
  {
    name: 'network.prefixes',
    type: { kind: 'list', item: 'prefix', maxItems: 16 },
    default: [],
    change: 'live',
    help: 'Whole prefixes routed to the VE (eth0 routed): 2001:db8:1:2::/64, or 2001:db8:1:2::1/64 to give eth0 that address of it, too.',
  },
  {
    name: 'network.gateway',
    // One of each family.
    type: { kind: 'list', item: 'gateway', maxItems: 2 },
    default: [],
    change: 'live',
    help: 'Routers of eth0 on a bridge with addresses by hand, one of each family.',
  },
  {
    name: 'network.mac',
    type: { kind: 'text', maxLength: 17, pattern: /^[0-9a-f][02468ace](:[0-9a-f]{2}){5}$/, patternHelp: 'a unicast link-layer address such as 02:00:5e:00:53:01 in lower case' },
    default: null,
    change: 'live',
    help: 'Link-layer address of eth0; `auto` keeps the one chosen when the VE was made.',
  },
  {
    name: 'network.guard',
    type: { kind: 'choice', choices: GUARDS },
    default: 'strict',
    change: 'live',
    help: 'What eth0 may send to a bridge: strict (its own link-layer address, its own addresses when given by hand, no router advertisements, no DHCP answers), router (its own link-layer address), off (anything).',
  },
  {
    name: 'network.interfaces',
    type: { kind: 'list', item: 'interface', maxItems: INTERFACES_MAX },
    default: [],
    change: 'live',
    help: 'Interfaces besides eth0, with spaces between: `eth1,bridge=br1,address=192.0.2.5/24 eth2,address=10.0.0.9`.',
    vzctl: { option: 'netif_add', key: 'NETIF' },
  },
  {
    name: 'network.dns',
    // Resolvers read three `nameserver` lines (MAXNS in resolv.h), and ignore the rest without a word.
    type: { kind: 'list', item: 'resolver', maxItems: 3 },
    default: null,
    change: 'restart',
    help: 'Addresses of name servers; `auto` is the resolver that knows the names of VEs, or else those of the host.',
    vzctl: { option: 'nameserver', key: 'NAMESERVER' },
  },
  {
    name: 'network.search',
    // Six is what every resolver reads (MAXDNSRCH in resolv.h).
    type: { kind: 'list', item: 'domain', maxItems: 6 },
    default: [],
    change: 'restart',
    help: 'Domains in which short names are looked up.',
    vzctl: { option: 'searchdomain', key: 'SEARCHDOMAIN' },
  },
  {
    name: 'network.mtu',
    type: { kind: 'integer', min: MTU_MIN, max: MTU_MAX, unit: 'bytes' },
    default: null,
    change: 'live',
    help: 'Largest packet of eth0; `auto` is 1500, on a bridge what the bridge has.',
  },
  {
    name: 'network.publish',
    type: { kind: 'list', item: 'publish', maxItems: 64 },
    default: [],
    change: 'live',
    help: 'Ports of the host that lead to ports of the VE: `8080:80`, `192.0.2.1:53:53/udp`, `[2001:db8::1]:8000-8010:80-90/tcp`.',
  },
  {
    name: 'network.allow',
    type: { kind: 'list', item: 'rule', maxItems: 128 },
    default: [],
    change: 'live',
    help: 'Firewall: where one rule stands, nothing else passes in its direction: `22/tcp`, `192.0.2.0/24:443`, `out:any:53`, `any/icmp`.',
  },
  {
    name: 'network.deny',
    type: { kind: 'list', item: 'rule', maxItems: 128 },
    default: [],
    change: 'live',
    help: 'Firewall: what never passes, whatever network.allow says: `192.0.2.7`, `out:any:25/tcp`.',
  },
  {
    name: 'features.nesting',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Allow namespaces inside the VE (containers, systemd sandboxes); such a VE cannot be checkpointed.',
  },
  {
    name: 'features.io_uring',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Allow io_uring; such a VE cannot be checkpointed while a program uses it.',
  },
  {
    name: 'features.sockets32',
    type: { kind: 'boolean' },
    default: false,
    change: 'restart',
    help: 'Let 32-bit programs use the network; AF_VSOCK and AF_ALG, which have no namespaces, are then within reach too.',
  },
  {
    name: 'boot.command',
    type: { kind: 'words', maxItems: 256, maxLength: 4096 },
    default: null,
    change: 'restart',
    help: 'The one command that the VE runs instead of a system of its own, under a small init; `auto` boots the init of the template.',
  },
  {
    name: 'boot.user',
    type: { kind: 'text', maxLength: 64, pattern: /^[A-Za-z0-9_][A-Za-z0-9_.$-]*$/, patternHelp: 'a user name or a uid' },
    default: 'root',
    change: 'restart',
    help: 'User that boot.command runs as.',
  },
  {
    name: 'boot.env',
    type: { kind: 'words', maxItems: 256, maxLength: 4096, form: /^[A-Za-z_][A-Za-z0-9_]*=/, formHelp: 'NAME=VALUE' },
    default: [],
    change: 'restart',
    help: 'Environment of boot.command, NAME=VALUE each, on top of PATH and HOME.',
  },
  {
    name: 'boot.cwd',
    type: { kind: 'text', maxLength: 4095, pattern: /^\//, patternHelp: 'an absolute path' },
    default: '/',
    change: 'restart',
    help: 'Folder that boot.command starts in; it is made when it is not there.',
  },
  {
    name: 'boot.start',
    type: { kind: 'boolean' },
    default: false,
    change: 'live',
    help: 'Start the VE when the host boots.',
    vzctl: { option: 'onboot', key: 'ONBOOT' },
  },
  {
    name: 'boot.order',
    type: { kind: 'integer', min: 0, max: 1_000_000 },
    default: 100,
    change: 'live',
    help: 'Order in which VEs start when the host boots: the higher the number, the earlier, as in OpenVZ.',
    vzctl: { option: 'bootorder', key: 'BOOTORDER' },
  },
  {
    name: 'boot.timeout',
    type: { kind: 'seconds', min: 1, max: 3600 },
    default: 60,
    change: 'live',
    help: 'How long a start waits for init to come up.',
  },
  {
    name: 'restart.policy',
    type: { kind: 'choice', choices: ['never', 'on-failure', 'always'] },
    default: 'never',
    change: 'live',
    help: 'Whether a VE whose init or command ended by itself is started again; a poweroff inside it, or status 0 of its command, ends it for good, except under `always`.',
  },
  {
    name: 'stop.timeout',
    type: { kind: 'seconds', min: 1, max: 86_400 },
    default: 60,
    change: 'live',
    help: 'How long a stop waits for the VE to shut down before it is killed.',
  },
  {
    name: 'shutdown.action',
    type: { kind: 'choice', choices: ['stop', 'suspend'] },
    default: 'stop',
    change: 'live',
    help: 'What becomes of the VE when the host goes down: it is stopped, or suspended and brought back as it was at the next boot, whatever boot.start says. What cannot be suspended is stopped.',
  },
];

const BY_NAME: ReadonlyMap<string, PropertyRow> = new Map(PROPERTIES.map((row) => [row.name, row]));

/**
 * The row of a property.
 * @throws VeldError `property.unknown`, suggesting the nearest name
 */
export function findProperty(name: string): PropertyRow {
  const row = BY_NAME.get(name);
  if (row !== undefined) return row;
  const near = nearest(name);
  throw new VeldError('property.unknown', `There is no property ${quote(name)}.${near === undefined ? '' : ` Is ${near} meant?`}`,
    { details: { name: name.slice(0, 100), ...(near !== undefined && { nearest: near }) } });
}

/**
 * Read one property.
 * @param name dotted name
 * @param input text as a person writes it (`512M`, `150%`, `5m`, `on`, `10.0.0.1,fd00::1`) or the JSON value; `null` where the
 *   default is null or the property can be unlimited. (To unset a property is the business of the caller: leave it out.)
 * @returns the canonical value, as a VE's record keeps it
 * @throws VeldError `property.unknown`, `property.invalid` (what was given, and what is accepted)
 */
export function parseProperty<N extends PropertyName>(name: N, input: unknown): Properties[N];
export function parseProperty(name: string, input: unknown): unknown;
export function parseProperty(name: string, input: unknown): unknown {
  return parseValue(findProperty(name), input);
}

/**
 * A property's value as text that {@link parseProperty} reads again.
 * @throws VeldError `property.unknown`
 */
export function formatProperty(name: string, value: unknown): string {
  return formatValue(findProperty(name), value);
}

/**
 * Read many properties; all that is wrong is said in one error.
 * @param given by name; a value of `undefined` is skipped
 * @returns canonical values by name
 * @throws VeldError `property.unknown` or `property.invalid`; with several faults `details.problems` lists their messages
 */
export function parseProperties(given: Record<string, unknown>): Record<string, unknown> {
  const parsed: Record<string, unknown> = {};
  const problems: VeldError[] = [];
  for (const [name, input] of Object.entries(given)) {
    if (input === undefined) continue;
    try {
      parsed[name] = parseProperty(name, input);
    } catch (error) {
      if (!(error instanceof VeldError)) throw error;
      problems.push(error);
    }
  }
  const [first] = problems;
  if (first === undefined) return parsed;
  if (problems.length === 1) throw first;
  const messages = problems.map((problem) => problem.message);
  throw new VeldError(first.code, messages.slice(0, 10).join(' '), { details: { problems: messages.slice(0, 100) } });
}

/**
 * All properties of a VE: those set, and defaults for the rest.
 * @param set canonical values by name, from the VE's record; names unknown to this version are left out
 */
export function resolveProperties(set: Readonly<Record<string, unknown>>): Properties {
  const all = PROPERTIES.map((row) => [row.name, structuredClone(Object.hasOwn(set, row.name) ? set[row.name] : row.default)] as const);
  return Object.fromEntries(all) as unknown as Properties;
}

/** The known name that a wrong one most likely means: vzctl's name for it, its beginnings (`mem.lim`), the fewest letters apart, or a part of it. */
function nearest(name: string): string | undefined {
  if (typeof name !== 'string' || name.length > 64) return undefined;
  const wrong = name.toLowerCase();
  const old = PROPERTIES.find((row) => row.vzctl !== undefined && (row.vzctl.option === wrong || row.vzctl.key.toLowerCase() === wrong));
  if (old !== undefined) return old.name;
  const parts = wrong.split('.');
  const short = PROPERTIES.find((row) => {
    const whole = row.name.split('.');
    return whole.length === parts.length && parts.every((part, i) => part !== '' && whole[i]?.startsWith(part) === true);
  });
  if (short !== undefined) return short.name;
  let best: { name: string; distance: number } | undefined;
  for (const row of PROPERTIES) {
    const distance = lettersApart(wrong, row.name);
    if (best === undefined || distance < best.distance) best = { name: row.name, distance };
  }
  if (best !== undefined && best.distance <= Math.max(2, Math.floor(best.name.length / 4))) return best.name;
  return PROPERTIES.find((row) => row.name.split('.').includes(wrong))?.name;
}

/** Levenshtein distance. */
function lettersApart(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i += 1) {
    const next = [i];
    for (let j = 1; j <= b.length; j += 1) {
      next.push(Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
