import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseOpenvzSample } from './openvz-sample.ts';

const parse = (text: string) => parseOpenvzSample(text, 'sample');

test('the basic sample: what there are properties for, and what there are none for', () => {
  const { properties, ignored } = parse([
    '# UBC parameters (in form of barrier:limit)', 'KMEMSIZE="14372700:14790164"', 'PRIVVMPAGES="65536:69632"', 'NUMPROC="240:240"', 'PHYSPAGES="0:unlimited"', 'NUMFILE="9312"',
    '', '# Disk quota parameters', 'DISKSPACE="2G:2.2G"', 'CPUUNITS="1000"', 'ONBOOT="no"',
  ].join('\n'));
  assert.deepEqual(properties, { 'memory.limit': 69_632 * 4096, 'pids.limit': 240, 'cpu.weight': 100, 'boot.start': false });
  assert.deepEqual(ignored, ['KMEMSIZE', 'NUMFILE', 'DISKSPACE']);
});

test('VSwap samples: pages, sizes with a suffix, and numbers that mean no limit', () => {
  assert.deepEqual(parse('PHYSPAGES="0:256M"\nSWAPPAGES="0:512M"\nPRIVVMPAGES="unlimited"\nCPULIMIT=25 # percent\n').properties, { 'memory.limit': 256 << 20, 'memory.swap': 512 << 20, 'cpu.limit': 25 });
  assert.deepEqual(parse('PHYSPAGES="65536:65536"\nPRIVVMPAGES="9223372036854775807"').properties, { 'memory.limit': 256 << 20 });
  assert.deepEqual(parse('PHYSPAGES="2147483647"\nNUMPROC=unlimited\nCPULIMIT="0"\nSWAPPAGES=\'0:9223372036854775807\'').properties, { 'pids.limit': null });
  assert.deepEqual(parse('OOMGUARPAGES="26112:unlimited"').properties, { 'memory.oom_guarantee': 102 << 20 });
  assert.deepEqual(parse('OOMGUARPAGES="unlimited"').properties, { 'memory.oom_guarantee': null });
  assert.deepEqual(parse('CPUUNITS="8"').properties, { 'cpu.weight': 1 });
});

test('what is wrong is said', () => {
  for (const [text, message] of [['NUMPROC="many"', /sample: NUMPROC: "many" is no limit/], ['NUMPROC 240', /line 1: it is not of the form KEY/], ['# ok\nNUMPROC="1', /line 2/], ['NUMPROC="3"', /sample: .*pids\.limit/],
    ['NUMPROC=$(id)', /NUMPROC: /]] as const) {
    assert.throws(() => parse(text), { code: 'preset.invalid', message });
  }
});
