/** Processes and threads. Source: Documentation/admin-guide/cgroup-v1/pids.rst; v2 has the same file. */
import { placeOf, type Resource } from './control.ts';
import { planned } from './planned.ts';

export const pids: Resource = {
  names: ['pids.limit'],
  place: (groups) => placeOf({ controller: 'pids', v1: 'pids.max', v2: 'pids.max', lacks: 'the pids controller' }, groups),
  plan(plan) {
    const limit = plan.limits['pids.limit'];
    return planned(pids, plan, 'pids.limit', limit !== null, () => String(limit ?? 'max'));
  },
};
