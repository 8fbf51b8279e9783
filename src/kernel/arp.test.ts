import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, test } from 'node:test';
import { answersArp, arpProbe, isArpReply } from './arp.ts';

const NAMESPACE = `veldarp${process.pid}`;
const LINK = `va${process.pid}`;
const ip = (...args: string[]): void => void execFileSync('ip', args);

after(() => {
  for (const args of [['link', 'del', LINK], ['netns', 'del', NAMESPACE]]) {
    try {
      execFileSync('ip', args, { stdio: 'ignore' });
    } catch { /* never made */ }
  }
});

test('the frame of a question, byte for byte', () => {
  assert.equal(Buffer.from(arpProbe('02:00:00:00:00:02', '02:00:00:00:00:01', '192.0.2.9')).toString('hex'),
    '020000000002 020000000001 0806 0001 0800 0604 0001 020000000001 00000000 000000000000 c0000209'.replaceAll(' ', ''));
});

test('what is no answer', () => {
  const answer = arpProbe('02:00:00:00:00:01', '02:00:00:00:00:02', '0.0.0.0');
  answer.set([192, 0, 2, 9], 28);
  assert.equal(isArpReply(answer, '192.0.2.9'), false, 'a question');
  answer[21] = 2;
  assert.equal(isArpReply(answer, '192.0.2.9'), true);
  assert.equal(isArpReply(answer, '192.0.2.10'), false, 'of another address');
  assert.equal(isArpReply(answer.subarray(0, 41), '192.0.2.9'), false, 'cut off');
});

test('a real neighbour', async () => {
  ip('netns', 'add', NAMESPACE);
  ip('link', 'add', LINK, 'address', '02:00:00:00:00:01', 'type', 'veth', 'peer', 'name', 'eth0', 'address', '02:00:00:00:00:02', 'netns', NAMESPACE);
  ip('link', 'set', LINK, 'arp', 'off', 'up');
  const ask = (address: string): Promise<boolean> => answersArp(LINK, '02:00:00:00:00:02', '02:00:00:00:00:01', address, { patience: 50 });
  assert.equal(await ask('192.0.2.9'), false, 'its link is down');
  ip('-n', NAMESPACE, 'addr', 'add', '192.0.2.9/32', 'dev', 'eth0');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'up');
  assert.equal(await ask('192.0.2.9'), true);
  assert.equal(await answersArp(LINK, '02:00:00:00:00:02', '02:00:00:00:00:01', '192.0.2.9', { port: true }), true, 'as a port of a bridge is asked');
  assert.equal(await ask('192.0.2.10'), false, 'an address that it has not');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'down');
  assert.equal(await ask('192.0.2.9'), false, 'it is down again');
  assert.equal(await answersArp('veld-none', '02:00:00:00:00:02', '02:00:00:00:00:01', '192.0.2.9'), false, 'no such link');
});
