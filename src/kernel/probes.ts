/**
 * What this kernel can do, found by trying where that costs little. Trials happen in namespaces of a short-lived child, and leave nothing.
 * What was found to work is kept for the boot (`<runDir>/probes.json`); the rest is tried again, since a module or program may come later.
 */
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import { hasCapability } from './capability.ts';
import { findHierarchies } from './cgroup.ts';
import { hasSoftDirty } from './memory-tracking.ts';
import { askBpfLsm, askIoUring, askPagemapScan, askQuotactl, askSecurityModules, askUserfaultfd } from './probe-calls.ts';

export interface Probe {
  /** Stable: programs match on it. */
  id: string;
  title: string;
  /** Null: could not be tried, the message says why. */
  ok: boolean | null;
  /** What was found, one sentence. */
  message: string;
  /** Without it no VE runs. */
  required: boolean;
  /** What a VE cannot do without it. */
  consequence?: string;
  remedy?: string;
}

export interface ProbeOptions {
  /** A short trial is made on its file system. */
  stateDir: string;
  runDir: string;
  /** mount(8) that knows X-mount.idmap (util-linux >= 2.39): the engine's. Default: the host's. */
  mount?: string;
}

type Finding = Pick<Probe, 'ok' | 'message'>;
type Row = Omit<Probe, 'ok' | 'message'> & { find: (options: ProbeOptions) => Finding | Promise<Finding> };

/** Oldest kernel: idmapped lower layers under overlayfs came with 5.19. */
export const KERNEL_MINIMUM: readonly [number, number] = [5, 19];

const NAMESPACES = ['user', 'pid', 'mnt', 'ipc', 'uts', 'net', 'cgroup', 'time'] as const;

/** Time for one trial in a child, in milliseconds. */
const TRIAL_TIMEOUT = 10_000;

