/** While a VE goes to the disk nobody answers in its place: what the kernel does to its network then must not end a client's connection. */
import assert from 'node:assert/strict';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const operate = (verb: string) => veld.api.operate('POST', `/v1/ves/web/${verb}`);

/** Rounds of each way in which processes go to the disk. */
const ROUNDS = 4;
/** Datagrams between two looks at what has come back. */
const BURST = 20;

/** Takes what comes to a port, and says nothing. */
const SINK = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Proto => "udp", V6Only => 0) or die $@; while (1) { $s->recv(my $data, 100) }';

test('datagrams that come all the time are never answered by "port unreachable"', async () => {
  const { addresses } = await veld.createRunning('web');
  assert.equal(await veld.booted('web'), 'running');
  const { exitCode, stderr } = await veld.exec('web', 'systemd-run', '--quiet', '--unit=sink', 'perl', '-e', SINK);
  assert.equal(exitCode, 0, stderr);
  await until('the port to be taken', async () => (await veld.exec('web', 'grep', '-qi', ':1B58 ', '/proc/net/udp6')).exitCode === 0);

  const socket = createSocket('udp4');
  socket.connect(7000, addresses.find((address) => address.includes('.')));
  await once(socket, 'connect');
  const errors = new Map<string, number>();
  socket.on('error', ({ message }) => { errors.set(message, (errors.get(message) ?? 0) + 1); });
  const over = new AbortController();
  let sent = 0;
  const flood = (async (): Promise<void> => {
    for (const data = Buffer.from('x'); !over.signal.aborted; await nextTurn()) {
      for (let i = 0; i < BURST; i++) socket.send(data, (error) => { if (error) errors.set(error.message, (errors.get(error.message) ?? 0) + 1); });
      sent += BURST;
    }
  })();
  try {
    for (let round = 0; round < ROUNDS; round++) {
      await operate('suspend');
      await operate('resume');
      await veld.api.operate('POST', '/v1/ves/web/snapshots', { name: `s${round}`, live: true });
    }
  } finally {
    over.abort();
    await flood;
    socket.close();
  }
  assert.ok(sent > 10_000, `${sent} datagrams`);
  // (That there is no way to it, a sender may hear: its connections go on after that.)
  const answers = [...errors].filter(([message]) => message.includes('ECONNREFUSED'));
  assert.deepEqual(answers, [], `of ${sent} datagrams`);
});
