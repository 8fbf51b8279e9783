/** LXC's own tools: overlay clones of one container that has the template's tree. */
import { spawnSync } from 'node:child_process';
import { chmodSync, chownSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { outputOf, runCommands } from '../lib/commands.ts';
import { plugIn } from '../lib/plug.ts';
import { pidsOf } from '../lib/processes.ts';
import type { Contestant } from './types.ts';

/** Within the range that Incus's package gives to root, and beside what Incus itself uses of it. */
const UID_BASE = 2_000_000;
const BASE = 'base';

/** @param dir of bench/peers @param bridge link to plug containers into @param rootfs tree that its containers shall have */
export function openLxc(dir: string, bridge: string, rootfs: string): Contestant {
  const path = join(dir, 'lxc');
  makeBase(path, bridge, rootfs);
  const group = (ve: string): Promise<string> => Promise.resolve(`/lxc.payload.${ve}`);
  const at = (name: string): string[] => ['-P', path, '-n', name];
  return {
    name: 'lxc',
    title: `lxc ${outputOf('lxc-start', ['--version']).trim()}, overlay clones`,
    env: {},
    commands: {
      deploy: (ve) => [['lxc-copy', ...at(BASE), '-N', ve, '-B', 'overlay', '-s'], ['lxc-start', ...at(ve)]],
      start: (ve) => [['lxc-start', ...at(ve)]],
      stop: (ve) => [['lxc-stop', ...at(ve)]],
      kill: (ve) => [['lxc-stop', ...at(ve), '-k']],
      execTrue: (ve) => [['lxc-attach', ...at(ve), '--clear-env', '--', 'true']],
      list: () => [['lxc-ls', '-P', path, '-f']],
      limitMemory: (ve) => [['lxc-cgroup', ...at(ve), ...(existsSync('/sys/fs/cgroup/memory') ? ['memory.limit_in_bytes'] : ['memory.max']), '512M']],
      destroy: (ve) => [['lxc-destroy', ...at(ve)]],
    },
    async limit(ve, { weight, cpu, memory, processes }) {
      const v1 = existsSync('/sys/fs/cgroup/memory');
      const bytes = memory && String(memory * 2 ** 20);
      const keys = {
        [v1 ? 'cpu.shares' : 'cpu.weight']: weight && String(v1 ? Math.round(weight * 10.24) : weight),
        [v1 ? 'cpu.cfs_quota_us' : 'cpu.max']: cpu && (v1 ? String(cpu * 1000) : `${cpu * 1000} 100000`),
        [v1 ? 'memory.limit_in_bytes' : 'memory.max']: bytes,
        [v1 ? 'memory.memsw.limit_in_bytes' : 'memory.swap.max']: v1 ? bytes : bytes && '0',
        'pids.max': processes && String(processes),
      };
      for (const [key, value] of Object.entries(keys)) if (value !== undefined) await runCommands([['lxc-cgroup', ...at(ve), key, String(value)]], {});
    },
    plug: async (ve) => plugIn(bridge, await group(ve)),
    group,
    monitors: (ves) => ves.flatMap((ve) => pidsOf(`/lxc.monitor.${ve}`)),
    close: () => Promise.resolve(),
  };
}

/** The container that all are cloned of; never started itself. Its files belong to its own range of uids, unpacked by its own root. */
function makeBase(path: string, bridge: string, rootfs: string): void {
  const folder = join(path, BASE);
  const done = join(folder, 'tree');
  if (existsSync(done) && readFileSync(done, 'utf8') === rootfs.split('/').at(-2)) return;
  rmSync(folder, { recursive: true, force: true });
  const root = join(folder, 'rootfs');
  mkdirSync(root, { recursive: true });
  chmodSync(folder, 0o755);
  chownSync(root, UID_BASE, UID_BASE);
  const map = ['-m', `u:0:${UID_BASE}:65536`, '-m', `g:0:${UID_BASE}:65536`];
  const archive = join(path, 'base.tar');
  outputOf('tar', ['--numeric-owner', '-cf', archive, '--exclude=./dev/*', '-C', rootfs, '.']);
  const { status, stderr } = spawnSync('lxc-usernsexec', [...map, '--', 'tar', '--numeric-owner', '-xpf', archive, '-C', root], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`the tree could not be unpacked for LXC: ${stderr.slice(-500)}`);
  rmSync(archive);
  writeFileSync(join(folder, 'config'), [
    'lxc.include = /usr/share/lxc/config/common.conf', 'lxc.include = /usr/share/lxc/config/userns.conf',
    `lxc.idmap = u 0 ${UID_BASE} 65536`, `lxc.idmap = g 0 ${UID_BASE} 65536`,
    `lxc.rootfs.path = dir:${root}`, `lxc.uts.name = ${BASE}`,
    'lxc.net.0.type = veth', `lxc.net.0.link = ${bridge}`, 'lxc.net.0.flags = up', 'lxc.apparmor.profile = unconfined', '',
  ].join('\n'));
  writeFileSync(done, rootfs.split('/').at(-2) as string);
}
