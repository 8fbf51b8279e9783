/** What the processor can do, as far as programs notice it: what they have found out once they use for as long as they live. */
import { readFileSync } from 'node:fs';

/**
 * Extensions of the instruction set, by their names in /proc/cpuinfo (arch/x86/include/asm/cpufeatures.h). Other flags tell of the kernel and of virtual
 * machines, and come and go with versions of the kernel. Where there is a line `Features` (arm64) all of them count.
 */
const EXTENSIONS = /^(mmx|sse\d?|sse4_[12a]|ssse3|pni|avx\w*|aes|vaes|pclmulqdq|vpclmulqdq|fma|f16c|popcnt|movbe|bmi[12]|abm|adx|sha_ni|sha512|sm[34]|gfni|rdrand|rdseed|fsgsbase|erms|fsrm|xsave\w*|clflushopt|clwb|amx_\w+|rtm|hle|3dnow\w*|xop|fma4|tbm|cx16|lahf_lm|movdir\w+|serialize|waitpkg|pku|user_shstk)$/;

/** Names of the extensions, sorted. @param cpuinfo replaced in tests */
export function processorExtensions(cpuinfo = readFileSync('/proc/cpuinfo', 'utf8')): string[] {
  const [, kind, words = ''] = /^(flags|Features)\s*:(.*)$/m.exec(cpuinfo) ?? [];
  return words.split(' ').filter((word) => word !== '' && (kind === 'Features' || EXTENSIONS.test(word))).sort();
}

/** Of the registers that XSAVE writes by the kernel's leave, those that glibc saves (its STATE_SAVE_MASK), by the extensions that bring them. */
const SAVED = ['avx', 'avx512f'];

/**
 * Registers that a processor has and that programs which began on another one leave no room for. glibc's dynamic linker looks when a program begins how much XSAVE writes, and
 * lays that much of the stack aside at the first call of each function: where XSAVE writes more, the program is overwritten, and ends with SIGSEGV. XSAVEC, where a
 * program began with it, leaves out what is not in use (Intel SDM, volume 1, 13.10).
 * @param began extensions of the processor where they began @param here of the one where they are to go on
 * @returns names of extensions; none when they can
 */
export function outgrown(began: readonly string[], here: readonly string[] = processorExtensions()): string[] {
  if (!began.includes('xsave') || began.includes('xsavec')) return [];
  return SAVED.filter((name) => here.includes(name) && !began.includes(name));
}
