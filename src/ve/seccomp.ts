/**
 * The system calls that a VE may not make.
 *
 * Everything else is allowed: a VE runs a whole distribution. What is refused is (1) what reaches past the VE's namespaces or has
 * no business in a VE (modules, kexec, bpf, perf, the kernel log, handles to files by number), (2) what makes a VE impossible to
 * dump: nested uts, ipc, user, cgroup and time namespaces (systemd logs that it ignores the setting and carries on), io_uring.
 * The profile holds for x86_64, i386 and x32 alike; libseccomp translates the names.
 *
 * Format: OCI runtime specification, config-linux, "seccomp".
 */
import type { Properties } from '../spec/types.ts';

const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** Flags of clone(2) and unshare(2) for namespaces that CRIU cannot dump when nested. */
const NESTED_NAMESPACES: Record<string, number> = {
  newtime: 0x00000080,
  newcgroup: 0x02000000,
  newuts: 0x04000000,
  newipc: 0x08000000,
  newuser: 0x10000000,
};

/** Refused with EPERM, whatever the VE's features. */
const FORBIDDEN = [
  'acct', 'bpf', 'clock_adjtime64', 'clock_settime', 'clock_settime64', 'create_module', 'delete_module', 'finit_module', 'get_kernel_syms',
  'init_module', 'ioperm', 'iopl', 'kexec_file_load', 'kexec_load', 'lookup_dcookie', 'nfsservctl', 'open_by_handle_at', 'perf_event_open',
  'query_module', 'settimeofday', 'stime', 'swapoff', 'swapon', 'syslog', 'uselib', 'userfaultfd', 'vm86', 'vm86old',
];

const IO_URING = ['io_uring_setup', 'io_uring_enter', 'io_uring_register'];

/**
 * Address families without a namespace: the hypervisor's channel (AF_VSOCK) and the kernel's own cipher code (AF_ALG).
 * i386 programs may make sockets through socketcall(2), whose family is behind a pointer: libseccomp then refuses every socket made that way. So
 * `features.sockets32` takes these rules away.
 */
const UNCONFINED_FAMILIES = [38, 40];

interface Rule {
  names: string[];
  action: 'SCMP_ACT_ERRNO';
  errnoRet: number;
  args?: { index: number; value: number; valueTwo?: number; op: 'SCMP_CMP_MASKED_EQ' | 'SCMP_CMP_EQ' }[];
}

/** The profile for a VE with these features. */
export function seccompProfile(features: Pick<Properties, 'features.nesting' | 'features.io_uring' | 'features.sockets32'>): object {
  const rules: Rule[] = [{ names: FORBIDDEN, action: 'SCMP_ACT_ERRNO', errnoRet: EPERM }];
  // Keyrings have no namespace: a command from outside would bring along the keys of the host's session. Programs carry on without.
  rules.push({ names: ['add_key', 'keyctl', 'request_key'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });
  if (!features['features.io_uring']) rules.push({ names: IO_URING, action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });
  if (!features['features.nesting']) {
    for (const [name, flag] of Object.entries(NESTED_NAMESPACES)) {
      // clone(2) has no room for CLONE_NEWTIME: that bit belongs to its exit signal.
      for (const call of name === 'newtime' ? ['unshare'] : ['unshare', 'clone']) {
        rules.push({
          names: [call], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM,
          args: [{ index: 0, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' }],
        });
      }
    }
    // clone3 passes its flags by pointer, out of a filter's sight; C libraries fall back to clone on ENOSYS.
    rules.push({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });
  }
  for (const family of features['features.sockets32'] ? [] : UNCONFINED_FAMILIES) {
    rules.push({ names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: EAFNOSUPPORT, args: [{ index: 0, value: family, op: 'SCMP_CMP_EQ' }] });
  }
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures: process.arch === 'arm64' ? ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'] : ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
    syscalls: rules,
  };
}
