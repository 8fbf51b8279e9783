/** The program with which a VE's quota tools ask the daemon (quota-client.c): machine code without a C library, so that it runs in any VE. */
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileOnce, sourceVersion } from './compile-once.ts';
import { installRoot } from './install-root.ts';

const FLAGS = ['-static', '-nostdlib', '-ffreestanding', '-fno-builtin', '-fno-stack-protector', '-O2', '-Wall', '-Wextra', '-Werror', '-Wl,--build-id=none'];
const SOURCE = fileURLToPath(new URL('./quota-client.c', import.meta.url));
const PREFIX = `quota-client-${process.arch}-`;

/** Of the source as it was when this process began. */
let version: string | undefined;

function program(root: string): string {
  version ??= sourceVersion(FLAGS, [SOURCE, fileURLToPath(new URL('./system-call.h', import.meta.url))]);
  return join(root, 'dist', PREFIX + version);
}

/** Its path, of this version or another one; undefined where none has been compiled. */
export function quotaClient(root = installRoot()): string | undefined {
  try {
    const path = program(root);
    if (existsSync(path)) return path;
    const other = readdirSync(join(root, 'dist')).find((name) => name.startsWith(PREFIX) && /-[0-9a-f]{16}$/.test(name));
    return other === undefined ? undefined : join(root, 'dist', other);
  } catch {
    return undefined; // neither source nor folder
  }
}

/** Compile it, unless that has been done. @throws VeldError without clang */
export async function compileQuotaClient(root = installRoot()): Promise<void> {
  await compileOnce(FLAGS, [SOURCE], program(root));
}