const ROWS: readonly Row[] = [
  {
    id: 'kernel.version', title: 'Kernel version', required: true, remedy: `Boot a kernel of at least ${KERNEL_MINIMUM.join('.')}.`, find: () => kernelVersion(),
  },
  {
    id: 'cgroup.mode', title: 'Control groups', required: true, remedy: 'Mount cgroup2, e.g. on /sys/fs/cgroup/unified.',
    find: () => {
      const { mode, v1 } = findHierarchies();
      const words = { v2: 'cgroup v2', hybrid: 'hybrid: controllers on v1, processes grouped by cgroup2', v1: 'cgroup v1 only, cgroup2 is not mounted' };
      return { ok: mode !== 'v1', message: `${words[mode]}${mode === 'v2' ? '' : ` (v1: ${Object.keys(v1).join(', ')})`}.` };
    },
  },
  {
    id: 'namespaces', title: 'Namespaces', required: true, remedy: 'Boot a kernel with all namespaces, and let sysctl user.max_user_namespaces be above 0.',
    find: async () => {
      const missing = NAMESPACES.filter((name) => name !== 'time' && !existsSync(`/proc/self/ns/${name}`));
      if (missing.length > 0) return { ok: false, message: `The kernel lacks ${missing.join(', ')}.` };
      return trial(['--user', '--map-root-user', '--pid', '--fork', '--mount', '--ipc', '--uts', '--net', '--cgroup', '/bin/true'], 'User, pid, mount, ipc, uts, net and cgroup namespaces can be made.');
    },
  },
  {
    id: 'namespace.time', title: 'Time namespaces', required: false, consequence: 'VEs show the uptime of the host, and their monotonic clock jumps when they move.',
    find: () => (existsSync('/proc/self/ns/time') ? trial(['--user', '--map-root-user', '--time', '--boottime', '1000', '--fork', '/bin/true'], 'Time namespaces can be made.')
      : { ok: false, message: 'The kernel has no time namespaces.' }),
  },
  {
    id: 'overlayfs', title: 'Overlayfs', required: true, consequence: 'VEs cannot share their template.', remedy: 'Load the module overlay, and keep the state folder on ext4, XFS or btrfs.',
    find: (options) => mountTrial(options, false),
  },
  {
    id: 'idmap', title: 'Idmapped mounts', required: true, consequence: 'Templates cannot be given to VEs.', remedy: 'Keep the state folder on ext4, XFS or btrfs.',
    find: (options) => mountTrial(options, true),
  },
  {
    id: 'cap.sys_resource', title: 'CAP_SYS_RESOURCE', required: false, consequence: 'Limits of processes cannot be raised above those of the daemon.',
    find: () => {
      const ok = hasCapability('sys_resource');
      return { ok, message: ok ? 'The daemon has it.' : 'The daemon does not have it.' };
    },
  },
  {
    id: 'nftables', title: 'nftables', required: true, consequence: 'VEs have no firewall, no NAT and no counters.', remedy: 'Install nftables, and load the modules nf_tables and nft_chain_nat.',
    find: () => trial(['--net', 'nft', '-f', '-'], 'Tables of family inet with sets, counters and NAT can be made.', NFT_TRIAL),
  },
  {
    id: 'veth', title: 'veth links', required: true, consequence: 'VEs have no network.', remedy: 'Load the module veth.',
    find: () => trial(['--net', 'ip', 'link', 'add', 'vtry0', 'type', 'veth', 'peer', 'name', 'vtry1'], 'veth pairs can be made.'),
  },
  {
    id: 'seccomp', title: 'seccomp', required: true, consequence: 'Dangerous system calls of VEs cannot be refused.', remedy: 'Boot a kernel with CONFIG_SECCOMP_FILTER.',
    find: () => {
      const actions = readIfExists('/proc/sys/kernel/seccomp/actions_avail')?.trim() ?? '';
      return { ok: /\berrno\b/.test(actions), message: actions ? `Filters can answer with: ${actions.replaceAll(' ', ', ')}.` : 'The kernel has no seccomp filters.' };
    },
  },
  {
    id: 'fuse', title: 'FUSE', required: false, consequence: 'lxcfs cannot run: VEs see the memory and CPUs of the host.', remedy: 'Load the module fuse.',
    find: () => {
      const ok = existsSync('/dev/fuse') && /\sfuse$/m.test(readFileSync('/proc/filesystems', 'utf8'));
      return { ok, message: ok ? '/dev/fuse and the file system are there.' : '/dev/fuse or the file system is missing.' };
    },
  },
  {
    id: 'tun', title: 'TUN links', required: false, consequence: 'What is sent to a VE while a live snapshot or clone of it is taken is lost, and TCP asks again, instead of waiting for it.', remedy: 'Load the module tun.',
    find: () => {
      try {
        closeSync(openSync('/dev/net/tun', 'r+')); // which loads the module
        return { ok: true, message: '/dev/net/tun can be opened.' };
      } catch (error) {
        return { ok: false, message: `/dev/net/tun: ${(error as Error).message}.` };
      }
    },
  },
  {
    id: 'quota', title: 'Disk quotas', required: false, consequence: 'Disk space of VEs and of their users cannot be limited on ext4.', find: () => quota(),
  },
  {
    id: 'memory.tracking', title: 'Tracking of changed memory', required: false, consequence: 'Each live snapshot holds all of a VE\'s memory, not only what has changed since the last one; and memory cannot be copied ahead while a VE runs.',
    find: () => {
      const softDirty = hasSoftDirty();
      const scan = askPagemapScan() === 'EFAULT';
      const wp = writeProtect();
      return { ok: softDirty || (scan && wp === true), message: `soft-dirty: ${yes(softDirty)}; PAGEMAP_SCAN: ${yes(scan)}; asynchronous userfaultfd write protection: ${yes(wp)}.` };
    },
  },
  {
    id: 'bpf.lsm', title: 'BPF LSM', required: false, consequence: 'Beancounters of files and locks cannot be enforced.', remedy: 'Boot a kernel with CONFIG_BPF_LSM that is not locked down, with bpf in lsm= on its command line.',
    find: () => {
      const LSM_ID_BPF = 110n;
      const ids = askSecurityModules();
      const named = typeof ids === 'string' ? (readIfExists('/sys/kernel/security/lsm') ?? '').trim().split(',').includes('bpf') : ids.includes(LSM_ID_BPF);
      const loaded = askBpfLsm();
      const ok = named && typeof loaded === 'number';
      return { ok, message: ok ? 'Programs are accepted.' : `bpf is ${named ? '' : 'not '}in the list of security modules; loading a program answers ${typeof loaded === 'number' ? 'yes' : loaded}.` };
    },
  },
  {
    id: 'io_uring', title: 'io_uring', required: false, consequence: 'Programs in VEs use other ways of I/O, also with features.io_uring.',
    find: () => {
      const found = askIoUring();
      const off = readIfExists('/proc/sys/kernel/io_uring_disabled')?.trim() ?? '0';
      const ok = (found === 'EFAULT' || found === 'EINVAL') && off === '0';
      return { ok, message: ok ? 'VEs may be given it.' : `io_uring_setup answers ${found}, kernel.io_uring_disabled is ${off}.` };
    },
  },
  {
    id: 'vsyscall', title: 'vsyscall page', required: false, consequence: 'Distributions with glibc before 2.14 (CentOS 6) do not run.', remedy: 'Boot with vsyscall=xonly if you need them.',
    find: () => {
      const mode = /^\S+ (\S+) .*\[vsyscall\]$/m.exec(readFileSync('/proc/self/maps', 'utf8'))?.[1];
      return { ok: mode !== undefined, message: mode === undefined ? 'There is none.' : `There is one (${mode}).` };
    },
  },
  {
    id: 'ia32', title: '32-bit programs', required: false, consequence: 'i386 templates do not run.', remedy: 'Boot a kernel with CONFIG_IA32_EMULATION, without ia32_emulation=0.',
    find: ia32,
  },
];

