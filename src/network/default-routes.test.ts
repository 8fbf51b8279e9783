import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultRouteLinks } from './default-routes.ts';

const FOUR = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT                                                       
eth0\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0                                                                             
eth1\t0000000A\t00000000\t0001\t0\t0\t0\t000000FF\t0\t0\t0                                                                             
*\t00000000\t00000000\t0200\t0\t0\t9\t00000000\t0\t0\t0                                                                               
`;
const SIX = `fe800000000000000000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000 00000100 00000001 00000000 00000001     eth0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000002 00000400 00000001 00000000 00000003     wlan0
00000000000000000000000000000000 00 00000000000000000000000000000000 00 00000000000000000000000000000000 ffffffff 00000001 00000000 00200200       lo
`;

test('links of default routes, and of no others', () => {
  assert.deepEqual(defaultRouteLinks(FOUR, SIX), ['eth0', 'wlan0']);
  assert.deepEqual(defaultRouteLinks('', ''), []);
});

test('this kernel writes its tables so', () => {
  assert.ok(defaultRouteLinks().every((link) => /^[^\s/]{1,15}$/.test(link)));
});
