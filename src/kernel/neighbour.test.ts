import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { until } from '../../test/lib/wait.ts';
import { announceMac, announceNd, neighbourAdvertisement, rarpQuestion } from './neighbour.ts';

const NAMESPACE = `veldnd${process.pid}`;
const LINK = `vn${process.pid}`;
const MAC = '02:00:00:00:00:01';
const ADDRESS = Buffer.from('20010db8000000000000000000000009', 'hex');
const ip = (...args: string[]): string => execFileSync('ip', args, { encoding: 'utf8' });

after(() => {
  for (const args of [['link', 'del', LINK], ['netns', 'del', NAMESPACE]]) {
    try {
      execFileSync('ip', args, { stdio: 'ignore' });
    } catch { /* never made */ }
  }
});

test('frames, byte for byte', () => {
  const frame = Buffer.from(neighbourAdvertisement(MAC, ADDRESS));
  const sum = frame.subarray(56, 58).toString('hex');
  assert.equal(frame.toString('hex'), [
    '333300000001 020000000001 86dd 60000000 0020 3a ff 20010db8000000000000000000000009 ff020000000000000000000000000001',
    `88 00 ${sum} 20000000 20010db8000000000000000000000009 02 01 020000000001`,
  ].join(' ').replaceAll(' ', ''));
  // RFC 1071: with its sum in it everything together, lengths and protocol too, is 0xffff.
  let all = 32 + 58;
  for (let at = 22; at < frame.length; at += 2) all += frame.readUInt16BE(at);
  assert.equal((all & 0xffff) + (all >>> 16), 0xffff);
  assert.equal(Buffer.from(rarpQuestion(MAC)).toString('hex'), 'ffffffffffff 020000000001 8035 0001 0800 0604 0003 020000000001 00000000 020000000001 00000000'.replaceAll(' ', ''));
});

test('a real neighbour believes it, and a real switch learns', async () => {
  ip('netns', 'add', NAMESPACE);
  ip('link', 'add', LINK, 'address', MAC, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NAMESPACE);
  announceNd(LINK, MAC, ADDRESS); // its link is down
  ip('link', 'set', LINK, 'addrgenmode', 'none', 'up');
  ip('-n', NAMESPACE, 'addr', 'add', '2001:db8::1/64', 'dev', 'eth0', 'nodad');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'up');
  ip('-n', NAMESPACE, 'neigh', 'replace', '2001:db8::9', 'lladdr', '02:00:00:00:00:07', 'dev', 'eth0', 'nud', 'reachable');
  const neighbour = (): string => ip('-n', NAMESPACE, 'neigh', 'show', '2001:db8::9');
  await until('the neighbour to believe it', () => {
    announceNd(LINK, MAC, ADDRESS);
    return neighbour().includes(MAC);
  }, 5000);
  ip('-n', NAMESPACE, 'link', 'add', 'br0', 'type', 'bridge');
  ip('-n', NAMESPACE, 'link', 'set', 'br0', 'up');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'master', 'br0');
  await until('the switch to learn', () => {
    announceMac(LINK, '02:00:00:00:00:05');
    return execFileSync('bridge', ['-n', NAMESPACE, 'fdb', 'show', 'br', 'br0'], { encoding: 'utf8' }).includes('02:00:00:00:00:05');
  }, 5000);
  announceNd('veld-none', MAC, ADDRESS);
  announceMac('veld-none', MAC);
});