const NFT_TRIAL = `table inet t {
  set s { type ipv4_addr; flags interval; counter; }
  set p { typeof iifname . ip saddr; }
  chain f { type filter hook forward priority filter; iifname . ip saddr @p counter accept; ip saddr @s drop; }
  chain n { type nat hook postrouting priority srcnat; oifname "x" masquerade; }
}
`;

/**
 * Run a 32-bit program that does nothing but end with status 0. A kernel built for them may still not answer int 0x80: by its command line, or because
 * the hypervisor below does not pass it on (then the program gets SIGSEGV).
 */
async function ia32({ stateDir }: ProbeOptions): Promise<Finding> {
  if (process.arch !== 'x64') return { ok: false, message: 'This processor does not run them.' };
  mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  const folder = mkdtempSync(join(stateDir, '.probe-'));
  try {
    const file = join(folder, 'program');
    writeFileAtomic(file, ia32Program(), 0o700);
    const { code, stderr } = await run('/bin/sh', ['-c', 'exec "$1"', 'sh', file], { timeout: TRIAL_TIMEOUT, allow: true });
    if (code === 0) return { ok: true, message: 'They run.' };
    const why = code === 126 ? 'the kernel does not know its format' : stderr.trim().split('\n').pop() || `status ${code}`;
    return { ok: false, message: `One that only ends did not run: ${why}.` };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** An ELF program for i386 that calls exit(0) by int 0x80. Format: elf(5), Elf32_Ehdr and one Elf32_Phdr. */
function ia32Program(): Buffer {
  const base = 0x10000, headers = 52 + 32;
  const code = [0x31, 0xdb, 0xb8, 1, 0, 0, 0, 0xcd, 0x80]; // xor ebx, ebx; mov eax, 1 (exit); int 0x80
  const file = Buffer.alloc(headers + code.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 1, 1, 1]);
  // Type ET_EXEC, machine EM_386, header sizes, one program header.
  for (const [at, value] of [[16, 2], [18, 3], [40, 52], [42, 32], [44, 1]] as const) file.writeUInt16LE(value, at);
  // Version, entry, place of the program header; then PT_LOAD: offset, addresses, sizes, PF_R | PF_X, alignment.
  const words = [[20, 1], [24, base + headers], [28, 52], [52, 1], [56, 0], [60, base], [64, base], [68, file.length], [72, file.length], [76, 5], [80, 4096]] as const;
  for (const [at, value] of words) file.writeUInt32LE(value, at);
  file.set(code, headers);
  return file;
}

/** A mount namespace of its own, a template with one file of root's, and what a VE's start does with it. The folder is the caller's. */
const MOUNT_TRIAL = `set -e
cd "$2"
if [ "$3" = idmap ]; then "$1" --bind -o ro,X-mount.idmap=b:0:100000:65536 lower mapped; lower=mapped; else lower=lower; fi
"$1" -t overlay try -o lowerdir=$lower,upperdir=upper,workdir=work merged
echo >merged/new
exec stat -c %u merged/file`;

/** All probes; tried now unless they are known to work in this boot, with these capabilities. */
export async function runProbes(options: ProbeOptions): Promise<Probe[]> {
  const file = join(options.runDir, 'probes.json');
  const key = [readIfExists('/proc/sys/kernel/random/boot_id')?.trim(), release(), /^CapEff:.*/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[0],
    options.mount ?? '', options.stateDir, ROWS.length].join(' ');
  const kept = readKept(file, key);
  const probes = await Promise.all(ROWS.map(async (row) => kept.get(row.id) ?? findOne(row, options)));
  const good = probes.filter((probe) => probe.ok === true);
  if (good.length !== kept.size) writeFileAtomic(file, JSON.stringify({ key, probes: good }));
  return probes;
}

async function findOne({ find, ...row }: Row, options: ProbeOptions): Promise<Probe> {
  try {
    const { ok, message } = await find(options);
    const bare = { id: row.id, title: row.title, required: row.required, ok, message };
    return ok === true ? bare : { ...bare, ...(row.consequence && { consequence: row.consequence }), ...(row.remedy && { remedy: row.remedy }) };
  } catch (error) {
    return { ...row, ok: null, message: `Could not be tried: ${(error as Error).message}.` };
  }
}

function readKept(file: string, key: string): Map<string, Probe> {
  try {
    const kept = JSON.parse(readIfExists(file) ?? 'null') as { key: string; probes: Probe[] } | null;
    return new Map(kept?.key === key ? kept.probes.map((probe) => [probe.id, probe]) : []);
  } catch {
    return new Map();
  }
}

/** Compare the running kernel with the oldest that works. @param version replaced in tests */
export function kernelVersion(version = release()): Finding {
  const [major = 0, minor = 0] = (/^(\d+)\.(\d+)/.exec(version) ?? []).slice(1).map(Number);
  const ok = major > KERNEL_MINIMUM[0] || (major === KERNEL_MINIMUM[0] && minor >= KERNEL_MINIMUM[1]);
  return { ok, message: ok ? `Linux ${version}.` : `Linux ${version} is older than ${KERNEL_MINIMUM.join('.')}: it cannot idmap the layers of an overlay.` };
}

/** Run something under unshare(1) and see whether it works. */
async function trial(args: string[], good: string, input?: string): Promise<Finding> {
  const { code, stderr } = await run('unshare', args, { timeout: TRIAL_TIMEOUT, allow: true, ...(input !== undefined && { input }) });
  if (code === 0) return { ok: true, message: good };
  const missing = code === 127 || /No such file or directory|unrecognized option/.test(stderr);
  return { ok: missing ? null : false, message: `${missing ? 'Could not be tried' : 'The kernel refused'}: ${stderr.trim().split('\n')[0] || `status ${code}`}.` };
}

async function mountTrial(options: ProbeOptions, idmap: boolean): Promise<Finding> {
  const mount = options.mount ?? 'mount';
  if (idmap) {
    const [, major = '0', minor = '0'] = /util-linux (\d+)\.(\d+)/.exec((await run(mount, ['--version'])).stdout) ?? [];
    if (Number(major) * 1000 + Number(minor) < 2039) return { ok: null, message: `Could not be tried: ${mount} is ${major}.${minor}, older than 2.39; the engine brings one.` };
  }
  mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const folder = mkdtempSync(join(options.stateDir, '.probe-'));
  try {
    for (const name of ['lower', 'mapped', 'upper', 'work', 'merged']) mkdirSync(join(folder, name));
    writeFileAtomic(join(folder, 'lower', 'file'), '');
    // A constant script with its words as parameters; the mounts end with its namespace.
    const { code, stdout, stderr } = await run('unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c', MOUNT_TRIAL, 'sh', mount, folder, idmap ? 'idmap' : 'plain'],
      { timeout: TRIAL_TIMEOUT, allow: true });
    if (code !== 0) return { ok: false, message: `A trial in ${options.stateDir} failed: ${stderr.trim().split('\n').pop() || `status ${code}`}.` };
    const owner = stdout.trim();
    if (owner !== (idmap ? '100000' : '0')) return { ok: false, message: `A file of root's showed the owner ${owner}.` };
    return { ok: true, message: idmap ? 'A layer can be mapped into a VE\'s uid range, below an overlay.' : 'Overlays can be mounted and written.' };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Formats cannot be asked for without a file system that has quotas; the kernel's build says which there are. */
function quota(): Finding {
  const found = askQuotactl();
  if (found === 'ENOSYS') return { ok: false, message: 'The kernel has no quotactl.' };
  const modules = ['modules.builtin', 'modules.dep'].map((name) => readIfExists(`/lib/modules/${release()}/${name}`) ?? '').join('\n');
  const config = kernelConfig();
  const v2 = existsSync('/sys/module/quota_v2') || /\/quota_v2\.ko/.test(modules) || (config !== undefined && /^CONFIG_QFMT_V2=[ym]$/m.test(config));
  const xfs = config === undefined ? undefined : /^CONFIG_XFS_QUOTA=y$/m.test(config);
  return { ok: v2, message: `quotactl: yes; format vfsv1 (ext4): ${yes(v2)}; XFS: ${xfs === undefined ? 'unknown' : yes(xfs)}.` };
}

/** Text of the kernel's configuration, where the kernel or the distribution shows it. */
function kernelConfig(): string | undefined {
  if (existsSync('/proc/config.gz')) return gunzipSync(readFileSync('/proc/config.gz')).toString('latin1');
  return readIfExists(`/boot/config-${release()}`);
}

/** True, false, or the name of the error. */
function writeProtect(): boolean | string {
  const UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1n, UFFD_FEATURE_WP_ASYNC = 1n << 15n;
  const features = askUserfaultfd();
  if (typeof features === 'string') return features;
  const wanted = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_ASYNC;
  return (features & wanted) === wanted;
}

function yes(value: boolean | string): string {
  return typeof value === 'string' ? value : value ? 'yes' : 'no';
}
