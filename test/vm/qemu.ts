/**
 * QEMU from Debian 13 (10.0), whatever the host's own is: older ones break these guests (with 7.2, two virtual CPUs corrupted memory).
 * Unpacked with its libraries into the test cache; nothing is installed.
 */
import { copyFileSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { debianKeyring } from '../../src/kernel/engine-keys.ts';
import { mmdebstrap } from '../../src/kernel/mmdebstrap.ts';
import { debianMirror } from '../../src/kernel/package-sources.ts';
import { run } from '../../src/lib/run.ts';
import { cached, sourceTexts } from './build.ts';

const SUITE = 'trixie';
const PACKAGES = ['qemu-system-x86', 'qemu-utils', 'libc-bin'];
/** Large, and for machines or displays that are not used here. */
const UNUSED = ['usr/share/doc', 'usr/share/man', 'usr/share/locale', 'usr/share/icons', 'usr/lib/x86_64-linux-gnu/dri', 'usr/bin/qemu-system-i386', 'var', 'etc'];

/** Programs and what they need to find. */
export interface Qemu {
  system: string;
  img: string;
  /** Arguments that tell where firmware is. */
  firmware: string[];
}

/** QEMU from the cache, unpacked there first when it is missing. */
export async function findQemu(): Promise<Qemu> {
  const folder = await cached('qemu', [SUITE, ...PACKAGES, ...UNUSED, ...sourceTexts(['test/vm', /^qemu\.ts$/])], async (target, place) => {
    const tree = join(target, 'tree');
    await mmdebstrap({
      variant: 'extract', suite: SUITE, target: tree, architecture: 'amd64', include: PACKAGES, expiredRelease: 'record',
      sources: [{ mirror: debianMirror(''), suite: SUITE, components: ['main'], keyring: debianKeyring() }],
    });
    mkdirSync(join(target, 'bin'));
    const libraries = join(place, 'tree/usr/lib/x86_64-linux-gnu');
    for (const name of ['qemu-system-x86_64', 'qemu-img']) {
      const program = join(target, 'bin', name);
      copyFileSync(join(tree, 'usr/bin', name), program);
      await run('/usr/bin/patchelf', ['--set-interpreter', join(libraries, 'ld-linux-x86-64.so.2'), '--set-rpath', libraries, '--force-rpath', program]);
    }
    for (const path of [...UNUSED, 'usr/bin']) rmSync(join(tree, path), { recursive: true, force: true });
  });
  const share = join(folder, 'tree/usr/share');
  return { system: join(folder, 'bin/qemu-system-x86_64'), img: join(folder, 'bin/qemu-img'), firmware: ['-L', join(share, 'qemu'), '-L', join(share, 'seabios')] };
}
