/** Debian 13: kernel 6.12, systemd 257, cgroup v2. */
import { bootHost } from './host.ts';
import { everydayTests, removalTest } from './host-suite.ts';
import { crashTests, rebootTests } from './power-suite.ts';
import { upgradeTest } from './upgrade-suite.ts';

const host = await bootHost({ suite: 'trixie' });
everydayTests(host);
upgradeTest(host);
rebootTests(host);
crashTests(host, { kills: 0, cuts: 1 });
removalTest(host);
