import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { RouteInfo } from '../kernel/links.ts';
import type { VeRecord } from '../store/types.ts';
import { checkOverlap, defaultUplinks } from './host.ts';
import { linkOf, namesOf } from './names.ts';
import { planOf } from './plan.ts';
import { parsePools } from './pools.ts';

const names = namesOf('t1');

test('uplinks are the links of the default routes, each once, never one of ours', () => {
  const routes: RouteInfo[] = [
    { dst: 'default', dev: 'eth0' }, { dst: 'default', dev: 'eth0' }, { dst: '10.0.0.0/8', dev: 'eth1' },
    { dst: 'default', nexthops: [{ dev: 'wan0' }, { dev: 'wan1' }] }, { dst: 'default', dev: 'vt1-101' }, { dst: 'default', type: 'unreachable', dev: 'lo' },
  ];
  assert.deepEqual(defaultUplinks(routes, names), ['eth0', 'wan0', 'wan1']);
});

test('pools that something else uses are refused', () => {
  const check = (pool: string, links: { ifname: string; local: string }[], routes: RouteInfo[]): void => {
    checkOverlap(parsePools([pool]), links.map(({ ifname, local }) => ({ ifname, addr_info: [{ family: 'inet', local, prefixlen: 24 }] })), routes, names);
  };
  const overlap = { code: 'daemon.instance_overlap' } as const;
  assert.throws(() => check('10.187.0.0/16', [{ ifname: 'eth1', local: '10.187.9.1' }], []), overlap);
  assert.throws(() => check('10.187.0.0/16', [], [{ dst: '10.187.3.0/24', dev: 'tun0' }]), overlap);
  assert.throws(() => check('10.187.0.0/16', [], [{ dst: '10.0.0.0/8', dev: 'eth0' }]), overlap);
  assert.throws(() => check('203.0.113.0/24', [], [{ dst: '203.0.113.0/24', dev: 'eth0' }]), overlap);
  // Ours, the default route, and a public part of the uplink's subnet are no overlap.
  check('10.187.0.0/16', [{ ifname: 'vt1gw', local: '10.187.0.1' }], [{ dst: 'default', dev: 'eth0' }, { dst: '10.187.0.2', dev: 'vt1-101' }, { dst: '10.187.0.0/16', type: 'unreachable', protocol: '118' }]);
  check('203.0.113.128/25', [{ ifname: 'eth0', local: '203.0.113.1' }], [{ dst: '203.0.113.0/24', dev: 'eth0' }]);
});

test('names carry the instance, and fit', () => {
  assert.equal(linkOf(namesOf('abcde'), 12_345_678), 'vabcde-12345678');
  assert.throws(() => linkOf(namesOf('abcde'), 123_456_789), { code: 'network.failed' });
  for (const instance of ['e', 'b', 'z']) assert.throws(() => namesOf(instance), { code: 'settings.invalid' });
});

test('a host without IPv6 gives plans without it; values that are no addresses give none', () => {
  const ve = { number: 101, name: 'web', mac: '02:00:00:00:00:01', addresses: ['10.187.0.2', 'fd5e:1d00:187::2'], properties: { 'network.mtu': 1400 } } as unknown as VeRecord;
  const context = { names, pools: parsePools(['10.187.0.0/16']), ipv6: false, bridgeMtu: () => undefined };
  const { linkBatch, hostBatch, guestBatch, links } = planOf(ve, context);
  assert.equal(links[0]?.mtu, 1400);
  assert.ok(!/fe80|fd5e/.test(linkBatch + hostBatch + guestBatch));
  assert.equal(linkBatch.match(/@PID@/g)?.length, 1);
  assert.throws(() => planOf({ ...ve, addresses: ['1.2.3.4\nlink del eth0'] }, context), { code: 'network.failed' });
  assert.throws(() => planOf({ ...ve, mac: '02:00:00:00:00:01 up' }, context), { code: 'network.failed' });
});
