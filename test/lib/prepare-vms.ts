/** What the machines are made of, built before the first one boots, and said. */
import { forgetOld } from '../vm/build.ts';
import { stateDisk } from '../vm/disks.ts';
import { findImage } from '../vm/image.ts';
import type { Suite } from '../vm/image.ts';
import { findQemu } from '../vm/qemu.ts';

/** Releases by the test file that boots them. */
const SUITES: Record<string, Suite> = { 'debian-12': 'bookworm', 'debian-13': 'trixie' };

/** Build what is missing in the cache for these test files. */
export async function prepareVms(files: readonly string[], say: (line: string) => void, signal: AbortSignal): Promise<void> {
  forgetOld();
  const steps: [string, () => Promise<unknown>][] = [['QEMU', findQemu]];
  for (const [file, suite] of Object.entries(SUITES)) {
    if (!files.some((path) => path.includes(file))) continue;
    steps.push([`image of ${suite}`, () => findImage(suite)], [`engine and template for ${suite}`, () => stateDisk(suite)]);
  }
  for (const [name, step] of steps) {
    if (signal.aborted) return;
    const since = Date.now();
    await step();
    if (Date.now() - since > 1000) say(`vm cache: ${name} built in ${((Date.now() - since) / 1000).toFixed(0)} s`);
  }
}
