/** Snapshots that come from a node that lies: each thing that is said of them, and what comes as their processes, is checked as a VE's own is, and leaves nothing. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { receiveFiles, stateContents, stateFiles } from '../../src/migration/state-files.ts';
import { goodOffer, holdings as allHoldings, isWell, makeLiar, refusalTo, STRANGE_BASE, treeOf } from '../lib/liar.ts';
import { makeNode } from '../lib/nodes.ts';
import { playTree, recordTree, sayNo, type RecordedTree } from '../lib/recording.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { Instance } from '../lib/instance.ts';
import type { FrameStream } from '../../src/migration/frames.ts';
import type { Accept, Done, Offer, OfferedSnapshot, Refuse, SnapshotMessage, StateFile, TreeMessage } from '../../src/migration/types.ts';

const settings = (own: { network: { uplinks: string[] } }): void => { own.network.uplinks = ['lo']; };
const [a, b] = [await makeNode('alpha', { settings }), await makeNode('beta', { settings })];
const liar = await makeLiar('liar');
const scratch = mkdtempSync('/var/tmp/veld-liar-');
after(async () => {
  rmSync(scratch, { recursive: true });
  await liar.close();
  await Promise.all([a.destroy(), b.destroy()]);
});
await a.start();
await b.start();
await liar.pair(a);
await liar.pair(b);

const holdings = (node: Instance): string[] => allHoldings(node).filter((name) => !name.includes('.trash'));

/** What was sent, in order; the states of its snapshots lie in the scratch folder. */
let recorded: { offer: Offer; trees: RecordedTree[] };
let was: { held: string[]; traces: string[]; pid: number | undefined };

before(async () => {
  await a.createRunning('web');
  await a.booted('web');
  for (const name of ['one', 'two']) await a.api.operate('POST', '/v1/ves/web/snapshots', { name, live: true });
  await a.api.operate('POST', '/v1/ves/web/stop', {});
  liar.serve(async (link) => {
    const offer = await link.receive<Offer>('offer');
    const trees: typeof recorded.trees = [];
    link.send({ type: 'accept', template: false, notes: [] } as { type: string });
    const tree = async (): Promise<void> => void trees.push(await recordTree(link, await link.receive<TreeMessage>('layer', 'round')));
    for (const _ of [...offer.layers, ...offer.snapshotLayers]) await tree();
    for (const { id } of offer.snapshots) {
      const { files } = await link.receive<SnapshotMessage>('snapshot');
      await receiveFiles(link, files, join(scratch, 'states', id), 2 ** 32, { earlier: join(scratch, 'states') });
      link.send({ type: 'done' });
    }
    await tree();
    recorded = { offer, trees };
    await sayNo(link);
  });
  assert.notEqual((await a.cli('migrate', 'web', 'liar')).code, 0);
  assert.equal(recorded.offer.snapshots.length, 2);
  await a.api.operate('DELETE', '/v1/ves/web?force=true');
  was = { held: holdings(b), traces: b.outline(), pid: b.pid };
}, { timeout: 240_000 });

async function unharmed(): Promise<void> {
  await until('sessions to end', async () => (await b.api.call<{ state: string }[]>('GET', '/v1/operations')).every(({ state }) => state !== 'running'));
  assert.deepEqual(await b.list(), []);
  await until('steps back', () => holdings(b).join() === was.held.join()).catch(() => {});
  assertSame(holdings(b), was.held, 'state folder');
  assertSame(b.outline(), was.traces, 'traces');
  await isWell(b, was.pid);
}

const disk = (changes: Record<string, unknown> = {}): Record<string, unknown> => ({ id: randomBytes(16).toString('hex'), name: 'one', createdAt: new Date().toISOString(), properties: {}, layers: [], engine: null, processor: [], memory: 0, ...changes });
const layer = { uidBase: STRANGE_BASE };
const live = { engine: 'e'.repeat(64), memory: 1 };
const twice = disk();

