/**
 * What a live migration costs: how long a VE stands, what a client notices, and how long all of it takes.
 *
 *   node bench/migrate.ts [--rounds 10] [--memory 0,300] [--changing 0] [--bandwidth 0] [--evacuate 0] [--json]
 *
 * Makes two nodes of its own on this machine, pairs them by the loopback, and moves one VE there and back, for each amount of memory (MiB of random bytes that one
 * process in the VE keeps) and each rate at which that is changed (MiB of pages a second), while a client asks a question every 2 ms over one TCP connection. Beside that, in the same
 * minutes, the limit: the same VE suspended and resumed where it is, which writes and reads the same state. With --bandwidth no more than so many MiB a second are
 * sent, and all of it is compared with what so many bytes take at that rate. With --evacuate so many VEs that do nothing are moved by one `veld evacuate`. Medians; milliseconds.
 */
import { parseArgs } from 'node:util';
import { buildCache } from '../test/lib/cache.ts';
import { startInstance } from '../test/lib/instance.ts';
import { makeNode, pair } from '../test/lib/nodes.ts';
import { writeGuard } from '../test/lib/guard.ts';
import { serveTalk, talkTo } from '../test/lib/talk.ts';
import { until } from '../test/lib/wait.ts';
import type { MigrateResult, StandingPhases } from '../src/migration/types.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '10' }, memory: { type: 'string', default: '0,300' }, changing: { type: 'string', default: '0' }, bandwidth: { type: 'string', default: '0' }, evacuate: { type: 'string', default: '0' }, json: { type: 'boolean', default: false } } });
process.env.VELD_TEST_OK ??= writeGuard();
/** Bytes a second; 0: as many as go. */
const BANDWIDTH = Number(values.bandwidth) * 2 ** 20;
/** Keeps so many MiB; of so many a second it changes a byte in each page. */
const KEEPER = `($mib, $rate) = @ARGV; open my $r, "<", "/dev/urandom"; my @m; for (1 .. $mib) { read $r, my $b, 1 << 20; push @m, $b } open my $f, ">", "/run/filled"; close $f;
sleep 1 while !$rate; while (1) { for (1 .. $rate / 10) { $at = ($at + 1) % $mib; for (my $i = 0; $i < 1 << 20; $i += 4096) { substr($m[$at], $i, 1) = chr(++$n & 255) } } select undef, undef, undef, 0.1 }`;
const settings = (own: { network: { uplinks: string[] }; log: { level: string } }): void => {
  own.network.uplinks = ['lo'];
  own.log.level = 'info';
};
const median = (all: readonly number[]): number => Math.round(all.toSorted((x, y) => x - y)[all.length >> 1] ?? Number.NaN);

await buildCache(() => startInstance({ noTemplate: true }), (line) => process.stderr.write(`${line}\n`));
const a = await makeNode('alpha', { settings });
const b = await makeNode('beta', { settings });
try {
  await a.start();
  await b.start();
  await pair(a, b, 'beta');
  const rows: Record<string, number>[] = [];
  const cases = values.memory.split(',').map(Number).flatMap((memory) => (memory === 0 ? [0] : values.changing.split(',').map(Number)).map((changing) => ({ memory, changing })));
  for (const { memory, changing } of cases) {
    await a.createRunning('web');
    await serveTalk(a, 'web');
    if (memory > 0) {
      await a.exec('web', 'systemd-run', '--quiet', 'perl', '-e', KEEPER, String(memory), String(changing));
      await until('its memory to be full', async () => (await a.exec('web', 'test', '-e', '/run/filled')).exitCode === 0, 60_000);
    }
    const talk = await talkTo((await a.show('web')).addresses[0]!);
    await talk.goesOn();
    const times = { stood: [] as number[], gap: [] as number[], took: [] as number[], bytes: [] as number[], local: [] as number[], ideal: [] as number[], dump: [] as number[], disk: [] as number[], state: [] as number[], restore: [] as number[] };
    for (let round = 0; round < Number(values.rounds); round++) {
      const [from, to] = round % 2 === 0 ? [a, 'beta'] as const : [b, 'alpha'] as const;
      talk.longest();
      const { stood, took, bytes, phases } = (await from.api.operate('POST', '/v1/ves/web/migrate', { node: to, ...BANDWIDTH > 0 && { bandwidth: BANDWIDTH } })).result as MigrateResult;
      for (const [phase, ms] of Object.entries(phases!)) times[phase as keyof StandingPhases].push(ms);
      await talk.goesOn();
      times.gap.push(talk.longest());
      times.stood.push(stood!);
      times.took.push(took);
      times.bytes.push(bytes / (1 << 20));
      if (BANDWIDTH > 0) times.ideal.push(took / (bytes / BANDWIDTH * 1000) * 100);
      const there = round % 2 === 0 ? b : a;
      const since = performance.now();
      await there.api.operate('POST', '/v1/ves/web/suspend');
      await there.api.operate('POST', '/v1/ves/web/resume');
      times.local.push(performance.now() - since);
      await talk.goesOn();
    }
    talk.end();
    rows.push({ 'MiB of memory': memory, 'of which a second changes': changing, 'stood, ms': median(times.stood), 'longest silence of the client, ms': median(times.gap), 'all, ms': median(times.took), 'sent, MiB': median(times.bytes), ...BANDWIDTH > 0 && { 'all, of bytes / bandwidth, %': median(times.ideal) }, 'suspend and resume here, ms': median(times.local), '  of standing: dump': median(times.dump), '  disk': median(times.disk), '  state': median(times.state), '  restore': median(times.restore) });
    const [last] = Number(values.rounds) % 2 === 0 ? [a] : [b];
    await last.api.operate('DELETE', '/v1/ves/web?force=true');
  }
  const many = Number(values.evacuate);
  if (many > 0) {
    for (let i = 0; i < many; i++) await a.createRunning(`idle${i}`);
    for (let i = 0; i < many; i++) await a.booted(`idle${i}`);
    const since = performance.now();
    const { code, stderr } = await a.cli('evacuate', 'beta');
    if (code !== 0) throw new Error(stderr);
    rows.push({ 'VEs evacuated': many, 'all, ms': Math.round(performance.now() - since) });
  }
  if (values.json) process.stdout.write(`${JSON.stringify(rows, null, 2)}\n`);
  else for (const row of rows) process.stdout.write(`${Object.entries(row).map(([what, figure]) => `${what.padEnd(36)} ${figure}`).join('\n')}\n\n`);
} finally {
  await Promise.all([a.destroy(), b.destroy()]);
}
