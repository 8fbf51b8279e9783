/** Interface of the network capability. */
import type { VeRecord } from '../store/types.ts';

/** All that a VE's network is made of; computed once per start, and complete enough for a script to build it without the daemon. */
export interface NetworkPlan {
  /** Host side of the veth pair, at most 15 characters. A pair left by a boot that just died may still hold the name: `ip link del` it and try again. */
  link: string;
  mac: string;
  mtu: number;
  addresses: string[];
  /** `ip -batch` lines for the host's namespace; `@PID@` stands for the pid of the VE's init. */
  hostBatch: string;
  /** `ip -batch` lines for the VE's namespace. */
  guestBatch: string;
}

export interface Traffic {
  /** Bytes and packets as the VE sees them. */
  rxBytes: number;
  txBytes: number;
  rxPackets: number;
  txPackets: number;
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
  /** Remove everything of this instance from the host (used by `--remove` and tests). */
  teardown(): Promise<void>;
  /** Choose addresses: those wanted (checked: syntax, taken, own use of the host) or the next free of each pool. */
  allocate(wanted: readonly string[] | undefined, taken: ReadonlySet<string>): string[];
  plan(ve: VeRecord): NetworkPlan;
  /** Put the VE's addresses into the firewall's sets and proxies. Idempotent; needs no link, so it may be done at create, once. */
  admit(ve: VeRecord): Promise<void>;
  /** The reverse, also when half of it is there. Removes the host link too. */
  revoke(ve: VeRecord): Promise<void>;
  /** Change addresses of a running VE. @param pid its init */
  readdress(before: VeRecord, after: VeRecord, pid: number): Promise<void>;
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
  traffic(ve: VeRecord): Traffic | undefined;
  /** What a person should know: other firewalls that drop forwarded packets, missing uplinks. */
  warnings(): Promise<string[]>;
}

/** Files inside the VE that carry network identity; content is complete, path is absolute in the VE. */
export interface GuestFile {
  path: string;
  content: string;
  /** Only when this folder exists in the VE. */
  ifFolder?: string;
}
