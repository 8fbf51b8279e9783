/** Installations that run on this host at the same time: each owns its name, folders, pools and uids alone. */
import { existsSync, mkdirSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { BlockList } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { VeldError } from './errors.ts';
import { writeFileAtomic } from './files.ts';
import { takeLock } from './lock.ts';

/** Where running installations tell of themselves; the same for all of them. */
const FOLDER = '/run/veld-instances';

/** What an installation claims for itself. */
export interface Claim {
  instance: string;
  stateDir: string;
  runDir: string;
  /** CIDR. */
  pools: readonly string[];
  /** First uid and number of uids of the block, when it is known. */
  uids?: { base: number; count: number };
}

type Entry = Claim & { pid: number; network: string };

/**
 * Claim an installation's name for this process, after comparing with all others that run.
 * @param claim what this one has; pools are compared within one network namespace
 * @param folder replaced in tests
 * @returns how to withdraw the claim
 * @throws VeldError `daemon.running`, `daemon.instance_overlap`
 */
export async function claimInstance(claim: Claim, folder = FOLDER): Promise<() => void> {
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const entry: Entry = { ...claim, pid: process.pid, network: readlinkSync('/proc/self/ns/net') };
  const file = join(folder, claim.instance);
  let lock = takeLock(`${file}.lock`);
  // Another installation that starts just now may be looking whether ours lives.
  for (let attempt = 0; lock === undefined && attempt < 10; attempt += 1) {
    await sleep(30);
    lock = takeLock(`${file}.lock`);
  }
  if (lock === undefined) throw new VeldError('daemon.running', `A daemon of the instance ${claim.instance} runs already.`);
  const withdraw = (): void => {
    rmSync(`${file}.json`, { force: true });
    lock.release(true);
  };
  try {
    // First told, then compared: of two that start together at least one sees the other.
    writeFileAtomic(`${file}.json`, JSON.stringify(entry));
    for (const other of otherInstances(claim.instance, folder)) {
      const what = overlap(entry, other);
      if (what) {
        throw new VeldError('daemon.instance_overlap', `The instance ${other.instance} runs on this host and has ${what} in common with ${claim.instance}.`,
          { details: { other: other.instance, pid: other.pid } });
      }
    }
  } catch (error) {
    withdraw();
    throw error;
  }
  return withdraw;
}

/** Claims of the other installations whose daemons live. */
export function otherInstances(instance: string, folder = FOLDER): Entry[] {
  if (!existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -5));
  return names.filter((name) => name !== instance).flatMap((name) => {
    const lock = takeLock(join(folder, `${name}.lock`));
    if (lock) {
      // Nobody lives there: what it left would only be looked at again.
      rmSync(join(folder, `${name}.json`), { force: true });
      lock.release(true);
      return [];
    }
    try {
      return [JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8')) as Entry];
    } catch {
      return []; // it has just withdrawn
    }
  });
}

function overlap(a: Entry, b: Entry): string | undefined {
  if (a.stateDir === b.stateDir) return `the folder ${a.stateDir}`;
  if (a.runDir === b.runDir) return `the folder ${a.runDir}`;
  if (a.uids && b.uids && a.uids.base < b.uids.base + b.uids.count && b.uids.base < a.uids.base + a.uids.count) return `uids from ${Math.max(a.uids.base, b.uids.base)}`;
  if (a.network !== b.network) return undefined;
  for (const pool of a.pools) for (const other of b.pools) if (poolsOverlap(pool, other)) return `the address pool ${other}`;
  return undefined;
}

/** Whether two CIDR pools have an address in common: then one holds the first address of the other. */
export function poolsOverlap(a: string, b: string): boolean {
  const holds = (pool: string, other: string): boolean => {
    const [network = '', bits] = pool.split('/');
    const [address = ''] = other.split('/');
    const family = network.includes(':') ? 'ipv6' : 'ipv4';
    if (address.includes(':') !== network.includes(':')) return false;
    const list = new BlockList();
    list.addSubnet(network, Number(bits), family);
    return list.check(address, family);
  };
  return holds(a, b) || holds(b, a);
}
