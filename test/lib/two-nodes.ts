/** Two nodes on this host that know nothing of each other but by a relay (relay.ts), each with a disk of its own that can be filled. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../src/cluster/testing.ts';
import { mountXfs, whyNoXfs } from './disk-image.ts';
import { makeInstance, type Instance } from './instance.ts';
import { cgroupsOf } from './leftovers.ts';
import { pair } from './nodes.ts';
import { makeRelay, type Relay } from './relay.ts';

export interface RelayedNode {
  name: string;
  veld: Instance;
  /** What leads to it. */
  relay: Relay;
  /** The next time that its daemon comes to a fault point it stops there; undefined: nowhere. */
  stopAt(point?: string): void;
  /** Leave nothing of its disk, and give it back. */
  fillDisk(): Promise<void>;
  freeDisk(): void;
  /** Let all that is in its groups have next to no memory, and give it back. */
  starve(): void;
  feed(): void;
}

export interface TwoNodes {
  a: RelayedNode;
  b: RelayedNode;
  /** Whether disks can be filled: each node has a file system of its own. */
  ownDisks: boolean;
  destroy(): Promise<void>;
}

/** Where installations on a host tell of each other: those of two machines do not. */
const INSTANCES = '/run/veld-instances';
const HOLD = `mkdir -p ${INSTANCES} && mount -t tmpfs none ${INSTANCES} && mount --make-rshared / && echo ready && exec cat`;

/** What a group may have, in bytes: not enough for any process. */
const HUNGER = 2 << 20;

export async function makeTwoNodes(): Promise<TwoNodes> {
  const ends: (() => unknown)[] = [];
  const destroy = async (): Promise<void> => {
    for (const end of ends.splice(0).toReversed()) await end();
  };
  const ownDisks = whyNoXfs() === undefined;
  const node = async (name: string): Promise<RelayedNode> => {
    const holder = spawn('unshare', ['-m', '--propagation', 'slave', 'sh', '-ec', HOLD], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = once(holder, 'exit');
    ends.push(async () => {
      holder.kill('SIGKILL');
      await ended;
    });
    await Promise.race([once(holder.stdout, 'data'), ended.then(() => { throw new Error('no mount namespace could be made'); })]);
    const port = await freePort();
    const relay = await makeRelay(port);
    ends.push(() => relay.close());
    const veld = makeInstance({
      prefix: ['nsenter', '-t', String(holder.pid), '-m', '--'],
      settings: (settings) => {
        settings.nodes = { listen: `127.0.0.1:${port}`, name, address: `127.0.0.1:${relay.port}` };
        settings.network.uplinks = ['lo'];
        settings.network.veToHost = true; // the datagrams
      },
      ...ownDisks && { mountState: (stateDir) => {
        mountXfs(`${stateDir}.img`, stateDir);
        // Where the host's mounts are nobody else's.
        spawnSync('nsenter', ['-t', String(holder.pid), '-m', 'sh', '-c', 'mountpoint -q "$1" || mount "$2" "$1"', 'sh', stateDir, spawnSync('findmnt', ['-no', 'SOURCE', stateDir], { encoding: 'utf8' }).stdout.trim()]);
      } },
    });
    ends.push(() => veld.destroy());
    const file = join(veld.dir, 'fault');
    const filler = join(veld.settings.stateDir, 'filler');
    /** Its topmost groups with a limit of memory, and what that was. */
    const limits = new Map<string, string>();
    return {
      name, veld, relay,
      stopAt(point) {
        if (point === undefined) rmSync(file, { force: true });
        else writeFileSync(file, `stop:${point}`);
      },
      async fillDisk() {
        mkdirSync(filler);
        for (let [size, n] = [2 ** 31, 0]; size >= 4096; n++) {
          const { bavail, bsize } = statfsSync(veld.settings.stateDir);
          if (bavail * bsize >= size && (await once(spawn('fallocate', ['-l', String(size), join(filler, String(n))], { stdio: 'ignore' }), 'exit'))[0] === 0) continue;
          size /= 2;
        }
      },
      freeDisk: () => rmSync(filler, { recursive: true, force: true }),
      starve() {
        const found = cgroupsOf(veld.name).flatMap((group) => ['memory.max', 'memory.limit_in_bytes'].map((limit) => `${group}/${limit}`)).filter((limit) => existsSync(limit));
        for (const limit of found.filter((each) => !found.some((other) => other !== each && each.startsWith(other.slice(0, other.lastIndexOf('/') + 1))))) {
          limits.set(limit, readFileSync(limit, 'utf8').trim());
          for (let bytes = HUNGER; bytes < 2 ** 30; bytes *= 2) {
            try {
              writeFileSync(limit, String(bytes));
              break;
            } catch { /* cgroup v1 takes nothing from those who have it */ }
          }
        }
      },
      feed() {
        for (const [limit, was] of limits) if (existsSync(limit)) writeFileSync(limit, was);
        limits.clear();
      },
    };
  };
  try {
    mkdirSync(INSTANCES, { recursive: true, mode: 0o700 });
    const [a, b] = [await node('alpha'), await node('beta')];
    await Promise.all([a, b].map(startNode));
    await pair(a.veld, b.veld, 'beta');
    return { a, b, ownDisks, destroy };
  } catch (error) {
    await destroy();
    throw error;
  }
}

/** Start its daemon, which looks for faults in a file: see `stopAt`. */
export async function startNode({ veld }: RelayedNode): Promise<void> {
  await veld.start({ VELD_FAULT: `@${join(veld.dir, 'fault')}` });
}
