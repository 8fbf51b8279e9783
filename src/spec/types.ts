/** Types of the property table. */

/** How a property's text is read and shown. */
export type PropertyType =
  | { kind: 'boolean' }
  | { kind: 'integer'; min: number; max: number; unit?: string }
  /** Bytes; accepts 512M, 1GiB, `unlimited` (null). */
  | { kind: 'bytes'; min: number; unlimited: boolean }
  /** Percent of one CPU; accepts 150%, `unlimited` (null). */
  | { kind: 'percent'; min: number; max: number; unlimited: boolean }
  /** Whole seconds; accepts 30s, 5m. */
  | { kind: 'seconds'; min: number; max: number }
  | { kind: 'choice'; choices: readonly string[] }
  | { kind: 'text'; maxLength: number; pattern?: RegExp; patternHelp?: string }
  | { kind: 'list'; item: 'address' | 'domain' | 'text'; maxItems: number };

export interface PropertyRow {
  /** Dotted name. */
  name: string;
  type: PropertyType;
  /** Value when not set. */
  default: unknown;
  /** `live`: changes while the VE runs; `restart`: at the next start; `create`: only when the VE is made. */
  change: 'live' | 'restart' | 'create';
  /** One line for help. */
  help: string;
  /** vzctl's option without dashes and its config key, where OpenVZ had it. */
  vzctl?: { option: string; key: string };
  /** What it needs of the kernel, in words. */
  needs?: string;
}

/** All properties of a VE, defaults filled in. One field per row of the table. */
export interface Properties {
  'description': string;
  'hostname': string | null;
  'cpu.weight': number;
  'cpu.limit': number | null;
  'memory.limit': number | null;
  'memory.swap': number | null;
  'pids.limit': number | null;
  'network.addresses': string[] | null;
  'network.dns': string[] | null;
  'network.search': string[];
  'network.mtu': number;
  'features.nesting': boolean;
  'features.io_uring': boolean;
  'boot.start': boolean;
  'boot.order': number;
  'boot.timeout': number;
  'restart.policy': 'never' | 'on-failure' | 'always';
  'stop.timeout': number;
}
