import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createGate } from './gate.ts';

test('shared work runs side by side, other work alone and in order', async () => {
  const gate = createGate();
  const log: string[] = [];
  const work = (name: string) => async (): Promise<string> => {
    log.push(`+${name}`);
    await new Promise((resolve) => { setImmediate(resolve); });
    log.push(`-${name}`);
    return name;
  };
  const all = [gate.shared(work('a')), gate.shared(work('b'))];
  await Promise.resolve();
  all.push(gate.alone(work('C')), gate.alone(work('D')), gate.shared(work('e')), gate.shared(work('f')));
  assert.deepEqual(await Promise.all(all), ['a', 'b', 'C', 'D', 'e', 'f']);
  assert.equal(log.join(' '), '+a +b -a -b +C -C +D -D +e +f -e -f');
});

test('what fails holds nothing up', async () => {
  const gate = createGate();
  const failing = (): Promise<never> => Promise.reject(new Error('no'));
  await assert.rejects(gate.shared(failing), /no/);
  await assert.rejects(gate.alone(failing), /no/);
  assert.equal(await gate.alone(() => Promise.resolve(1)), 1);
  assert.equal(await gate.shared(() => Promise.resolve(2)), 2);
});
