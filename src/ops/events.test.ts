import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { createEventBus } from './events.ts';

describe('event bus', () => {
  it('tells listeners in order, until they leave', () => {
    const bus = createEventBus();
    const heard: string[] = [];
    const stop = bus.subscribe((event) => heard.push(`1 ${event.type} ${event.seq}`));
    bus.subscribe((event) => heard.push(`2 ${event.type} ${event.seq}`));
    bus.emit('a', { ve: 'u', data: { x: 1 } });
    stop();
    stop();
    bus.emit('b');
    assert.deepEqual(heard, ['1 a 1', '2 a 1', '2 b 2']);
    assert.deepEqual(bus.since(0).map(({ seq, type, ve, data }) => [seq, type, ve, data]), [[1, 'a', 'u', { x: 1 }], [2, 'b', undefined, undefined]]);
  });

  it('keeps the last thousand', () => {
    const bus = createEventBus();
    for (let i = 0; i < 1500; i += 1) bus.emit('x');
    assert.deepEqual([bus.last, bus.since(0).length, bus.since(0)[0]?.seq, bus.since(1499).length, bus.since(1500)], [1500, 1000, 501, 1, []]);
  });

  it('survives a listener that throws, leaves, or speaks itself', () => {
    const errors: unknown[] = [];
    const bus = createEventBus((error) => errors.push(error));
    const boom = new Error('boom');
    const heard: string[] = [];
    bus.subscribe(() => { throw boom; });
    const stop = bus.subscribe((event) => {
      stop();
      if (event.type === 'a') bus.emit('b');
    });
    bus.subscribe((event) => heard.push(event.type));
    bus.emit('a');
    assert.deepEqual([errors, heard.toSorted()], [[boom, boom], ['a', 'b']]);
  });
});
