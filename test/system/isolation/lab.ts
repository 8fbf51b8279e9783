/** The place of the attacks: one instance, three VEs, and things on the host that the test made to be attacked. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import type { Server } from 'node:net';
import { join } from 'node:path';
import { after } from 'node:test';
import { fileInstance } from '../../lib/instance.ts';
import type { Instance } from '../../lib/instance.ts';
import type { VeDetail } from '../../../src/ve/types.ts';
import { until } from '../../lib/wait.ts';
import { hostCommand } from './attack.ts';

export interface Lab {
  veld: Instance;
  /** Limited to 128 MiB and 200 processes. */
  attacker: VeDetail;
  neighbour: VeDetail;
  /** With nesting and io_uring, without limits. */
  loose: VeDetail;
  /** Take the seccomp filter of the loose VE away and boot it again. Idempotent. */
  strip(): Promise<void>;
  /** Folder of the host, 0755, on a path that anybody may walk: only namespaces keep it from a VE. */
  dir: string;
  /** A file in it that anybody may read. */
  secret: string;
  /** A word that occurs only in what the test made on the host. */
  marker: string;
  /** A process of the host; the marker is its name. */
  victim: ChildProcess & { pid: number };
  /** Answers with the marker on every address of the host. */
  service: { port: number; server: Server };
  /** The attacker's link on the host. */
  link: string;
  nftTable: string;
}

/** The block device that is planted in the template. */
const PLANTED = 'opt/planted';

/** Build the lab; it goes away after the tests of the file that calls this at its top. */
export async function buildLab(): Promise<Lab> {
  const marker = `veldmark${Math.random().toString(36).slice(2, 10)}`;
  const veld = await fileInstance({ env: { VELD_ISOLATION_SECRET: marker } });
  const dir = join(veld.dir, 'prey');
  mkdirSync(dir, { mode: 0o755 });
  const secret = join(dir, 'secret');
  writeFileSync(secret, marker, { mode: 0o644 });
  await plant(veld);

  const victim = spawn('/bin/sleep', ['600'], { argv0: marker, stdio: 'ignore' }) as Lab['victim'];
  after(() => { victim.kill('SIGKILL'); });
  const server = createServer((socket) => socket.on('error', () => {}).end(marker));
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  after(() => { server.close(); });
  const { port } = server.address() as { port: number };

  await veld.createRunning('attacker', { 'memory.limit': '128M', 'pids.limit': 200 });
  await veld.createRunning('neighbour');
  await veld.createRunning('loose', { 'features.nesting': true, 'features.io_uring': true });
  await Promise.all(['attacker', 'neighbour', 'loose'].map((ve) => veld.booted(ve)));
  const [attacker, neighbour, loose] = await Promise.all(['attacker', 'neighbour', 'loose'].map((ve) => veld.show(ve))) as [VeDetail, VeDetail, VeDetail];

  let stripped: Promise<void> | undefined;
  return {
    veld, attacker, neighbour, loose, dir, secret, marker, victim, service: { port, server },
    link: attacker.link, nftTable: `veld_${veld.name}`,
    strip: () => (stripped ??= strip(veld, loose)),
  };
}

/** A disk's device node in the template's tree, as a malicious template would bring it. The tree is this instance's own copy. */
async function plant(veld: Instance): Promise<void> {
  const layers = join(veld.settings.stateDir, 'layers');
  for (const id of readdirSync(layers)) {
    const node = join(layers, id, 'fs', PLANTED);
    await hostCommand(['mknod', '-m', '666', node, 'b', '7', '0']);
  }
}

/** Reboot the VE by the configuration that lies in its run folder, without seccomp and without masks: the way a `reboot` inside takes. */
async function strip(veld: Instance, ve: VeDetail): Promise<void> {
  const file = join(veld.settings.runDir, 'ves', String(ve.number), 'config.template');
  const config = JSON.parse(readFileSync(file, 'utf8')) as { linux: { seccomp?: object; maskedPaths?: string[]; readonlyPaths?: string[] } };
  delete config.linux.seccomp;
  delete config.linux.maskedPaths;
  delete config.linux.readonlyPaths;
  writeFileSync(file, JSON.stringify(config));
  chmodSync(file, 0o600);
  const before = ve.pid;
  await veld.exec('loose', 'systemctl', 'reboot').catch(() => {}); // its end may come before its answer
  await until('the loose VE to boot again', async () => {
    const { pid, status } = await veld.show('loose');
    return status === 'running' && pid !== null && pid !== before;
  }, 30_000);
  await veld.booted('loose');
}

/** Inode number of a namespace of the host. */
export function hostNamespace(kind: 'net' | 'mnt' | 'pid' | 'user'): number {
  return statSync(`/proc/self/ns/${kind}`).ino;
}

/** Path of the planted device inside every VE. */
export const PLANTED_PATH = `/${PLANTED}`;
