import assert from 'node:assert/strict';
import { test } from 'node:test';
import { seccompProfile } from './seccomp.ts';

interface Rule { names: string[]; errnoRet: number; args?: { value: number }[] }
const rules = (nesting: boolean, ioUring: boolean): Rule[] =>
  (seccompProfile({ 'features.nesting': nesting, 'features.io_uring': ioUring, 'features.sockets32': false }) as { syscalls: Rule[] }).syscalls;
const flags = (call: string, list: Rule[]): number => list.filter((r) => r.names.includes(call)).reduce((sum, r) => sum | (r.args?.[0]?.value ?? 0), 0) >>> 0;

test('nested uts, ipc, user, cgroup and time namespaces are refused, others are not', () => {
  assert.equal(flags('unshare', rules(false, false)), 0x1e000080);
  assert.equal(flags('clone', rules(false, false)), 0x1e000000);
  assert.equal(rules(false, false).find((r) => r.names.includes('clone3'))?.errnoRet, 38);
  assert.equal(flags('unshare', rules(true, false)), 0);
  assert.ok(!rules(true, false).some((r) => r.names.includes('clone3')));
});

test('io_uring is absent unless asked for', () => {
  assert.equal(rules(false, false).find((r) => r.names.includes('io_uring_setup'))?.errnoRet, 38);
  assert.ok(!rules(false, true).some((r) => r.names.includes('io_uring_setup')));
});

test('what reaches past namespaces is refused whatever the features', () => {
  const names = new Set(rules(true, true).flatMap((r) => r.names));
  for (const call of ['bpf', 'kexec_load', 'open_by_handle_at', 'userfaultfd', 'perf_event_open', 'finit_module', 'syslog', 'clock_settime']) assert.ok(names.has(call), call);
});

test('families without a namespace are refused, unless 32-bit programs shall have sockets', () => {
  const families = (sockets32: boolean): (number | undefined)[] => (seccompProfile({ 'features.nesting': false, 'features.io_uring': false, 'features.sockets32': sockets32 }) as { syscalls: Rule[] })
    .syscalls.filter((r) => r.names.includes('socket')).map((r) => r.args?.[0]?.value);
  assert.deepEqual(families(false), [38, 40]);
  assert.deepEqual(families(true), []);
});
