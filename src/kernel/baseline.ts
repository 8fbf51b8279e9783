/**
 * What a VE's programs are told that the processor can do, when that is less than it can: so they go on working where it cannot do more. The kernel has no way to hide
 * anything of CPUID from a container; glibc and OpenSSL look into their environment first.
 */
import { processorExtensions } from './processor.ts';

/** Levels of the x86-64 psABI, "Micro-Architecture Levels", each with what it adds to the one before, by the names of /proc/cpuinfo. */
const LEVELS: Record<string, string> = {
  'x86-64-v1': 'mmx sse sse2',
  'x86-64-v2': 'cx16 lahf_lm popcnt pni sse4_1 sse4_2 ssse3',
  'x86-64-v3': 'avx avx2 bmi1 bmi2 f16c fma abm movbe',
  'x86-64-v4': 'avx512f avx512bw avx512cd avx512dq avx512vl',
};

/** Names of the levels, the lowest first. */
export const BASELINE_LEVELS = Object.keys(LEVELS);

/**
 * Nobody can be told that it is not there: the dynamic linker of glibc until 2.37 saves registers by it whatever it is told, and criu writes what it has seen of them by it.
 */
const KEPT = 'xsave';

/** The names that glibc has for an extension in `glibc.cpu.hwcaps` (sysdeps/x86/cpu-tunables.c): since 2.33 in the first place, in 2.31 (Debian 11) also `_Usable`. It ignores those that it does not know. */
const GLIBC: Record<string, string> = {
  ssse3: 'SSSE3', sse4_1: 'SSE4_1', sse4_2: 'SSE4_2', popcnt: 'POPCNT', movbe: 'MOVBE', abm: 'LZCNT', bmi1: 'BMI1', bmi2: 'BMI2', erms: 'ERMS', rtm: 'RTM', user_shstk: 'SHSTK',
  avx: 'AVX AVX_Usable',
  // The last is what it prefers where there is AVX2, and looks at nothing else then.
  avx2: 'AVX2 AVX2_Usable AVX_Fast_Unaligned_Load',
  fma: 'FMA FMA_Usable', fma4: 'FMA4 FMA4_Usable', xsavec: 'XSAVEC XSAVEC_Usable',
  avx512f: 'AVX512F AVX512F_Usable', avx512dq: 'AVX512DQ AVX512DQ_Usable', avx512bw: 'AVX512BW', avx512cd: 'AVX512CD', avx512vl: 'AVX512VL', avx512er: 'AVX512ER', avx512pf: 'AVX512PF',
};

/** Bits of CPUID that OPENSSL_ia32cap(3) has in its two vectors: leaf 1 EDX and ECX, leaf 7 EBX and ECX. */
const OPENSSL: readonly Record<string, number>[] = [
  { pni: 32, pclmulqdq: 33, ssse3: 41, xop: 43, fma: 44, sse4_1: 51, sse4_2: 52, movbe: 54, popcnt: 55, aes: 57, avx: 60, f16c: 61, rdrand: 62 },
  {
    bmi1: 3, avx2: 5, bmi2: 8, avx512f: 16, avx512dq: 17, rdseed: 18, adx: 19, avx512ifma: 21, sha_ni: 29, avx512bw: 30, avx512vl: 31,
    avx512vbmi: 33, avx512_vbmi2: 38, gfni: 40, vaes: 41, vpclmulqdq: 42,
  },
];

/**
 * What is left of this processor under a baseline.
 * @param others what each of the other nodes has, for `nodes`
 * @returns names of extensions, sorted; null where there is no baseline, and on processors that are not x86-64
 */
export function baselineOf(wanted: string, others: readonly (readonly string[])[], here = processorExtensions(), architecture: string = process.arch): string[] | null {
  if (wanted === 'host' || architecture !== 'x64') return null;
  const allowed = wanted === 'nodes' ? others.map((other) => new Set(other)) : [new Set(levelNames(wanted))];
  return here.filter((name) => name === KEPT || allowed.every((names) => names.has(name)));
}

function levelNames(level: string): string[] {
  return BASELINE_LEVELS.slice(0, BASELINE_LEVELS.indexOf(level) + 1).flatMap((name) => LEVELS[name]!.split(' '));
}

/** The environment that tells programs of a baseline. It names all that is not in it, whatever this processor has: the VE may go to one that has more. */
export function baselineEnvironment(baseline: readonly string[] | null): Record<string, string> {
  if (baseline === null) return {};
  const has = new Set(baseline);
  const hidden = Object.entries(GLIBC).flatMap(([name, names]) => (has.has(name) ? [] : names.split(' ')));
  const vectors = OPENSSL.map((bits) => Object.entries(bits).reduce((sum, [name, bit]) => (has.has(name) ? sum : sum | 1n << BigInt(bit)), 0n));
  return {
    ...hidden.length > 0 && { GLIBC_TUNABLES: `glibc.cpu.hwcaps=${hidden.map((name) => `-${name}`).join(',')}` },
    // With XSAVE alone each first call of a function overwrites the program where the processor has more registers (`outgrown`): so all are looked up when it begins (ld.so(8)).
    ...!has.has('xsavec') && { LD_BIND_NOW: '1' },
    ...vectors.some((vector) => vector > 0n) && { OPENSSL_ia32cap: vectors.map((vector) => `~0x${vector.toString(16)}`).join(':') },
  };
}

/** Tell it in an environment that may have tunables of its own: what is told holds beside them. */
export function withBaseline(environment: Record<string, string>, baseline: readonly string[] | null): Record<string, string> {
  const told = baselineEnvironment(baseline);
  const own = environment.GLIBC_TUNABLES;
  return { ...environment, ...told, ...own && told.GLIBC_TUNABLES && { GLIBC_TUNABLES: `${own}:${told.GLIBC_TUNABLES}` } };
}
