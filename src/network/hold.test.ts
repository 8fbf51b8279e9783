import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { after, test } from 'node:test';
import { until } from '../../test/lib/wait.ts';
import { holdPackets } from './hold.ts';

const NAMESPACE = `veldhold${process.pid}`;
const [LINK, HOLD] = [`vh${process.pid}`, `vw${process.pid}`];
const ip = (...args: string[]): void => void execFileSync('ip', args, { stdio: 'pipe' });

after(() => {
  for (const args of [['link', 'del', LINK], ['netns', 'del', NAMESPACE]]) {
    try {
      ip(...args);
    } catch { /* never made */ }
  }
});

/** A link to a namespace, as a VE has one. */
function connect(): void {
  ip('link', 'add', LINK, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', NAMESPACE);
  ip('link', 'set', LINK, 'up');
  ip('-n', NAMESPACE, 'addr', 'add', '198.18.77.2/32', 'dev', 'eth0');
  ip('-n', NAMESPACE, 'link', 'set', 'eth0', 'up');
  ip('-n', NAMESPACE, 'route', 'add', 'default', 'dev', 'eth0');
  ip('route', 'add', '198.18.77.2/32', 'dev', LINK);
}

test('datagrams to one that is away wait, and arrive in their order when it is back; the link goes with that', async () => {
  ip('netns', 'add', NAMESPACE);
  connect();
  const hold = await holdPackets(HOLD, ['198.18.77.2/32', '2001:db8:77::2/128']);
  ip('link', 'del', LINK);
  const socket = createSocket('udp4');
  const send = (text: string): Promise<void> => new Promise((done) => { socket.send(text, 7777, '198.18.77.2', () => done()); });
  for (let i = 0; i < 20; i++) await send(`${i} `);
  connect();
  // (perl is in every Debian; the server says what it has got when nothing more comes.)
  const listener = spawn('ip', ['netns', 'exec', NAMESPACE, 'perl', '-MIO::Socket::INET', '-e', '$| = 1; $s = IO::Socket::INET->new(LocalPort => 7777, Proto => "udp") or die; print "up "; while (1) { $s->recv($b, 99); print $b }'], { stdio: ['ignore', 'pipe', 'inherit'] });
  let heard = '';
  listener.stdout.setEncoding('utf8').on('data', (text: string) => { heard += text; });
  try {
    await until('the listener', () => heard !== '');
    assert.ok(hold.release() >= 20); // the kernel has said hello, too
    await until('all of them', () => heard.includes('19 '));
    assert.equal(heard, `up ${Array.from({ length: 20 }, (_, i) => `${i} `).join('')}`);
    await send('directly ');
    await until('the last', () => heard.includes('directly'));
    assert.throws(() => ip('link', 'show', HOLD));
  } finally {
    listener.kill();
    socket.close();
  }
});
