/** What every script of an attack begins with, and programs too small for a compiler. */

/** System call numbers of the two machines (asm/unistd_64.h; asm-generic/unistd.h). 0: the machine does not have it. */
const NUMBERS: Record<string, [x64: number, arm64: number]> = {
  shmget: [29, 194], clone: [56, 220], ptrace: [101, 117], syslog: [103, 116], adjtimex: [159, 171], acct: [163, 89], timer_create: [222, 107], settimeofday: [164, 170],
  mount: [165, 40], umount2: [166, 39], swapon: [167, 224], reboot: [169, 142], sethostname: [170, 161], iopl: [172, 0], ioperm: [173, 0],
  init_module: [175, 105], delete_module: [176, 106], clock_settime: [227, 112], clock_gettime: [228, 113], mq_open: [240, 180], mq_unlink: [241, 181], kexec_load: [246, 104],
  add_key: [248, 217], keyctl: [250, 219], mknodat: [259, 33], unshare: [272, 97], inotify_init1: [294, 26], perf_event_open: [298, 241], fanotify_init: [300, 262],
  name_to_handle_at: [303, 264], open_by_handle_at: [304, 265], setns: [308, 268], setxattr: [188, 5], process_vm_readv: [310, 270], finit_module: [313, 273],
  bpf: [321, 280], userfaultfd: [323, 282], io_uring_setup: [425, 425], clone3: [435, 435], listmount: [458, 458],
};

const index = process.arch === 'arm64' ? 1 : 0;

/**
 * Verdicts and helpers: reached/refused/absent print one line and end; `call` makes a system call by name; `verdict` judges its result;
 * `mounted` mounts in a namespace of the script's own, so that nothing stays.
 */
export const PRELUDE = `
use strict; use warnings; use Fcntl; use Socket; use POSIX (); use Errno ();
$| = 1; my $errno;
my %NR = (${Object.entries(NUMBERS).map(([name, n]) => `${name} => ${n[index]}`).join(', ')});
sub reached { print "REACHED @_\\n"; POSIX::_exit(0) }
sub refused { print "REFUSED @_\\n"; POSIX::_exit(0) }
sub absent { print "ABSENT @_\\n"; POSIX::_exit(0) }
sub name { my $n = $_[0]; my ($s) = grep { Errno->can($_)->() == $n } grep { !/EWOULDBLOCK|ENOTSUP/ } @Errno::EXPORT_OK; $s // $n }
sub call { my $n = shift; absent("no $n on this machine") if !$NR{$n}; my $r = syscall($NR{$n}, @_); $errno = $!+0; return $r }
sub verdict { my ($what, $r, $past, $lacks) = @_; my $e = name($errno);
  reached($what) if $r >= 0 || ($past && $e =~ /^(?:$past)$/);
  absent("$what: $e") if $lacks && $e =~ /^(?:$lacks)$/;
  refused("$what: $e") }
sub failed { my $e = name($!+0); refused("$_[0]: $e") }
sub own_mounts { my $r = call('unshare', 0x20000); die "unshare: ".name($errno) if $r < 0; my ($n, $d, $t) = ('none', '/', ''); call('mount', $n, $d, $t, 0x44000, 0) }
sub do_mount { my ($s, $d, $t, $f, $o) = @_; $o //= ''; return call('mount', $s, $d, $t, $f, $o) }
sub slurp { my $p = shift; sysopen(my $f, $p, O_RDONLY|O_NONBLOCK) or return undef; my $b = ''; sysread($f, $b, shift // 65536); return $b }
sub pids { grep { /^\\d+$/ } map { s{.*/}{}r } glob('/proc/[0-9]*') }
`;

/**
 * A 64-bit ELF program (hexadecimal) that makes one system call by int 0x80, as a 32-bit program would, and ends with its errno, or above 200 or 0
 * when it succeeded. Arguments of the form `@N` are the address of the N-th of its data words (32 bits each).
 */
export function int80(number: number, args: readonly (number | `@${number}`)[], data: readonly number[] = []): string {
  return program((word) => [0xb8, ...word(number), ...args.slice(0, 5).flatMap((arg, i) => [[0xbb, 0xb9, 0xba, 0xbe, 0xbf][i] as number, ...word(arg)]), 0xcd, 0x80], data);
}

/** The same by `syscall` with a number of the x32 interface. */
export function x32(number: number, args: readonly number[]): string {
  return program((word) => [0xb8, ...word(0x40000000 + number), ...args.slice(0, 3).flatMap((arg, i) => [[0xbf, 0xbe, 0xba][i] as number, ...word(arg)]), 0x0f, 0x05], []);
}

const BASE = 0x400000;
const HEADERS = 64 + 56;
const DATA = 256;

function program(code: (word: (value: number | string) => number[]) => number[], data: readonly number[]): string {
  const file = Buffer.alloc(512);
  const word = (value: number | string): number[] => {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE((typeof value === 'string' ? BASE + DATA + 4 * Number(value.slice(1)) : value) >>> 0);
    return [...bytes];
  };
  // ELF header: 64-bit, little-endian, executable, x86-64; one program header (PT_LOAD, readable, writable, executable).
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1], 0);
  file.writeUInt16LE(2, 16);
  file.writeUInt16LE(62, 18);
  file.writeUInt32LE(1, 20);
  file.writeBigUInt64LE(BigInt(BASE + HEADERS), 24);
  file.writeBigUInt64LE(64n, 32);
  file.writeUInt16LE(64, 52);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(1, 56);
  file.writeUInt32LE(1, 64);
  file.writeUInt32LE(7, 68);
  file.writeBigUInt64LE(BigInt(BASE), 80);
  file.writeBigUInt64LE(BigInt(BASE), 88);
  file.writeBigUInt64LE(512n, 96);
  file.writeBigUInt64LE(4096n, 104);
  file.writeBigUInt64LE(4096n, 112);
  // neg eax; mov edi, eax; mov eax, 60 (exit); syscall
  file.set([...code(word), 0xf7, 0xd8, 0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 0x05], HEADERS);
  for (const [i, value] of data.entries()) file.writeUInt32LE(value >>> 0, DATA + 4 * i);
  return file.toString('hex');
}

/**
 * Runs a program of {@link int80} or {@link x32}. Arguments: its text, what it is called, which errors come from behind the guard, which from a kernel that
 * does not have what is attacked, and a harmless program of the same kind, if such programs are not known to every kernel: where that one gets SIGSEGV, they
 * are absent (no filter of ours gives that signal).
 */
export const RUN_PROGRAM = String.raw`
my ($text, $what, $past, $lacks, $control) = @ARGV;
sub program_status { my $file = "/tmp/.attack-$$";
  sysopen(my $f, $file, O_WRONLY|O_CREAT|O_EXCL, 0700) or die "$file: $!";
  syswrite($f, pack('H*', $_[0])); close $f;
  my $status = system { $file } $file; unlink $file; return $status }
absent("int 0x80: SIGSEGV") if $control && (program_status($control) & 127) == POSIX::SIGSEGV;
my $status = program_status($text);
die "the program did not run: $status" if $status < 0 || $status & 127;
my $e = $status >> 8;
reached($what) if $e == 0 || $e > 140 || ($past && name($e) =~ /^(?:$past)$/);
absent("$what: ".name($e)) if $lacks && name($e) =~ /^(?:$lacks)$/;
refused("$what: ".name($e));
`;
