/** Debian 12: kernel 6.1, systemd 252. */
import { testHost } from './host-suite.ts';

await testHost({ suite: 'bookworm', template: 'debian-12', subgroups: false });
