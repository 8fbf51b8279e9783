/** Incus, as bench/peers has started it: btrfs pool, the template's tree as image. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outputOf } from '../lib/commands.ts';
import { jsonClient } from '../lib/http.ts';
import { pidsOf } from '../lib/processes.ts';
import { plugIn } from '../lib/plug.ts';
import type { Contestant } from './types.ts';

const IMAGE = 'bench';

interface Answer<T> { metadata: T }
interface Operation { id: string; status: string; err: string; metadata: { return?: number } | null }

/** @param dir of bench/peers @param bridge link into which its containers are plugged @param rootfs tree that they shall have */
export function openIncus(dir: string, bridge: string, rootfs: string): Contestant {
  const group = (ve: string): Promise<string> => Promise.resolve(`/lxc.payload.${ve}`);
  const env = { INCUS_DIR: join(dir, 'incus') };
  importImage(dir, rootfs, env);
  const client = jsonClient(join(dir, 'incus/unix.socket'));
  /** Incus answers a change with an operation, which is waited for by a second request. */
  const operate = async (method: string, path: string, body: unknown): Promise<Operation> => {
    const { metadata } = await client.call<Answer<Operation>>(method, path, body);
    const ended = (await client.call<Answer<Operation>>('GET', `/1.0/operations/${metadata.id}/wait`)).metadata;
    if (ended.status !== 'Success') throw new Error(`${method} ${path}: ${ended.status} ${ended.err}`);
    return ended;
  };
  return {
    name: 'incus',
    title: `incus ${outputOf('incus', ['version'], env).match(/Server version: (\S+)/)?.[1] ?? ''}, btrfs pool`,
    env,
    commands: {
      deploy: (ve) => [['incus', 'launch', IMAGE, ve]],
      start: (ve) => [['incus', 'start', ve]],
      stop: (ve) => [['incus', 'stop', ve]],
      kill: (ve) => [['incus', 'stop', '--force', ve]],
      execTrue: (ve) => [['incus', 'exec', ve, '--', 'true']],
      list: () => [['incus', 'list']],
      limitMemory: (ve) => [['incus', 'config', 'set', ve, 'limits.memory=512MiB']],
      destroy: (ve) => [['incus', 'delete', ve]],
    },
    requests: {
      deploy: async (ve) => void await operate('POST', '/1.0/instances', { name: ve, source: { type: 'image', alias: IMAGE }, start: true }),
      execTrue: async (ve) => {
        const ended = await operate('POST', `/1.0/instances/${ve}/exec`, { command: ['true'], 'wait-for-websocket': false, interactive: false });
        if (ended.metadata?.return !== 0) throw new Error(`true ended with ${ended.metadata?.return}`);
      },
      limitMemory: (ve) => client.call('PATCH', `/1.0/instances/${ve}`, { config: { 'limits.memory': '384MiB' } }).then(() => undefined),
      states: () => client.bytes('GET', '/1.0/instances?recursion=2'),
      state: async (ve) => void await client.bytes('GET', `/1.0/instances/${ve}/state`),
    },
    async limit(ve, { weight, cpu, memory, processes }) {
      // A percentage is a weight (at most 100), a time is a limit; there is one key for both.
      const config = {
        'limits.cpu.allowance': weight !== undefined ? `${weight / 10}%` : cpu && `${cpu}ms/100ms`,
        'limits.memory': memory && `${memory}MiB`, 'limits.memory.swap': memory && 'false', 'limits.processes': processes && String(processes),
      };
      await client.call('PATCH', `/1.0/instances/${ve}`, { config: Object.fromEntries(Object.entries(config).filter(([, value]) => value !== undefined)) });
    },
    plug: async (ve) => plugIn(bridge, await group(ve)),
    daemon: () => Number(readFileSync(join(dir, 'incusd.pid'), 'utf8')),
    group,
    monitors: (ves) => ves.flatMap((ve) => pidsOf(`/lxc.monitor.${ve}`)),
    close: () => Promise.resolve(client.close()),
  };
}

/** The tree as an image, once: its fingerprint is the tar's. */
function importImage(dir: string, rootfs: string, env: Record<string, string>): void {
  const names = JSON.parse(outputOf('incus', ['image', 'list', '--format', 'json'], env)) as { properties: Record<string, string>; aliases: { name: string }[] }[];
  const ours = names.find(({ aliases }) => aliases.some(({ name }) => name === IMAGE));
  if (ours?.properties.description === rootfs.split('/').at(-2)) return;
  if (ours) outputOf('incus', ['image', 'delete', IMAGE], env);
  const [metadata, archive] = [join(dir, 'metadata.yaml'), join(dir, 'image.tar')];
  writeFileSync(metadata, `architecture: ${process.arch === 'arm64' ? 'aarch64' : 'x86_64'}\ncreation_date: 1700000000\nproperties:\n  description: ${rootfs.split('/').at(-2)}\n`);
  outputOf('tar', ['--numeric-owner', '--xattrs', '--xattrs-include=security.capability', '-cf', archive, '-C', dir, 'metadata.yaml', '--transform', 's,^\\.,rootfs,', '-C', rootfs, '.']);
  outputOf('incus', ['image', 'import', archive, '--alias', IMAGE], env);
  for (const file of [metadata, archive]) rmSync(file);
}
