/** Attacks by system calls: on the kernel as a whole, or on what makes a VE impossible to checkpoint. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Attack, Off } from './attack.ts';
import { scripted } from './attack.ts';
import type { Lab } from './lab.ts';
import { int80, RUN_PROGRAM, x32 } from './perl.ts';

const SECCOMP = 'seccomp';
const BOTH = 'seccomp, and the host\'s capability';

interface Call {
  name: string;
  guard?: string;
  refusal?: RegExp;
  code: string;
  args?: (lab: Lab) => (string | number)[];
  off?: Off;
}

function system({ name, guard = BOTH, refusal = /: EPERM$/, code, args, off = { where: 'host' } }: Call): Attack {
  return scripted({ name, guard, refusal, code, off, ...(args && { args }) });
}

/** unshare(2) of a namespace that CRIU cannot dump when nested. */
function nested(kind: string, flag: number): Attack {
  return system({ name: `make a nested ${kind} namespace`, guard: `${SECCOMP}, unless features.nesting`, code: `verdict('unshare', call('unshare', ${flag}));`, off: { where: 'loose' } });
}

const X86 = process.arch === 'x64';

/** getpid(2) by int 0x80. */
const HARMLESS = int80(20, []);

/** The same call as a 32-bit program makes it. @param past errors that come from behind the guard @param lacks errors of a kernel without it */
function i386(name: string, program: string, options: { refusal?: RegExp; past?: string; lacks?: string; off?: Off } = {}): Attack {
  return scripted({
    name: `${name}, as a 32-bit program`, guard: `${SECCOMP}, rules for i386`, refusal: options.refusal ?? /: EPERM$/, code: RUN_PROGRAM,
    args: () => [program, name, options.past ?? '', options.lacks ?? '', HARMLESS], off: options.off ?? { where: 'host' },
  });
}

/** The socket itself is the way out: what can be said through it depends on the hypervisor. */
const SOCKET = String.raw`my ($family, $type, $protocol) = @ARGV; socket(my $s, $family, $type, $protocol) and reached("socket"); $errno = $!+0; verdict("socket", -1, '', $ARGV[3]);`;

/** For the place without a filter: what a kernel answers that does not have the family. */
const MAY_LACK = 'EAFNOSUPPORT|EPROTONOSUPPORT';

