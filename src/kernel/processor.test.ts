import assert from 'node:assert/strict';
import { test } from 'node:test';
import { outgrown, processorExtensions } from './processor.ts';

test('extensions of the instruction set are told from what else the kernel says', () => {
  assert.deepEqual(processorExtensions('processor\t: 0\nflags\t\t: fpu vme sse4_2 avx512f hypervisor nopti avx2 aes\nbugs\t: x\n'), ['aes', 'avx2', 'avx512f', 'sse4_2']);
  assert.deepEqual(processorExtensions('Features\t: fp asimd sve\n'), ['asimd', 'fp', 'sve']);
  assert.deepEqual(processorExtensions('nothing'), []);
  assert.ok(processorExtensions().length > 3);
});

test('programs that save registers by XSAVE go to no processor that has more of them', () => {
  const plain = ['sse2', 'xsave'], haswell = [...plain, 'avx', 'avx2'], skylake = [...haswell, 'avx512f', 'xsavec'];
  assert.deepEqual(outgrown(plain, haswell), ['avx']);
  assert.deepEqual(outgrown(haswell, skylake), ['avx512f']);
  assert.deepEqual(outgrown(plain, skylake), ['avx', 'avx512f']);
  assert.deepEqual(outgrown(haswell, plain), []);
  assert.deepEqual(outgrown([...haswell, 'xsavec'], skylake), []); // what is not in use is left out
  assert.deepEqual(outgrown(['sse2'], skylake), []); // by FXSAVE, which always writes the same
  assert.deepEqual(outgrown(processorExtensions()), []);
});
