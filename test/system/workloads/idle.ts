/** A VE in which nothing runs but what a template has. */
import assert from 'node:assert/strict';
import type { Workload } from './types.ts';

/** @param suite name of the template's suite */
export function idle(suite: string): Workload {
  return {
    name: `idle ${suite}`, suite, packages: [], reboot: true,
    ...(suite === 'debian-12' ? {} : { rounds: 5 }),
    async check({ sh }) {
      assert.equal(await sh('systemctl --failed --no-legend --plain; systemctl is-system-running'), 'running\n');
    },
  };
}
