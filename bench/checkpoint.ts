/**
 * What checkpoints cost: how long a VE stands still for a client that talks to it every millisecond, and how long the operations take.
 *
 *   node bench/checkpoint.ts [--rounds 10] [--template NAME] [--memory 0,300] [--open-file MIB] [--json]
 *
 * To be run against a daemon from the bundle, on a machine with nothing else to do. For each amount of memory (MiB of random bytes, which one process in
 * the VE keeps) a VE is made; in each round it is suspended and resumed, and kept as a live snapshot, while a client sends a number over one TCP
 * connection as soon as the last one came back. The gap is the longest time between two answers. Beside them the physical limit in the same minute: as much
 * memory copied once in memory, and written to the state folder's disk until it is there (fsync); medians of three. With
 * --open-file a process of the VE has a file of that size on its disk open for writing, as databases do.
 */
import { randomFillSync } from 'node:crypto';
import { closeSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { connect } from 'node:net';
import { parseArgs } from 'node:util';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../src/client/client.ts';
import { loadSettings } from '../src/lib/settings.ts';
import type { VeDetail } from '../src/ve/types.ts';

const { values } = parseArgs({
  options: { rounds: { type: 'string', default: '10' }, template: { type: 'string' }, memory: { type: 'string', default: '0,300' }, 'open-file': { type: 'string', default: '0' }, json: { type: 'boolean', default: false } },
});
const settings = loadSettings();
const client = createClient(settings.socket);
const rounds = Number(values.rounds);
/** MiB. */
const openFile = Number(values['open-file']);
const name = `bench-${process.pid}`;
const rows: Record<string, string | number>[] = [];

/** Echoes lines. */
const SERVER = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@; '
  + 'my $c = $s->accept; $c->autoflush(1); while (<$c>) { print $c $_ }';
const KEEPER = 'open my $r, "<", "/dev/urandom"; my @m; for (1 .. shift) { read $r, my $b, 1 << 20; push @m, $b } open my $f, ">", "/run/filled"; close $f; sleep 1 while 1';

async function run(ve: string, ...command: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await client.request<{ exitCode: number; stdout: string; stderr: string }>('POST', `/v1/ves/${ve}/exec`, { command });
  if (exitCode !== 0) throw new Error(`${command.join(' ')}: ${stderr}`);
  return stdout;
}

/** A conversation that is looked at for its longest silence. */
async function talk(address: string): Promise<{ goesOn(): Promise<void>; longest(): number; end(): void }> {
  const socket = connect(7000, address);
  await new Promise((done, fail) => { socket.once('connect', done); socket.once('error', fail); });
  socket.setNoDelay(true);
  let last = performance.now();
  let longest = 0;
  let number = 0;
  /** Called with each answer. */
  let heard = (): void => {};
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => {
    if (text.trim() !== String(number)) throw new Error(`${text.trim()} came back for ${number}`);
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    number += 1;
    heard();
    setTimeout(() => socket.write(`${number}\n`), 1);
  });
  socket.write('0\n');
  return {
    async goesOn() {
      const enough = number + 20;
      await new Promise<void>((done) => { heard = () => { if (number >= enough) done(); }; });
    },
    longest() {
      const found = longest;
      longest = 0;
      return found;
    },
    end: () => socket.destroy(),
  };
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const since = performance.now();
  await work();
  return performance.now() - since;
}

/** Bytes of a piece that is copied or written. */
const PIECE = 16 << 20;

/** Milliseconds for that many MiB at the speed of the memory, and of the disk. */
function physicalLimit(memory: number): { copied: number; written: number } {
  const from = randomFillSync(Buffer.alloc(PIECE));
  const pieces = Math.ceil(memory * 2 ** 20 / PIECE);
  const to = Buffer.alloc(PIECE, 1);
  const times = (work: () => void): number => median(Array.from({ length: 3 }, () => {
    const since = performance.now();
    work();
    return performance.now() - since;
  }));
  const file = join(settings.stateDir, `bench-${process.pid}`);
  const write = (): void => {
    const fd = openSync(file, 'w', 0o600);
    for (let i = 0; i < pieces; i++) writeSync(fd, from);
    fsyncSync(fd);
    closeSync(fd);
    rmSync(file);
  };
  return { copied: times(() => { for (let i = 0; i < pieces; i++) from.copy(to); }), written: times(write) };
}

