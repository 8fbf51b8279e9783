/** What a VE sends and receives. */
import assert from 'node:assert/strict';
import { until } from '../wait.ts';
import type { Fill } from './fills.ts';
import type { LimitGround } from './ground.ts';

const PORT = 7300;

/** Sends so many bytes for `get N`, and takes as many for `put N`, one connection after the other. */
const TRANSFER = `use IO::Socket; $s = IO::Socket::INET->new(Listen => 5, LocalPort => ${PORT}, ReuseAddr => 1) or die;
while ($c = $s->accept) { $c->autoflush(1); ($w, $n) = split " ", <$c>; if ($w eq "get") { print $c "x" x 65536 for 1 .. $n >> 16 } else { $n -= read $c, $b, 4096 while $n > 0; print $c "done" } close $c }`;

const SIZE = 4 << 20;

/** In how many milliseconds so many bytes went one way. */
async function transfer(ground: LimitGround, what: 'get' | 'put', size = SIZE): Promise<number> {
  const address = (await ground.show(ground.ve)).addresses.find((one) => one.includes('.'));
  return Number(await ground.onHost(`${ground.node}/transfer.ts ${address} ${PORT} ${what} ${size}`));
}

export const NETWORK_FILLS: readonly Fill[] = ([['out', 'get', 'put'], ['in', 'put', 'get']] as const).map(([direction, slow, quick]): Fill => ({
  property: `network.rate.${direction}`,
  over: 'packets are dropped, and TCP slows down',
  counted: 'no',
  async fill(ground) {
    await ground.exec(ground.ve, 'systemd-run', '--quiet', `--unit=transfer-${direction}`, 'perl', '-e', TRANSFER);
    await until('the server', () => transfer(ground, 'get', 65536).then(() => true), 20_000 * ground.slow, 100 * ground.slow);
    await ground.set(ground.ve, { [`network.rate.${direction}`]: '8mbit' });
    const held = await transfer(ground, slow);
    const free = await transfer(ground, quick);
    // A second's worth goes at once.
    assert.ok(held > 2500, `4 MiB at 8 Mbit/s in ${held} ms`);
    assert.ok(free < held, `${free} ms the other way, ${held} this way`);
    await ground.set(ground.ve, { [`network.rate.${direction}`]: '800mbit' });
    const raised = await transfer(ground, slow);
    assert.ok(raised < held, `${raised} ms when raised, ${held} before`);
    await ground.set(ground.ve, { [`network.rate.${direction}`]: null });
    await ground.exec(ground.ve, 'systemctl', 'stop', `transfer-${direction}`);
  },
}));
