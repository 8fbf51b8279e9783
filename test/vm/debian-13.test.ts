/** Debian 13: kernel 6.12, systemd 257. */
import { testHost } from './host-suite.ts';

await testHost({ suite: 'trixie', template: 'debian-13', subgroups: true });
