import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseSockets } from './queues.ts';

test('what ss(8) says of sockets', () => {
  const sockets = parseSockets(`u_str ESTAB  0      768                                         * 33788474 * 0        <->
u_str LISTEN 2      5                      /tmp/a socket 7/x 33788473 * 0        <-> ino:2148950 dev:0/65024 peers: 33788474 33788475
u_dgr ESTAB  4      0                     /run/systemd/notify 33788477 * 33788476 -->
u_seq LISTEN 0      4096                     /run/udev/control 25016 * 0          <-> ino:57 dev:0/26 peers:
tcp   LISTEN 1      128    0.0.0.0:22   0.0.0.0:*    ino:1 sk:2 cgroup:/x <->
tcp   ESTAB  0      36     [::1]:5432   [::1]:40000  timer:(on,200ms,0) ino:9
p_raw UNCONN 0      0                  ipv6:eth0  *
`);
  assert.deepEqual(sockets, [
    { kind: 'unix', listening: false, received: 0, sent: 768, inode: 33788474, waiting: [] },
    { kind: 'unix', listening: true, received: 2, sent: 5, inode: 33788473, waiting: [33788474, 33788475] },
    { kind: 'unix', listening: false, received: 4, sent: 0, inode: 33788477, waiting: [] },
    { kind: 'unix', listening: true, received: 0, sent: 4096, inode: 25016, waiting: [] },
    { kind: 'tcp', listening: true, received: 1, sent: 128, inode: 0, waiting: [] },
    { kind: 'tcp', listening: false, received: 0, sent: 36, inode: 0, waiting: [] },
  ]);
});
