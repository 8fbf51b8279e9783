/** Debian 12: kernel 6.1, systemd 252, cgroup v2. */
import { bootHost } from './host.ts';
import { everydayTests, removalTest } from './host-suite.ts';
import { memoryTests } from './memory-suite.ts';
import { crashTests, rebootTests } from './power-suite.ts';
import { upgradeTest } from './upgrade-suite.ts';

const host = await bootHost({ suite: 'bookworm' });
everydayTests(host);
upgradeTest(host);
rebootTests(host);
memoryTests(host);
// (The everyday run kills the daemon at such points on the machine itself: test/system/crash.test.ts.)
if (process.env.VELD_TEST_FULL !== undefined) crashTests(host, ['start', 'stop'], { kills: 1, cuts: 0 });
removalTest(host);
