/**
 * What it costs that every byte of an image is checked: Veld's download beside curl and sha256sum, its unpacking beside tar, and all of `veld template pull` beside the three of them, in turns, from a
 * server on loopback. Medians, and what Veld takes of the others' time.
 *
 *   node bench/pull.ts [--rounds 7] [--mib 1024]
 *
 * The download is of random bytes, so many MiB; the image is the tree of the tests' template, packed by zstd.
 */
import { execFileSync, spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, mkdirSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createConnection, createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { download } from '../src/templates/sources/download.ts';
import type { Source } from '../src/templates/sources/types.ts';
import { makeKey, packMetadata, writeStreams } from '../src/templates/testing/image-server.ts';
import { unpackArchive } from '../src/templates/unpack.ts';
import { runCommands } from './lib/commands.ts';
import { machineNow, startRun, together } from './lib/together.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '7' }, mib: { type: 'string', default: '1024' } } });
const rounds = Number(values.rounds);
const VELD = join(import.meta.dirname, '../bin/veld');

/** Python's server of files: none that Veld has made. */
async function serve(folder: string): Promise<{ url: string; close(): void }> {
  const port = await new Promise<number>((resolve) => {
    const probe = createServer().listen(0, '127.0.0.1', () => {
      const found = (probe.address() as AddressInfo).port;
      probe.close(() => resolve(found));
    });
  });
  const child = spawn('python3', ['-m', 'http.server', '--bind', '127.0.0.1', '--directory', folder, String(port)], { stdio: 'ignore' });
  for (let tries = 0; ; tries += 1) {
    const open = await new Promise<boolean>((resolve) => {
      const socket = createConnection(port, '127.0.0.1', () => { socket.destroy(); resolve(true); });
      socket.on('error', () => resolve(false));
    });
    if (open) break;
    if (tries > 100) throw new Error('python3 -m http.server does not answer');
    await sleep(50);
  }
  return { url: `http://127.0.0.1:${port}`, close: () => void child.kill() };
}

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk as Buffer);
  return hash.digest('hex');
}

const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;
const timed = async (work: () => Promise<unknown>): Promise<number> => {
  const begin = performance.now();
  await work();
  return performance.now() - begin;
};

const rows: Record<string, { veld: number[]; others: number[] }> = {};
const run = startRun(30 * 60_000);
await together(['veld'], 'boot', run, async (_contestants, veld) => {
  const scratch = mkdtempSync(join(process.env.VELD_BENCH_DIR ?? '/var/tmp', 'veld-pull-'));
  const folder = join(scratch, 'served');
  mkdirSync(join(folder, 'image'), { recursive: true });
  const server = await serve(folder);
  const key = makeKey('bench');
  try {
    const [random, image] = [join(folder, 'random'), join(folder, 'image/root.tar.zst')];
    run.say('packing');
    execFileSync('/bin/sh', ['-c', 'head -c "$1"M /dev/urandom >"$0"', random, values.mib]);
    mkdirSync(join(scratch, 'more'));
    writeFileSync(join(scratch, 'more/image'), 'Not what is there already.\n');
    execFileSync('/bin/sh', ['-c', 'tar --create --format=posix --numeric-owner --xattrs --xattrs-include="*" -C "$1" . -C "$2" ./image | zstd -3 -q -T0 -o "$0"', image, veld.rootfs, join(scratch, 'more')]);
    packMetadata(join(folder, 'image/meta.tar.xz'));
    writeStreams({ folder }, [{ os: 'Bench', release: 'one', versions: { 20260101: [{ ftype: 'incus.tar.xz', path: 'image/meta.tar.xz' }, { ftype: 'root.tar.xz', path: 'image/root.tar.zst' }] } }], key);
    const source: Pick<Source, 'name' | 'urls' | 'ca'> = { name: 'bench', urls: [server.url], ca: null };
    const file = { path: 'random', size: statSync(random).size, sha256: await sha256(random) };
    const there = join(scratch, 'there');
    const begin = async (): Promise<void> => {
      run.signal.throwIfAborted();
      rmSync(there, { recursive: true, force: true });
      mkdirSync(there);
      await runCommands([['sync']], {});
    };
    const note = async (what: string, whose: 'veld' | 'others', work: () => Promise<unknown>): Promise<void> => {
      await begin();
      (rows[what] ??= { veld: [], others: [] })[whose].push(await timed(work));
    };
    mkdirSync(veld.sourcesDir, { recursive: true });
    for (const name of ['ubuntu', 'images', 'openvz']) writeFileSync(join(veld.sourcesDir, `${name}.conf`), '');
    writeFileSync(join(veld.sourcesDir, 'bench.conf'), `protocol=simplestreams\nurl=${server.url}\nkeyring=${key.keyring}\n`);
    for (let round = 1; round <= rounds; round += 1) {
      run.say(`round ${round} of ${rounds}`);
      await note(`download, ${values.mib} MiB`, 'veld', () => download(source, file, join(there, 'file')));
      await note(`download, ${values.mib} MiB`, 'others', () => runCommands([['/bin/sh', '-c', `curl -sf -o ${there}/file ${server.url}/random && echo '${file.sha256}  ${there}/file' | sha256sum -c --quiet`]], {}));
      await note('unpack', 'veld', () => unpackArchive(image, there));
      await note('unpack', 'others', () => runCommands([['/bin/sh', '-c', `zstd -q -d -c ${image} | tar --extract --preserve-permissions --same-owner --numeric-owner --xattrs --xattrs-include='*' -C ${there}`]], {}));
      await note('template pull, whole', 'veld', () => runCommands([[VELD, 'template', 'pull', 'bench:one']], veld.env));
      await runCommands([[VELD, 'template', 'delete', 'bench-one']], veld.env);
      await note('template pull, whole', 'others', () => runCommands([['/bin/sh', '-c', `cd ${there} && curl -sf -O ${server.url}/image/root.tar.zst && sha256sum root.tar.zst >sum && mkdir tree && zstd -q -d -c root.tar.zst | tar --extract --preserve-permissions --same-owner --numeric-owner --xattrs --xattrs-include='*' -C tree && sync -f tree`]], {}));
    }
  } finally {
    server.close();
    key.remove();
    rmSync(scratch, { recursive: true, force: true });
  }
});

const { kernel, cpus, date } = machineNow();
console.log(`\n${date}, Linux ${kernel}, ${cpus} CPUs, ${rounds} rounds; medians, milliseconds\n`);
console.log('| | Veld | curl, sha256sum, tar | Veld by theirs |\n| --- | ---: | ---: | ---: |');
for (const [what, { veld, others }] of Object.entries(rows)) console.log(`| ${what} | ${median(veld).toFixed(0)} | ${median(others).toFixed(0)} | ${(median(veld) / median(others)).toFixed(2)} |`);