export const kernelAttacks: Attack[] = [
  system({ name: 'load a BPF object', code: String.raw`my $attr = pack('LLLL', 2, 4, 4, 1) . "\0" x 112; verdict('bpf', call('bpf', 0, $attr, 128));` }),
  system({ name: 'load a module', code: String.raw`my $o = "\0"; verdict('init_module', call('init_module', 0, 0, $o), 'EFAULT|ENOEXEC|EINVAL', 'ENOSYS');` }),
  system({ name: 'load a module from a file', code: String.raw`my $o = "\0"; verdict('finit_module', call('finit_module', -1, $o, 0), 'EBADF|ENOEXEC', 'ENOSYS');` }),
  system({ name: 'unload a module', code: String.raw`my $o = "veld_no_such_module\0"; verdict('delete_module', call('delete_module', $o, 2048), 'ENOENT', 'ENOSYS');` }),
  system({ name: 'load another kernel', code: String.raw`verdict('kexec_load', call('kexec_load', 0, 0, 0, 0xfff0), 'EINVAL', 'ENOSYS');` }),
  system({ name: 'read the kernel\'s log', code: String.raw`my $b = "\0" x 4096; verdict('syslog', call('syslog', 3, $b, 4096));` }),
  system({ name: 'watch the kernel by perf', guard: SECCOMP, code: String.raw`my $attr = pack('LLQQQQQ', 1, 112, 0, 0, 0, 0, 0x60) . "\0" x 64; # of itself, without kernel and hypervisor: allowed to anybody
verdict('perf_event_open', call('perf_event_open', $attr, 0, -1, -1, 0), '', 'ENOSYS');`, off: { where: 'bare' } }),
  system({ name: 'hold up page faults of the kernel', guard: SECCOMP, code: String.raw`verdict('userfaultfd', call('userfaultfd', 1), '', 'ENOSYS');`, off: { where: 'bare' } }),
  system({ name: 'open a file by its number', guard: BOTH, code: String.raw`
my $h = pack('Ll', 128, 0) . "\0" x 128; my ($id, $path) = (pack('l', 0), '/tmp');
sysopen(my $f, $path, O_RDONLY) or die; call('name_to_handle_at', -100, $path, $h, $id, 0);
verdict('open_by_handle_at', call('open_by_handle_at', fileno $f, $h, 0), 'ESTALE|EOPNOTSUPP|EINVAL');` }),
  system({ name: 'set the clock', code: String.raw`my $t = "\0" x 16; call('clock_gettime', 0, $t); verdict('clock_settime', call('clock_settime', 0, $t));` }),
  system({ name: 'set the clock in the old way', code: String.raw`my $t = "\0" x 16; call('clock_gettime', 0, $t); my ($s, $n) = unpack('qq', $t); $t = pack('qq', $s, int($n / 1000)); verdict('settimeofday', call('settimeofday', $t, 0));` }),
  system({ name: 'tune the clock', guard: 'the host\'s capability', code: String.raw`my $t = "\0" x 208; call('adjtimex', $t) >= 0 or die; substr($t, 0, 4) = pack('L', 0x4000); verdict('adjtimex', call('adjtimex', $t));` }),
  system({ name: 'swap to a file', args: (lab) => [notSwap(lab)], code: String.raw`my $p = "$ARGV[0]\0"; verdict('swapon', call('swapon', $p, 0), 'EINVAL');`,
    off: { where: 'host' } }),
  system({ name: 'account processes to a file', code: String.raw`my $p = "/tmp/.acct$$\0"; sysopen(my $f, "/tmp/.acct$$", O_WRONLY|O_CREAT, 0600); my $r = call('acct', $p); my $e = $errno; call('acct', 0) if $r == 0; unlink "/tmp/.acct$$"; $errno = $e; verdict('acct', $r, '', 'ENOSYS');`,
    off: { where: 'host', unshare: ['-p', '-f'] } }),
  system({ name: 'switch the host\'s Ctrl-Alt-Del', guard: 'pid namespace: reboot(2) ends the VE and does nothing else', refusal: /EINVAL/, code: String.raw`
my $on = (slurp('/proc/sys/kernel/ctrl-alt-del') // 0) + 0; verdict('reboot', call('reboot', 0xfee1dead, 672274793, $on ? 0x89abcdef : 0, 0));` }),
  ...(X86 ? [
    system({ name: 'use the ports of devices', code: String.raw`verdict('ioperm', call('ioperm', 0x80, 1, 1), '', 'ENOSYS');` }),
    system({ name: 'use all ports of devices', code: String.raw`verdict('iopl', call('iopl', 3), '', 'ENOSYS');` }),
  ] : []),
  system({ name: 'talk to the hypervisor by AF_VSOCK', guard: SECCOMP, refusal: /EAFNOSUPPORT/, args: () => [40, 1, 0, ''], code: SOCKET, off: { where: 'bare', args: () => [40, 1, 0, MAY_LACK] } }),
  system({ name: 'reach the kernel\'s ciphers by AF_ALG', guard: SECCOMP, refusal: /EAFNOSUPPORT/, args: () => [38, 5, 0, ''], code: SOCKET, off: { where: 'bare', args: () => [38, 5, 0, MAY_LACK] } }),
  system({ name: 'use io_uring', guard: `${SECCOMP}, unless features.io_uring`, refusal: /ENOSYS/, code: String.raw`my $p = "\0" x 120; verdict('io_uring_setup', call('io_uring_setup', 4, $p));`, off: { where: 'loose' } }),
  nested('user', 0x10000000), nested('uts', 0x04000000), nested('ipc', 0x08000000), nested('cgroup', 0x02000000), nested('time', 0x80),
  system({ name: 'make a nested user namespace by clone', guard: `${SECCOMP}, unless features.nesting`, off: { where: 'loose' },
    code: String.raw`my $p = call('clone', 0x10000000 | 17, 0, 0, 0, 0); POSIX::_exit(0) if $p == 0; my $e = $errno; waitpid($p, 0) if $p > 0; $errno = $e; verdict('clone', $p);` }),
  system({ name: 'make a nested user namespace by clone3', guard: `${SECCOMP}, unless features.nesting`, refusal: /ENOSYS/, off: { where: 'loose' },
    code: String.raw`my $a = pack('Q*', 0x10000000, 0, 0, 0, 17, 0, 0, 0); my $p = call('clone3', $a, 64); POSIX::_exit(0) if $p == 0; my $e = $errno; waitpid($p, 0) if $p > 0; $errno = $e; verdict('clone3', $p);` }),
  // Numbers of i386: asm/unistd_32.h.
  ...(X86 ? [
    i386('use io_uring', int80(425, [4, '@0'], Array<number>(30).fill(0)), { refusal: /ENOSYS/, off: { where: 'loose' } }),
    i386('make a nested user namespace', int80(310, [0x10000000]), { off: { where: 'loose' } }),
    i386('make a nested namespace by clone3', int80(435, ['@0', 64], [0x10000000, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0]), { refusal: /ENOSYS/, off: { where: 'loose' } }),
    i386('load a BPF object', int80(357, [0, '@0', 64], [2, 4, 4, 1, ...Array<number>(12).fill(0)])),
    i386('load a module', int80(128, [0, 0, 0]), { past: 'EFAULT|ENOEXEC', lacks: 'ENOSYS' }),
    i386('read the kernel\'s log', int80(103, [3, '@0', 64], Array<number>(16).fill(0))),
    i386('hold up page faults of the kernel', int80(374, [1]), { lacks: 'ENOSYS', off: { where: 'bare' } }),
    i386('open a file by its number', int80(342, [-100, '@0', 0], [8, 1, 0, 0]), { past: 'ESTALE|EOPNOTSUPP|EINVAL|EBADF' }),
    i386('watch the kernel by perf', int80(336, ['@0', 0, -1, -1, 0], [1, 64, ...Array<number>(26).fill(0)]), { lacks: 'ENOSYS' }),
    i386('use all ports of devices', int80(110, [3]), { lacks: 'ENOSYS' }),
    i386('talk to the hypervisor by AF_VSOCK', int80(359, [40, 1, 0]), { refusal: /EAFNOSUPPORT/, off: { where: 'bare', args: () => [int80(359, [40, 1, 0]), 'socket', '', MAY_LACK, HARMLESS] } }),
    i386('talk to the hypervisor by AF_VSOCK through socketcall', int80(102, [1, '@0'], [40, 1, 0]), { refusal: /EAFNOSUPPORT/, off: { where: 'bare', args: () => [int80(102, [1, '@0'], [40, 1, 0]), 'socketcall', '', MAY_LACK, HARMLESS] } }),
    scripted({
      name: 'use io_uring, as an x32 program', guard: `${SECCOMP}, rules for x32`, refusal: /ENOSYS/, code: RUN_PROGRAM,
      args: () => [x32(425, [4, 0]), 'io_uring_setup', 'EFAULT', ''], off: { where: 'loose', args: () => [x32(425, [4, 0]), 'io_uring_setup', 'EFAULT', 'ENOSYS'] },
    }),
    scripted({
      name: 'make a nested user namespace, as an x32 program', guard: `${SECCOMP}, rules for x32`, refusal: /EPERM|ENOSYS/, code: RUN_PROGRAM,
      args: () => [x32(272, [0x10000000]), 'unshare', '', ''], off: { where: 'loose', args: () => [x32(272, [0x10000000]), 'unshare', '', 'ENOSYS'] },
    }),
  ] : []),
];

/** A file that is no swap space: whoever may use swapon(2) is told so. */
function notSwap(lab: Lab): string {
  const file = join(lab.dir, 'no-swap');
  writeFileSync(file, Buffer.alloc(65536), { mode: 0o600 });
  return file;
}