const OFFERS: [what: string, changes: Record<string, unknown>, says: RegExp][] = [
  ['no list', { snapshots: null }, /migration.stream/],
  ['an entry that is none', { snapshots: [null] }, /migration.stream/],
  ['more than any VE has', { snapshots: Array.from({ length: 101 }, (_, i) => disk({ name: `s${i}` })) }, /migration.stream/],
  ['the same id twice', { snapshots: [twice, { ...twice, name: 'two' }] }, /migration.stream.*twice/],
  ['the same name twice', { snapshots: [disk(), disk()] }, /migration.stream.*twice/],
  ['an id with a path', { snapshots: [disk({ id: '../../../tmp/veld-hostile' })] }, /migration.stream/],
  ['an id that is none', { snapshots: [disk({ id: 'f'.repeat(31) })] }, /migration.stream/],
  ['a name with a path', { snapshots: [disk({ name: '../x' })] }, /name.invalid/],
  ['a name that is an option', { snapshots: [disk({ name: '--all' })] }, /name.invalid/],
  ['a name without end', { snapshots: [disk({ name: 'x'.repeat(100_000) })] }, /name.invalid/],
  ['a name that is none', { snapshots: [disk({ name: { toString: 1 } })] }, /migration.stream/],
  ['a time with more in it', { snapshots: [disk({ createdAt: '2026-01-01 (\u001b[31m)' })] }, /migration.stream/],
  ['properties in an array', { snapshots: [disk({ properties: [] })] }, /migration.stream/],
  ['a property that does not exist', { snapshots: [disk({ properties: { 'no.such': 1 } })] }, /property.unknown/],
  ['a property that cannot be', { snapshots: [disk({ properties: { 'memory.limit': 1 } })] }, /property/],
  ['a layer that is not of the offer', { snapshots: [disk({ layers: [0] })] }, /migration.stream.*layers that do not come along/],
  ['a layer behind the last', { layers: [layer], snapshotLayers: [layer], snapshots: [disk({ layers: [0, 1, 2] })] }, /migration.stream.*layers that do not come along/],
  ['a layer by its id', { snapshots: [disk({ layers: ['f'.repeat(32)] })] }, /migration.stream/],
  ['a layer below the first', { layers: [layer], snapshots: [disk({ layers: [-1] })] }, /migration.stream/],
  ['a layer twice', { layers: [layer], snapshots: [disk({ layers: [0, 0] })] }, /migration.stream/],
  ['layers that no snapshot stands on', { snapshotLayers: [layer] }, /migration.stream.*for nothing/],
  ['layers without end', { snapshotLayers: Array.from({ length: 1001 }, () => layer), snapshots: [disk({ layers: [0] })] }, /migration.stream/],
  ['a layer of the host\'s ids', { snapshotLayers: [{ uidBase: 1000 }], snapshots: [disk({ layers: [0] })] }, /migration.stream/],
  ['an engine with a path', { snapshots: [disk({ ...live, engine: '../x' })] }, /migration.stream/],
  ['memory without an engine', { snapshots: [disk({ memory: 1 })] }, /migration.stream/],
  ['memory of no size', { snapshots: [disk({ ...live, memory: -1 })] }, /migration.stream/],
  ['memory of any size', { snapshots: [disk({ ...live, memory: 'x' })] }, /migration.stream/],
  ['memory larger than any disk', { snapshots: [disk({ ...live, memory: 2 ** 50 })] }, /migration.refused.*disk/],
  ['a processor that is none', { snapshots: [disk({ ...live, processor: 'sse' })] }, /migration.stream/],
];

test('lies about snapshots are refused, with the reason', async () => {
  for (const [what, changes, says] of OFFERS) {
    const { code, message } = await refusalTo(liar, b, await goodOffer(b, changes));
    assert.match(`${code} ${message}`, says, what);
    assert.notEqual(code, 'internal', what);
  }
  await unharmed();
});

test('what could not be brought back there is told beforehand', async () => {
  const notesOf = async (snapshot: Record<string, unknown>): Promise<string> => {
    const link = await liar.open(b);
    link.send(await goodOffer(b, { dryRun: true, snapshots: [snapshot] }));
    const { notes } = await link.receive<Accept>('accept');
    link.close();
    return notes.join(' ');
  };
  const { engine } = recorded.offer.snapshots[0]!;
  assert.match(await notesOf(disk(live)), /snapshot one .* engine eeeeeeeeeeee, which is not on that node/);
  assert.match(await notesOf(disk({ engine, memory: 1, processor: ['no-such'] })), /snapshot one .* processor/);
  assert.doesNotMatch(await notesOf(disk({ engine, memory: 1 })), /snapshot/);
  await unharmed();
});

test('a snapshot that is there already keeps its id, and of two that come at a time one does', async () => {
  const id = randomBytes(16).toString('hex');
  const arrive = async (name: string, mac: string): Promise<FrameStream> => {
    const link = await liar.open(b);
    link.send(await goodOffer(b, { layers: [layer], snapshots: [disk({ id, layers: [0] })] }, { name, mac }));
    await link.receive('accept');
    return link;
  };
  const tree = async (link: FrameStream, type: 'layer' | 'round'): Promise<string> => {
    link.send({ type, bytes: 0, ...type === 'round' && { last: true } } as TreeMessage);
    await link.sendBulk(treeOf([])).catch(() => {});
    const reply = await link.receive<Done | Refuse>('done', 'refuse');
    return reply.type === 'done' ? 'done' : `${reply.error.code} ${reply.error.message}`;
  };
  // Neither has it while their layers come.
  const [first, second] = [await arrive('first', '02:00:5e:00:53:01'), await arrive('second', '02:00:5e:00:53:02')];
  for (const type of ['layer', 'round'] as const) assert.equal(await tree(first, type), 'done');
  assert.equal(await tree(second, 'layer'), 'done');
  assert.match(await tree(second, 'round'), /migration.refused .*id of one is on that node/);
  await first.receive('prepared');
  first.send({ type: 'grant' });
  for (const word of ['owned', 'arrived']) await first.receive(word);
  for (const link of [first, second]) link.close();
  const refusal = await refusalTo(liar, b, await goodOffer(b, { snapshots: [disk({ id })] }, { name: 'third', mac: '02:00:5e:00:53:03' }));
  assert.match(`${refusal.code} ${refusal.message}`, /migration.refused .*id of one is on that node/);
  assert.deepEqual((await b.api.call<{ id: string }[]>('GET', '/v1/ves/first/snapshots')).map((snapshot) => snapshot.id), [id]);
  await b.api.operate('DELETE', '/v1/ves/first?force=true');
  await unharmed();
});

