/** Interface of the network capability. */
import type { Logger } from '../lib/log.ts';
import type { VeRecord } from '../store/types.ts';

/** One pair of links. */
export interface LinkPlan {
  /** Inside the VE. */
  name: string;
  /** Host side, at most 15 characters. A pair left by a boot that just died may still hold the name: `ip link del` it and try again. */
  link: string;
  /** Of the VE's side. */
  mac: string;
  /** Of the host's side. */
  hostMac: string;
  mtu: number;
  /** Bridge of the host of which the host's side is a port, or null: routed. */
  bridge: string | null;
  /** On a bridge with the length of the subnet. */
  addresses: string[];
  /** Routed to the VE as a whole. */
  prefixes: string[];
  /** Who sets addresses and routes inside: the host, or the VE (`auto`: by DHCP and router advertisements). */
  setup: 'host' | 'auto' | 'own';
}

/** All that a VE's network is made of; computed once per start, and complete enough for a script to build it without the daemon. */
export interface NetworkPlan {
  /** eth0 first, where it is there. */
  links: LinkPlan[];
  /** `ip -batch` lines for the host's namespace that make the pairs, their ends on the host still down; `@PID@` stands for the pid of the VE's init. */
  linkBatch: string;
  /** And those that bring them up and lead to the VE. */
  hostBatch: string;
  /** Lines `PATH VALUE` below /proc/sys, to be written in the VE's namespace before its batch. */
  guestSysctls: string;
  /** `ip -batch` lines for the VE's namespace. */
  guestBatch: string;
  /** The same for `ip -6 -batch`: rules, whose family ip(8) does not see from their addresses. Mostly empty. */
  guestBatch6: string;
}

export interface Traffic {
  /** Bytes and packets as the VE sees them. */
  rxBytes: number;
  txBytes: number;
  rxPackets: number;
  txPackets: number;
}

/** Connections of a VE in the host's table. */
export interface ConnectionUse {
  /** Now; null: not told by this kernel, or there are too many of all VEs to be counted. */
  held: number | null;
  /** As its properties say; null: no limit. */
  most: number | null;
  /** Refused since the VE was started, or the limit was set. */
  refused: number;
}

/** What a VE has received and sent since it was made, by class. Classes that the settings do not name any more keep what they have counted. */
export type ClassTraffic = Record<string, Traffic>;

/** Traffic of VEs by class, see traffic.ts. */
export interface TrafficAccounting {
  /** `inside` first, `outside` last; the latter has all that is in no network. */
  classes: readonly { name: string; networks: string[] }[];
  /** Look at the counters, those of VEs at rest included. @throws VeldError `network.failed` */
  read(): Promise<(ve: VeRecord) => ClassTraffic>;
  /** What goes with a VE to another node, as it is now. Never rejects. */
  carried(ve: VeRecord): Promise<unknown>;
  /** A VE comes with this, before it is admitted. What is no such thing counts as nothing. */
  bring(ve: VeRecord, carried: unknown): void;
  /** A VE is gone. */
  forget(ve: VeRecord): Promise<void>;
  /** Remove what is there of VEs that are in no record. */
  prune(): Promise<void>;
  /** Keep the sums, every minute from now on. @returns ends it, and keeps them once more */
  follow(log: Pick<Logger, 'error'>): () => Promise<void>;
}

