/** All rows of the matrix. */
import { connections } from './connections.ts';
import { cronAndTimers } from './timers.ts';
import { idle } from './idle.ts';
import { inotify } from './inotify.ts';
import { locks } from './locks.ts';
import { mariadb, mariadbWithIoUring } from './mariadb.ts';
import { memory } from './memory.ts';
import { nftables } from './nftables.ts';
import { nginx } from './nginx.ts';
import { postfix } from './postfix.ts';
import { postgresql } from './postgresql.ts';
import { processes } from './processes.ts';
import { redis } from './redis.ts';
import { rsyslog } from './rsyslog.ts';
import { sshd } from './sshd.ts';
import { tmux, tmuxWithDash } from './tmux.ts';
import { tomcat } from './tomcat.ts';
import type { Workload } from './types.ts';
import { websockets } from './websockets.ts';

export const WORKLOADS: readonly Workload[] = [
  idle('debian-12'), idle('debian-13'), idle('debian-testing'),
  nginx('debian-12'), nginx('debian-13'), nginx('sid'),
  redis(), postgresql(), mariadb(), mariadbWithIoUring(),
  sshd('debian-12'), sshd('debian-13'), websockets(), tomcat(), postfix(), rsyslog(), cronAndTimers(), tmux(), tmuxWithDash(),
  processes(), memory(), connections(), inotify(), locks(), nftables(false), nftables(true),
];

/** Those that an ordinary `./check` does, with few rounds. */
export const CHEAP: readonly string[] = ['nginx debian-12'];
