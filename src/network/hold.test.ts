import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { after, test, type TestContext } from 'node:test';
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

/** A process there that takes datagrams (perl is in every Debian). @returns what it has heard so far */
async function listen(t: TestContext): Promise<() => string> {
  const listener = spawn('ip', ['netns', 'exec', NAMESPACE, 'perl', '-MIO::Socket::INET', '-e', '$| = 1; $s = IO::Socket::INET->new(LocalPort => 7777, Proto => "udp") or die; print "up "; while (1) { $s->recv($b, 99); print $b }'], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => listener.kill());
  let heard = '';
  listener.stdout.setEncoding('utf8').on('data', (text: string) => { heard += text; });
  await until('the listener', () => heard !== '');
  return () => heard;
}

/** What sends datagrams. */
function sender(t: TestContext): (text: string) => Promise<void> {
  const socket = createSocket('udp4');
  t.after(() => socket.close());
  return (text) => new Promise((done) => { socket.send(text, 7777, '198.18.77.2', () => done()); });
}

test('datagrams to one that is away wait, and arrive in their order when it is back; the link goes with that', async (t) => {
  ip('netns', 'add', NAMESPACE);
  connect();
  const hold = await holdPackets(HOLD, ['198.18.77.2/32', '2001:db8:77::2/128']);
  ip('link', 'del', LINK);
  const send = sender(t);
  for (let i = 0; i < 20; i++) await send(`${i} `);
  connect();
  const heard = await listen(t);
  assert.ok(hold.release() >= 20); // the kernel has said hello, too
  await until('all of them', () => heard().includes('19 '));
  assert.equal(heard(), `up ${Array.from({ length: 20 }, (_, i) => `${i} `).join('')}`);
  await send('directly ');
  await until('the last', () => heard().includes('directly'));
  assert.throws(() => ip('link', 'show', HOLD));
});

test('and go after one that will not be back, by a route that is wider', async (t) => {
  const heard = await listen(t);
  const hold = await holdPackets(HOLD, ['198.18.77.2/32']);
  ip('route', 'add', '198.18.77.0/24', 'dev', LINK);
  ip('route', 'del', '198.18.77.2/32', 'dev', LINK);
  const send = sender(t);
  for (let i = 0; i < 20; i++) await send(`${i} `);
  assert.equal(heard(), 'up ');
  assert.ok(await hold.sendOn() >= 20);
  await until('all of them', () => heard().includes('19 '));
  assert.equal(heard(), `up ${Array.from({ length: 20 }, (_, i) => `${i} `).join('')}`);
  assert.throws(() => ip('link', 'show', HOLD));
});