async function measure(template: string, memory: number): Promise<void> {
  await client.operation('POST', '/v1/ves', { name, template, start: true });
  try {
    const ve = await client.request<VeDetail>('GET', `/v1/ves/${name}`);
    while (!/^(running|degraded)/.test((await client.request<{ stdout: string }>('POST', `/v1/ves/${name}/exec`, { command: ['systemctl', 'is-system-running'] })).stdout)) await sleep(100);
    await run(name, 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
    if (memory > 0) {
      await run(name, 'systemd-run', '--quiet', '--unit=keeper', 'perl', '-e', KEEPER, String(memory));
      while ((await client.request<{ exitCode: number }>('POST', `/v1/ves/${name}/exec`, { command: ['test', '-e', '/run/filled'] })).exitCode !== 0) await sleep(100);
    }
    if (openFile > 0) {
      await run(name, 'sh', '-c', `dd if=/dev/urandom of=/root/open bs=1M count=${openFile} status=none`);
      await run(name, 'systemd-run', '--quiet', '--unit=holder', 'sh', '-c', 'exec 3<>/root/open; exec sleep 1000000');
    }
    await sleep(1000);
    const conversation = await talk(ve.addresses[0]!);
    const figures: Record<string, number[]> = { suspend: [], resume: [], 'suspend + resume, gap': [], 'live snapshot': [], 'live snapshot, gap': [] };
    for (let round = 0; round < rounds; round++) {
      await conversation.goesOn();
      conversation.longest();
      figures.suspend!.push(await timed(() => client.operation('POST', `/v1/ves/${name}/suspend`)));
      figures.resume!.push(await timed(() => client.operation('POST', `/v1/ves/${name}/resume`)));
      await conversation.goesOn();
      figures['suspend + resume, gap']!.push(conversation.longest());
      figures['live snapshot']!.push(await timed(() => client.operation('POST', `/v1/ves/${name}/snapshots`, { name: `s${round}`, live: true })));
      await conversation.goesOn();
      figures['live snapshot, gap']!.push(conversation.longest());
      await client.operation('DELETE', `/v1/ves/${name}/snapshots/s${round}`);
    }
    conversation.end();
    rows.push({ 'MiB of memory': memory, ...openFile > 0 && { 'MiB of a file open for writing': openFile }, ...Object.fromEntries(Object.entries(figures).map(([what, all]) => [what, Math.round(median(all))])) });
    const cloned = await timed(() => client.operation('POST', `/v1/ves/${name}/clone`, { name: `${name}-clone`, live: true })).catch((error: unknown) => `fails: ${(error as Error).message}`);
    rows.at(-1)!['live clone'] = typeof cloned === 'number' ? Math.round(cloned) : cloned;
    if (memory > 0) {
      const { copied, written } = physicalLimit(memory);
      Object.assign(rows.at(-1)!, { 'as much copied in memory': Math.round(copied), 'as much written to disk': Math.round(written) });
    }
  } finally {
    for (const ve of [name, `${name}-clone`]) await client.operation('DELETE', `/v1/ves/${ve}?force=true`).catch(() => {});
  }
}

const template = values.template ?? (await client.request<{ name: string }[]>('GET', '/v1/templates'))[0]?.name;
if (template === undefined) throw new Error('there is no template: run ./quickstart first');
for (const memory of values.memory.split(',').map(Number)) await measure(template, memory);
if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
else for (const row of rows) process.stdout.write(`${Object.entries(row).map(([what, figure]) => `${what.padEnd(24)} ${figure}`).join('\n')}\n\n`);

function median(all: readonly number[]): number {
  return all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;
}
