import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { run } from '../lib/run.ts';
import { BASELINE_LEVELS, baselineEnvironment, baselineOf, withBaseline } from './baseline.ts';
import { processorExtensions } from './processor.ts';

const V2 = ['cx16', 'lahf_lm', 'mmx', 'pni', 'popcnt', 'sse', 'sse2', 'sse4_1', 'sse4_2', 'ssse3'];
const HASWELL = [...V2, 'abm', 'aes', 'avx', 'avx2', 'bmi1', 'bmi2', 'f16c', 'fma', 'movbe', 'rdrand', 'xsave', 'xsaveopt'].sort();

test('a level is what it names of what there is', () => {
  const of = (level: string) => baselineOf(level, [], HASWELL, 'x64');
  assert.deepEqual(of('x86-64-v1'), ['mmx', 'sse', 'sse2', 'xsave']);
  assert.deepEqual(of('x86-64-v2'), [...V2, 'xsave']);
  assert.deepEqual(of('x86-64-v4'), HASWELL.filter((name) => !['aes', 'rdrand', 'xsaveopt'].includes(name)));
  assert.deepEqual(BASELINE_LEVELS, ['x86-64-v1', 'x86-64-v2', 'x86-64-v3', 'x86-64-v4']);
});

test('`nodes` is what all of them have, and what nobody can be told is not there stays', () => {
  assert.deepEqual(baselineOf('nodes', [[...V2, 'aes', 'avx'], [...V2, 'aes', 'sse4a']], HASWELL, 'x64'), ['aes', ...V2, 'xsave']);
  assert.deepEqual(baselineOf('nodes', [], HASWELL, 'x64'), HASWELL);
});

test('without a baseline nothing is told, nor where nothing can be', () => {
  assert.equal(baselineOf('host', [], HASWELL, 'x64'), null);
  assert.equal(baselineOf('x86-64-v2', [], ['asimd'], 'arm64'), null);
  assert.deepEqual(baselineEnvironment(null), {});
});

test('all is named that is not in it, also what this processor has not', () => {
  const { GLIBC_TUNABLES, OPENSSL_ia32cap } = baselineEnvironment(V2) as { GLIBC_TUNABLES: string; OPENSSL_ia32cap: string };
  for (const name of ['AVX', 'AVX2', 'AVX2_Usable', 'AVX_Fast_Unaligned_Load', 'AVX512F', 'BMI2', 'FMA', 'XSAVEC', 'MOVBE']) assert.ok(GLIBC_TUNABLES.split(/[=,]/).includes(`-${name}`), name);
  for (const name of ['SSSE3', 'SSE4_2', 'POPCNT', 'XSAVE']) assert.ok(!GLIBC_TUNABLES.split(/[=,]/).includes(`-${name}`), name);
  // pam_env of Debian 11 reads lines of 1023 characters.
  assert.ok(GLIBC_TUNABLES.length < 900, `${GLIBC_TUNABLES.length}`);
  const [first, second] = OPENSSL_ia32cap.split(':').map((word) => BigInt(word.slice(1))) as [bigint, bigint];
  for (const bit of [57n, 60n]) assert.ok(first >> bit & 1n, `${bit}`); // aes, avx
  for (const bit of [41n, 51n, 52n, 55n, 58n]) assert.ok(!(first >> bit & 1n), `${bit}`); // ssse3, sse4_1, sse4_2, popcnt; xsave
  assert.ok(second >> 5n & 1n); // avx2
});

test('who saves registers by XSAVE looks up all functions when it begins', () => {
  assert.equal(baselineEnvironment(V2).LD_BIND_NOW, '1');
  assert.equal(baselineEnvironment([...V2, 'xsavec']).LD_BIND_NOW, undefined);
  assert.equal(withBaseline({}, null).LD_BIND_NOW, undefined);
});

test('tunables that somebody else has set hold beside it', () => {
  const { GLIBC_TUNABLES, A } = withBaseline({ A: '1', GLIBC_TUNABLES: 'glibc.malloc.check=3' }, V2) as { GLIBC_TUNABLES: string; A: string };
  assert.match(GLIBC_TUNABLES, /^glibc\.malloc\.check=3:glibc\.cpu\.hwcaps=-/);
  assert.equal(A, '1');
  assert.deepEqual(withBaseline({ GLIBC_TUNABLES: 'x=y' }, null), { GLIBC_TUNABLES: 'x=y' });
});

const LOADER = '/lib64/ld-linux-x86-64.so.2';

test('glibc does as it is told', { skip: process.arch !== 'x64' || !existsSync(LOADER) || !processorExtensions().includes('avx2') }, async () => {
  // What it takes for usable decides in which folders it looks for libraries, too.
  const levels = async (env: Record<string, string>): Promise<string> => (await run(LOADER, ['--help'], { env })).stdout;
  assert.match(await levels({}), /x86-64-v3 \(supported, searched\)/);
  const told = await levels(baselineEnvironment(baselineOf('x86-64-v2', [])));
  assert.match(told, /x86-64-v2 \(supported, searched\)/);
  assert.doesNotMatch(told, /x86-64-v3 \(supported, searched\)/);
});
