import { bootHost, quickstart } from './host.ts';
import { test } from 'node:test';
import { rebootTests } from './power-suite.ts';
const host = await bootHost({ suite: 'bookworm' });
test('quickstart', async () => { await quickstart(host); });
rebootTests(host);
