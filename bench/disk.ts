/**
 * What disks of VEs cost: Veld on the host's own file system, on btrfs and with an image for each VE, Incus with a pool of btrfs and one of plain folders, in turns, by the commands that a person types.
 *
 *   node bench/disk.ts [--rounds 5] [--only veld,incus] [--mib 1024]
 *
 * Two VEs of each place hold so many MiB of random bytes beside their system: one that runs, and one at rest. In each round a VE is made, the one at rest is cloned, kept as a snapshot and rolled back, the
 * one that runs is kept as a snapshot (Veld's holds its processes, too; Incus' does not), and what was made is deleted. Then each that runs writes half as many MiB to a file and has it brought to the disk
 * (dd, fsync), beside the same on the host in the file system below. Medians.
 */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { TEMPLATE } from '../test/lib/cache.ts';
import type { Command, Contestant } from './contestants/types.ts';
import { runCommands } from './lib/commands.ts';
import { machineNow, namesIn, startRun, together } from './lib/together.ts';

const { values } = parseArgs({ options: { rounds: { type: 'string', default: '5' }, only: { type: 'string', default: 'veld,incus' }, mib: { type: 'string', default: '1024' } } });
const rounds = Number(values.rounds);
const mib = Number(values.mib);
const VELD = join(import.meta.dirname, '../bin/veld');

/** Somewhere that disks of VEs lie. */
interface Place {
  title: string;
  env: Readonly<Record<string, string>>;
  prepare: Command[];
  create(ve: string, start: boolean): Command[];
  clone(model: string, ve: string): Command[];
  keep(ve: string, running: boolean): Command[];
  back(ve: string): Command[];
  forget(ve: string): Command[];
  destroy(ve: string): Command[];
  stop(ve: string): Command[];
  inside(ve: string, command: string): Command;
  /** Folder of the file system below. */
  host: string;
  /** What is taken away at the end, beside VEs. */
  clear: Command[];
}

function veldPlace({ env }: Contestant, pool: string, title: string, host: string): Place {
  const made = pool === 'btrfs' ? ['--image-size', '20G', '--fs', 'btrfs', '--path', join(host, '..')] : ['--driver', 'image', '--image-size', '10G', '--path', host];
  const [own, prepare, clear]: [string[], Command[], Command[]] = pool === 'default' ? [[], [], []] : [['--set', `disk.pool=${pool}`], [[VELD, 'pool', 'create', pool, ...made]], [[VELD, 'pool', 'delete', pool]]];
  return {
    title, env, prepare, clear, host,
    create: (ve, start) => [[VELD, 'create', ve, '--template', TEMPLATE, ...own, ...start ? ['--start'] : []]],
    clone: (model, ve) => [[VELD, 'clone', model, ve]],
    keep: (ve, running) => [[VELD, 'snapshot', 'create', ve, 'kept', ...running ? ['--live'] : []]],
    back: (ve) => [[VELD, 'snapshot', 'restore', ve, 'kept']],
    forget: (ve) => [[VELD, 'snapshot', 'delete', ve, 'kept']],
    destroy: (ve) => [[VELD, 'destroy', '--yes', '--force', ve]],
    stop: (ve) => [[VELD, 'stop', '--force', ve]],
    inside: (ve, command) => [VELD, 'exec', '-T', ve, '--', 'sh', '-c', command],
  };
}

function incusPlace({ env }: Contestant, pool: string, title: string, host: string): Place {
  return {
    title, env, host,
    prepare: pool === 'bench' ? [] : [['incus', 'storage', 'create', pool, 'dir']], clear: pool === 'bench' ? [] : [['incus', 'storage', 'delete', pool]],
    create: (ve, start) => [['incus', start ? 'launch' : 'init', 'bench', ve, '--storage', pool]],
    clone: (model, ve) => [['incus', 'copy', model, ve, '--storage', pool]],
    keep: (ve) => [['incus', 'snapshot', 'create', ve, 'kept']],
    back: (ve) => [['incus', 'snapshot', 'restore', ve, 'kept']],
    forget: (ve) => [['incus', 'snapshot', 'delete', ve, 'kept']],
    destroy: (ve) => [['incus', 'delete', '--force', ve]],
    stop: (ve) => [['incus', 'stop', '--force', ve]],
    inside: (ve, command) => ['incus', 'exec', ve, '--', 'sh', '-c', command],
  };
}

