/** Limits on Debian 12: kernel 6.1, cgroup v2, two NUMA nodes. */
import { test } from 'node:test';
import { bootHost, quickstart } from './host.ts';
import { fillTests } from './limits-suite.ts';

const host = await bootHost({ suite: 'bookworm', nodes: true, diskRate: 48 << 20 });
test('quickstart ends with a running VE', async () => void await quickstart(host));
fillTests(host);
