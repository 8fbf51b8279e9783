/** Types of the property table. */
import type { Pair } from './beancounters/pairs.ts';
import type { Unit } from './beancounters/table.ts';
import type { Guard } from './interfaces.ts';

/** How a property's text is read and shown. */
export type PropertyType =
  | { kind: 'boolean' }
  /** A whole number; with `unlimited` also that word (null). */
  | { kind: 'integer'; min: number; max: number; unit?: string; unlimited?: boolean }
  /** Bytes; accepts 512M, 1GiB, `unlimited` (null). */
  | { kind: 'bytes'; min: number; unlimited: boolean }
  /** Percent of one CPU; accepts 150%, `unlimited` (null). */
  | { kind: 'percent'; min: number; max: number; unlimited: boolean }
  /** Bits a second; accepts 10mbit, 1.5gbit, `unlimited` (null). */
  | { kind: 'rate'; min: number; unlimited: boolean }
  /** Barrier and limit of a beancounter, as vzctl reads them; accepts 80:80, 80, `unlimited` (null). `equal`: the two never differ. */
  | { kind: 'pair'; of: Unit; min: number; max: number; equal: boolean; unlimited: true }
  /** What may be in use for a while and what at most; accepts 9G:10G, 10G, `unlimited` (null). */
  | { kind: 'quota'; of: 'bytes' | 'items'; min: number; unlimited: true }
  /** Whole seconds; accepts 30s, 5m. */
  | { kind: 'seconds'; min: number; max: number }
  /** Numbers and ranges of them as the kernel writes CPUs: `0-3,8`; kept as the shortest such text. */
  | { kind: 'ranges'; max: number; what: string }
  | { kind: 'choice'; choices: readonly string[] }
  | { kind: 'text'; maxLength: number; pattern?: RegExp; patternHelp?: string }
  /** A list of texts, or one text that is split into words as a shell does, without expansions. `form` and its name for people check each. */
  | { kind: 'words'; maxItems: number; maxLength: number; form?: RegExp; formHelp?: string }
  /** Given as a list, or as text with commas or spaces (items of `interface`: with spaces). */
  | { kind: 'list'; item: ListItem; maxItems: number };

/**
 * `address`: one that a VE can have, with the length of its subnet or without; `resolver`: one that it can ask; `gateway`: one that can be
 * its router; `prefix`: a whole range of addresses; `interface`: see interfaces.ts; `publish`: see ports.ts; `rule`: see rules.ts;
 * `mount`: see disk-mounts.ts.
 */
export type ListItem = 'address' | 'resolver' | 'domain' | 'gateway' | 'prefix' | 'interface' | 'publish' | 'rule' | 'mount';

/** A soft and a hard limit of a disk quota; null: none. */
export interface Quota {
  soft: number | null;
  hard: number | null;
}

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
  /** Null: the name of the VE. */
  'hostname': string | null;
  'cpu.weight': number;
  /** Percent of one CPU; null, here and below: unlimited. */
  'cpu.limit': number | null;
  /** Percent of one CPU in a period of 100 ms. */
  'cpu.burst': number;
  /** Null, here and in the two below: all that VEs may use. */
  'cpu.count': number | null;
  /** As the kernel writes CPUs: `0-3,8`. */
  'cpu.mask': string | null;
  'cpu.nodes': string | null;
  /** What its programs are told that the processor can do: all (`host`), a level, or what all nodes have (`nodes`). */
  'cpu.baseline': 'host' | 'x86-64-v1' | 'x86-64-v2' | 'x86-64-v3' | 'x86-64-v4' | 'nodes';
  /** Bytes. */
  'memory.limit': number | null;
  /** Bytes, on top of memory.limit. */
  'memory.swap': number | null;
  /** Bytes. */
  'memory.guarantee': number;
  /** Bytes; null: all that it uses. */
  'memory.oom_guarantee': number | null;
  'pids.limit': number | null;
  /** 0 to 7. */
  'io.priority': number;
  /** Bytes a second. */
  'io.limit': number | null;
  /** Operations a second. */
  'io.iops': number | null;
  /** Of its pool; fixed when the VE is made. */
  'disk.pool': string;
  /** Bytes. */
  'disk.space': Quota | null;
  /** Files, folders and all else that has an inode. */
  'disk.inodes': Quota | null;
  /** Seconds. */
  'disk.grace': number;
  /** Users and groups with limits of their own; 0: none can have any. */
  'disk.users': number;
  /** Seconds. */
  'disk.users_grace': number;
  /** Items of disk-mounts.ts. */
  'disk.mounts': string[];
  /** Empty: it is not backed up by itself. */
  'backup.repository': string;
  /** When, see backup-properties.ts; and which backups stay. */
  'backup.schedule': string;
  'backup.keep': string;
  'ubc.numtcpsock': Pair | null;
  'ubc.numothersock': Pair | null;
  'ubc.numpty': Pair | null;
  'ubc.numfile': Pair | null;
  'ubc.numflock': Pair | null;
  'network.mode': 'routed' | 'bridge' | 'none';
  /** Empty: none. */
  'network.bridge': string;
  /** Null: one of each pool, given at create and kept; on a bridge: what the VE gets by DHCP and router advertisements. */
  'network.addresses': string[] | null;
  'network.prefixes': string[];
  'network.gateway': string[];
  /** Null: chosen when the VE is made. */
  'network.mac': string | null;
  'network.guard': Guard;
  'network.interfaces': string[];
  /** Null: the instance's own, or else those of the host. */
  'network.dns': string[] | null;
  'network.search': string[];
  /** Null: 1500, on a bridge the bridge's. */
  'network.mtu': number | null;
  /** Bits a second, to the VE and from it. */
  'network.rate.in': number | null;
  'network.rate.out': number | null;
  'network.connections': number | null;
  'network.publish': string[];
  'network.allow': string[];
  'network.deny': string[];
  'features.nesting': boolean;
  'features.io_uring': boolean;
  'features.sockets32': boolean;
  'features.beancounters': boolean;
  /** Null: the template's own init. */
  'boot.command': string[] | null;
  /** User name or uid in the VE. */
  'boot.user': string;
  /** `NAME=VALUE` each. */
  'boot.env': string[];
  'boot.cwd': string;
  'boot.start': boolean;
  /** Higher starts earlier. */
  'boot.order': number;
  /** Seconds. */
  'boot.timeout': number;
  'restart.policy': 'never' | 'on-failure' | 'always';
  'shutdown.action': 'stop' | 'suspend';
  /** Seconds. */
  'stop.timeout': number;
}
