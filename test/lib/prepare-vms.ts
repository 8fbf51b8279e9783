/** What the machines are made of, built before the first one boots, and said. */
import { rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { forgetOld } from '../vm/build.ts';
import { makeProgramDisk } from '../vm/disks.ts';
import { findImage } from '../vm/image.ts';
import type { Suite } from '../vm/image.ts';
import { findQemu } from '../vm/qemu.ts';
import { stateDisk } from '../vm/state.ts';

/** Releases by the test file that boots them. */
const SUITES: Record<string, Suite[]> = { 'debian-12': ['bookworm'], 'debian-13': ['trixie'], pair: ['bookworm', 'trixie'] };

/** Build what is missing in the cache for these test files, and the disk with the program for this run. */
export async function prepareVms(files: readonly string[], say: (line: string) => void, signal: AbortSignal): Promise<void> {
  forgetOld();
  const suites = new Set(Object.entries(SUITES).flatMap(([word, needed]) => (files.some((path) => path.includes(word)) ? needed : [])));
  const steps: [string, () => Promise<unknown>][] = [['QEMU', findQemu]];
  for (const suite of suites) steps.push([`image of ${suite}`, () => findImage(suite)], [`engine and template for ${suite}`, () => stateDisk(suite)]);
  steps.push(['program', () => Promise.resolve((process.env.VELD_TEST_VM_PROGRAM = makeProgramDisk()))]);
  for (const [name, step] of steps) {
    if (signal.aborted) return;
    const since = Date.now();
    await step();
    if (Date.now() - since > 1000) say(`vm: ${name} built in ${((Date.now() - since) / 1000).toFixed(0)} s`);
  }
}

/** Remove the disk with the program. */
export function forgetProgram(): void {
  const disk = process.env.VELD_TEST_VM_PROGRAM;
  if (disk !== undefined) rmSync(dirname(disk), { recursive: true, force: true });
}
