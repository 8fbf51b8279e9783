import assert from 'node:assert/strict';
import { test } from 'node:test';
import { criuErrors } from './criu.ts';

test('errors of a log, with times and without', () => {
  assert.deepEqual(criuErrors(`(00.000913) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted
(00.583400)    665: Error (criu/sk-unix.c:1713): unix: BUG at criu/sk-unix.c:1713
(00.584635) pie: 666: rseq: nothing
tar: ./systemd/notify: socket ignored
Error (criu/tty.c:2286): tty: ctty inheritance detected
   665: Error (criu/cr-dump.c:1975): Dumping FAILED.
`), ['unix: BUG at criu/sk-unix.c:1713', 'tty: ctty inheritance detected', 'Dumping FAILED.']);
});