const figures = new Map<string, Map<string, number[]>>();
function note(what: string, place: Place, figure: number): void {
  const row = figures.get(what) ?? new Map<string, number[]>();
  figures.set(what, row);
  row.set(place.title, [...row.get(place.title) ?? [], figure]);
}
const median = (all: readonly number[]): number => all.toSorted((a, b) => a - b)[all.length >> 1] ?? Number.NaN;

const run = startRun(45 * 60_000);
const only = namesIn(values.only);
const places: Place[] = [];
await together(only, 'boot', run, async (contestants) => {
  const veld = contestants.find(({ name }) => name === 'veld');
  const incus = contestants.find(({ name }) => name === 'incus');
  const base = process.env.VELD_BENCH_DIR ?? '/var/tmp/veld-bench';
  const scratch = join(base, 'disk');
  const images = join(scratch, 'images');
  mkdirSync(images, { recursive: true });
  if (veld) places.push(veldPlace(veld, 'default', 'veld, ext4', scratch), veldPlace(veld, 'btrfs', 'veld, btrfs', join(scratch, 'pool', 'root')), veldPlace(veld, 'images', 'veld, images', images));
  if (incus) places.push(incusPlace(incus, 'bench', 'incus, btrfs', join(base, 'incus/storage-pools/bench')), incusPlace(incus, 'bench-dir', 'incus, dir', scratch));
  const each = async (work: (place: Place, name: (word: string) => string) => Promise<void>): Promise<void> => {
    for (const [i, place] of places.entries()) {
      run.signal.throwIfAborted();
      await work(place, (word) => `${word}${i}`);
    }
  };
  const timed = async (what: string, place: Place, commands: Command[]): Promise<void> => note(what, place, await runCommands(commands, place.env));
  try {
    await each(async (place, name) => {
      run.say(`${place.title}: VEs with ${mib} MiB`);
      await runCommands(place.prepare, place.env);
      for (const ve of [name('runs'), name('rests')]) await runCommands([...place.create(ve, true), place.inside(ve, `until systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; do sleep 0.2; done; head -c ${mib}M /dev/urandom >/srv/data; sync`)], place.env);
      await runCommands(place.stop(name('rests')), place.env);
    });
    for (let round = 1; round <= rounds; round++) {
      run.say(`round ${round} of ${rounds}`);
      await each(async (place, name) => {
        await timed('create', place, place.create(name('made'), false));
        await timed('clone of one at rest', place, place.clone(name('rests'), name('clone')));
        await timed('delete the clone', place, place.destroy(name('clone')));
        await runCommands(place.destroy(name('made')), place.env);
        await timed('snapshot of one at rest', place, place.keep(name('rests'), false));
        await timed('roll back', place, place.back(name('rests')));
        await timed('delete the snapshot', place, place.forget(name('rests')));
        await timed('snapshot of one that runs', place, place.keep(name('runs'), true));
        await runCommands(place.forget(name('runs')), place.env);
      });
    }
    for (let round = 1; round <= rounds; round++) {
      await each(async (place, name) => {
        const write = (file: string): string => `sync; dd if=/dev/zero of=${file} bs=1M count=${mib >> 1} conv=fsync 2>/dev/null; rm ${file}`;
        const file = join(place.host, `bench-${process.pid}`);
        const onHost = await runCommands([['sh', '-c', write(file)]], {});
        const asNothing = await runCommands([place.inside(name('runs'), 'true')], place.env);
        const within = await runCommands([place.inside(name('runs'), write('/srv/written'))], place.env) - asNothing;
        note('write inside, of the host\'s rate (%)', place, 100 * onHost / within);
      });
    }
  } finally {
    await each(async (place, name) => {
      for (const ve of ['made', 'clone', 'runs', 'rests'].map(name)) await runCommands(place.destroy(ve), place.env).catch(() => {});
      await runCommands(place.clear, place.env).catch(() => {});
    }).catch(() => {});
    rmSync(scratch, { recursive: true, force: true });
  }
});

const { kernel, cpus, date } = machineNow();
console.log(`\n${date}, Linux ${kernel}, ${cpus} CPUs, ${rounds} rounds, ${mib} MiB; medians, milliseconds\n`);
console.log(`| | ${places.map(({ title }) => title).join(' | ')} |\n| --- |${places.map(() => ' ---: |').join('')}`);
for (const [what, row] of figures) console.log(`| ${what} | ${places.map(({ title }) => median(row.get(title) ?? []).toFixed(0)).join(' | ')} |`);
