import assert from 'node:assert/strict';
import { test } from 'node:test';
import { processorExtensions } from './processor.ts';

test('extensions of the instruction set are told from what else the kernel says', () => {
  assert.deepEqual(processorExtensions('processor\t: 0\nflags\t\t: fpu vme sse4_2 avx512f hypervisor nopti avx2 aes\nbugs\t: x\n'), ['aes', 'avx2', 'avx512f', 'sse4_2']);
  assert.deepEqual(processorExtensions('Features\t: fp asimd sve\n'), ['asimd', 'fp', 'sve']);
  assert.deepEqual(processorExtensions('nothing'), []);
  assert.ok(processorExtensions().length > 3);
});
