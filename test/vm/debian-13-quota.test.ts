/** Disk quotas on Debian 13: kernel 6.12. */
import { test } from 'node:test';
import { bootHost, quickstart } from './host.ts';
import { quotaTests } from './quota-suite.ts';

const host = await bootHost({ suite: 'trixie' });
test('quickstart ends with a running VE', async () => void await quickstart(host));
quotaTests(host);
