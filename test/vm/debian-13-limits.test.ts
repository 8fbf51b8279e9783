/** Limits on Debian 13: kernel 6.12, cgroup v2. */
import { test } from 'node:test';
import { bootHost, quickstart } from './host.ts';
import { fillTests, swapTest } from './limits-suite.ts';

const host = await bootHost({ suite: 'trixie', diskRate: 48 << 20 });
test('quickstart ends with a running VE', async () => void await quickstart(host));
fillTests(host);
swapTest(host);
