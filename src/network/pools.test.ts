import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createAllocator, parsePools } from './pools.ts';

const none: ReadonlySet<string> = new Set();

test('each pool gives its next free address, never its first two or IPv4\'s last', () => {
  const allocator = createAllocator(parsePools(['10.9.0.0/29', 'fd09::/64']));
  const taken = new Set<string>();
  const given: string[] = [];
  for (let i = 0; i < 5; i++) {
    const addresses = allocator.allocate(undefined, taken);
    given.push(addresses.join());
    for (const address of addresses) taken.add(address);
  }
  assert.deepEqual(given, ['10.9.0.2,fd09::2', '10.9.0.3,fd09::3', '10.9.0.4,fd09::4', '10.9.0.5,fd09::5', '10.9.0.6,fd09::6']);
  assert.throws(() => allocator.allocate(undefined, taken), { code: 'address.none_free', message: /10\.9\.0\.0\/29/ });
  taken.delete('10.9.0.3');
  assert.equal(allocator.allocate(undefined, taken)[0], '10.9.0.3');
});

test('a new daemon skips what is taken', () => {
  const taken = new Set(Array.from({ length: 200 }, (_, i) => `10.9.0.${i + 2}`));
  assert.deepEqual(createAllocator(parsePools(['10.9.0.0/24'])).allocate(undefined, taken), ['10.9.0.202']);
});

test('addresses by hand are checked, and get their one text', () => {
  const allocator = createAllocator(parsePools(['10.9.0.0/24', 'fd09::/64']));
  const allocate = (wanted: string[], taken: ReadonlySet<string>): string[] => allocator.allocate(wanted, taken);
  assert.deepEqual(allocate(['10.9.0.7', 'FD09:0::0:a', '192.0.2.200'], none), ['10.9.0.7', 'fd09::a', '192.0.2.200']);
  assert.deepEqual(allocate([], none), []);
  const wrong = ['10.9.0.0', '10.9.0.255', 'fd09::', '127.0.0.1', '::1', '::', '0.0.0.0', '224.0.0.1', 'ff02::1', '255.255.255.255', '169.254.1.1', 'fe80::1',
    '::ffff:10.0.0.1', '10.9.0.7/24', 'x', '10.9.0.9\nroute add default'];
  for (const address of wrong) assert.throws(() => allocate([address], none), { code: 'property.invalid' }, address);
  for (const address of ['10.9.0.1', 'fd09::1']) assert.throws(() => allocate([address], none), { code: 'address.taken', message: /host's own/ }, address);
  assert.throws(() => allocate(['fd09:0::7'], new Set(['fd09::7'])), { code: 'address.taken' });
  assert.throws(() => allocate(['10.9.0.7', '10.9.0.7'], none), { code: 'property.invalid', message: /twice/ });
});

test('the host\'s own address is refused', async () => {
  const { networkInterfaces } = await import('node:os');
  const own = Object.values(networkInterfaces()).flat().find((info) => info && !info.internal && info.family === 'IPv4');
  if (!own) return;
  assert.throws(() => createAllocator([]).allocate([own.address], none), { code: 'address.taken', message: /host's own/ });
});

test('pools that overlap, or cannot be pools, are refused', () => {
  for (const pools of [['10.0.0.0/8', '10.9.0.0/24'], ['127.0.0.0/24'], ['fe80::/64'], ['224.0.0.0/8'], ['10.0.0.0/40'], ['x']]) {
    assert.throws(() => parsePools(pools), { code: 'settings.invalid' }, pools.join());
  }
  assert.deepEqual(parsePools(['10.0.0.0/8', '203.0.113.0/24', '172.32.0.0/16', '100.64.0.0/12', 'fd00::/64', '2001:db8::/64']).map((pool) => pool.private), [true, false, false, true, true, false]);
});
