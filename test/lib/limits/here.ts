/** This host as one on which limits are filled. */
import { existsSync, readFileSync } from 'node:fs';
import { release } from 'node:os';
import { findHierarchies } from '../../../src/kernel/cgroup.ts';
import { run } from '../../../src/lib/run.ts';
import type { Instance } from '../instance.ts';
import { cgroupsOf } from '../leftovers.ts';
import type { LimitGround } from './ground.ts';

/** @param ve the VE whose limits are filled @param neighbour the one beside it; both run */
export function groundHere(veld: Instance, ve: string, neighbour: string): LimitGround {
  return {
    groups: findHierarchies().v1.memory === undefined ? 'v2' : 'hybrid',
    kernel: release(),
    ve,
    neighbour,
    slow: 1,
    node: `${process.execPath} ${import.meta.dirname}`,
    folder: veld.dir,
    exec: veld.exec,
    set: async (of, changes) => void await veld.api.operate('PATCH', `/v1/ves/${of}/properties`, { changes }),
    show: veld.show,
    beancounters: (of) => veld.api.call('GET', `/v1/ves/${of}/beancounters`),
    async control(of, ...files) {
      const { number } = await veld.show(of);
      const found = cgroupsOf(veld.name).filter((group) => group.endsWith(`/${number}`)).flatMap((group) => files.map((file) => `${group}/${file}`)).find((file) => existsSync(file));
      return readFileSync(found!, 'utf8').trim();
    },
    onHost: async (line) => (await run('/bin/sh', ['-ec', line])).stdout.trim(),
  };
}