/** Bring the recorded VE to the target, up to what it says to its second snapshot. @param change done to the state of that, and to the list of its files */
async function bring(change: (dir: string) => void, list: (files: StateFile[], ids: string[]) => StateFile[] = (files) => files, snapshots: Partial<OfferedSnapshot> = {}): Promise<string> {
  const { offer, trees } = recorded;
  const ids = offer.snapshots.map(() => randomBytes(16).toString('hex'));
  const link = await liar.open(b);
  link.send({ ...offer, compress: [], id: randomBytes(16).toString('hex'), snapshots: offer.snapshots.map((snapshot, i) => ({ ...snapshot, id: ids[i]!, ...i === 1 && snapshots })) } as Offer);
  const reply = await link.receive<Accept | Refuse>('accept', 'refuse');
  if (reply.type === 'refuse') return `${reply.error.code} ${reply.error.message}`;
  for (const tree of trees.slice(0, -1)) await playTree(link, tree);
  for (const [i, { id }] of offer.snapshots.entries()) {
    const dir = join(scratch, randomBytes(4).toString('hex'));
    cpSync(join(scratch, 'states', id), dir, { recursive: true });
    if (i === 1) change(dir);
    const files: StateFile[] = await stateFiles(dir);
    const said = i === 1 ? list(files, ids) : files;
    link.send({ type: 'snapshot', files: said } as SnapshotMessage);
    await link.sendBulk(stateContents(dir, said)).catch(() => {});
    const answer = await link.receive<Done | Refuse>('done', 'refuse');
    if (answer.type === 'refuse') {
      link.close();
      return `${answer.error.code} ${answer.error.message}`;
    }
  }
  link.close();
  return 'done';
}

const manifest = (changes: Record<string, unknown>) => (dir: string): void => {
  const file = join(dir, 'manifest.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')) as object, ...changes }));
};
const nothing = (): void => {};
/** The list with another file in the place of one. */
const instead = (path: string, same: (ids: string[]) => unknown) => (files: StateFile[], ids: string[]): StateFile[] => files.map((file) => (file.path === path ? { ...file, same: same(ids) as string } : file));

const STATES: [what: string, says: RegExp, ...Parameters<typeof bring>][] = [
  ['nothing wrong', /^done$/, nothing],
  ['a file that came before', /^done$/, nothing, instead('images/pstree.img', ([first]) => `${first}/images/pstree.img`)],
  ['the processes of another VE', /not those of the snapshot/, manifest({ ve: '00000000-0000-4000-8000-000000000000' })],
  ['ids of the host', /not those of the snapshot/, manifest({ uidBase: 0 })],
  ['another engine', /not those of the snapshot/, manifest({ engine: 'f'.repeat(64) })],
  ['a manifest that is none', /a manifest that is none/, manifest({ mounts: 'secret' })],
  ['files that nobody knows', /no dump leaves/, (dir) => writeFileSync(join(dir, 'extra'), '')],
  ['an image that is garbage', /cgroup.img cannot be read/, (dir) => writeFileSync(join(dir, 'images/cgroup.img'), randomBytes(5000))],
  ['a file of the host', /a file that is to have come before/, nothing, instead('images/pstree.img', () => '../../../../../../etc/hostname')],
  ['a file by its absolute path', /a file that is to have come before/, nothing, instead('images/pstree.img', () => '/etc/hostname')],
  ['a file that is a number', /a file that is to have come before/, nothing, instead('images/pstree.img', () => 1)],
  ['a file that has not come', /a file that is to have come before/, nothing, instead('images/pstree.img', ([first]) => `${first}/images/none.img`)],
  ['a folder', /a file that is to have come before/, nothing, instead('images/pstree.img', ([first]) => `${first}/images`)],
  ['a file of another size', /a file that is to have come before/, nothing, instead('images/pstree.img', ([first]) => `${first}/config.json`)],
  ['a file of a snapshot that is to come', /a file that is to have come before/, nothing, instead('images/pstree.img', () => `${'f'.repeat(32)}/images/pstree.img`)],
  ['a state larger than was said', /announced a state that cannot be one: \d+ bytes/, nothing, (files) => files.map((file, i) => (i === 0 ? { ...file, size: 2 ** 40 } : file))],
];

test('processes of snapshots that no dump leaves are refused, and nothing of the others stays', { timeout: 400_000 }, async () => {
  for (const [what, says, ...how] of STATES) {
    const answer = await bring(...how);
    assert.match(answer, says, what);
    assert.ok(!/secret|root:/.test(answer), what);
    await unharmed();
  }
  assert.deepEqual(readdirSync('/tmp').filter((name) => name.startsWith('veld-hostile')), []);
});