export interface NetworkManager {
  /**
   * Prepare the host: sysctls, gateway link, nft table, proxies. Idempotent, and traffic of running VEs goes on.
   * @param ves all that are to be admitted, in the same transaction as the table: every VE that lives on this node, running
   * or not (an admitted VE without its link harms nothing, and its start then waits for no firewall). Without it those
   * admitted before stay.
   * @throws VeldError `daemon.instance_overlap`, `network.failed`, `kernel.unsupported`
   */
  setup(ves?: readonly VeRecord[]): Promise<void>;
  /**
   * Set up again when the host's default routes change, and as long as no setup has succeeded (the host may only be getting its network).
   * @param report called after each attempt: why it failed, or the uplinks now @param interval milliseconds between looks
   * @returns ends it
   */
  follow(report: (failure: Error | undefined, uplinks: readonly string[]) => void, interval?: number): () => void;
  /** Remove everything of this instance from the host (used by `--remove` and tests). */
  teardown(): Promise<void>;
  /**
   * Check everything that the properties of a VE say of its network, by itself, against the host, and against other VEs.
   * @param ve as it shall be; what it has in `addresses` stays where it was left to the pools before and still is
   * @param others all other VEs of the node
   * @returns `addresses` for its record: those wanted, or the next free of each pool
   * @throws VeldError `property.invalid`, `address.taken`, `address.none_free`
   */
  assign(ve: VeRecord, others: readonly VeRecord[], before?: VeRecord): string[];
  /**
   * Whether the host has what the VE's links need: its bridges.
   * @throws VeldError `network.no_bridge`, `network.mtu`
   */
  ready(ve: VeRecord): void;
  plan(ve: VeRecord): NetworkPlan;
  /**
   * Put the VE's addresses into the firewall's sets and proxies. Idempotent; needs no link, so it may be done at create, once.
   * Tries the setup again where that has failed. @throws VeldError as `setup`
   */
  admit(ve: VeRecord): Promise<void>;
  /** The reverse, also when half of it is there. Removes the host's links too. */
  revoke(ve: VeRecord): Promise<void>;
  /**
   * Make the links of a running VE what its record says now. May be repeated, also after it was cut short. A link whose bridge, mode or
   * link-layer address changes is made anew.
   * @param pid its init
   */
  relink(before: VeRecord, after: VeRecord, pid: number): Promise<void>;
  /**
   * Refuse ports of the host that are taken: by another VE (running or not), or by a program of the host.
   * @param before the same VE until now
   * @throws VeldError `port.taken`
   */
  checkPublish(ve: Pick<VeRecord, 'name' | 'properties'>, others: readonly VeRecord[], before?: VeRecord): void;
  /** Make the published ports and rules of a running VE those of `after`, its addresses included. */
  guard(before: VeRecord, after: VeRecord): Promise<void>;
  /** Put back what somebody else took away: the table, routes, proxies, kernel settings. @returns what was missing, in words */
  mend(): Promise<string[]>;
  /**
   * Let what is sent to a running VE wait from the moment in which the lines that are returned have led it there, until `release`; with the end of this process it is
   * lost.
   * @returns `ip -batch` lines that lead packets for the VE there; empty where nothing is routed to it
   */
  hold(ve: VeRecord): Promise<string>;
  /** The VE is back, and the host's routes lead to it: what has waited goes there. Nothing need have waited. */
  release(ve: VeRecord): void;
  /** The VE has gone to another host: what has waited goes after it. */
  sendOn(ve: VeRecord): Promise<void>;
  /**
   * Ask at the links of a running VE, by ARP, for the IPv4 addresses that the host has given it: its kernel answers, whatever its firewall thinks of other packets.
   * @param patience milliseconds until an address counts as not answered for
   * @returns those that are answered for
   */
  answering(ve: VeRecord, patience: number): Promise<string[]>;
  /** Tell the neighbours, once, where the VE's addresses are from now on: on its bridges, and on the uplinks for those that are not masqueraded. */
  announce(ve: VeRecord): void;
  /** Of all its links together. */
  traffic(ve: VeRecord): Traffic | undefined;
  /** The same for many VEs, with one look at the kernel's counters when it is called. */
  trafficOfAll(): (ve: VeRecord) => Traffic | undefined;
  /** The same by class, and for good. */
  accounting: TrafficAccounting;
  /** Connections of these VEs in the host's table. @throws VeldError `network.failed` */
  connections(ves: readonly VeRecord[]): Promise<(ve: VeRecord) => ConnectionUse>;
  /** What a person should know: other firewalls that drop forwarded packets, missing uplinks. */
  warnings(): Promise<string[]>;
}

/** Files inside the VE that carry network identity; content is complete, path is absolute in the VE. */
export interface GuestFile {
  path: string;
  content: string;
  /** Only when this folder exists in the VE. */
  ifFolder?: string;
  /** Only when this path exists in the VE, as whatever it is. */
  ifExists?: string;
  /** Not when this path exists in the VE. */
  unlessExists?: string;
  /** Make the folder in which it lies. */
  makeFolder?: boolean;
}
