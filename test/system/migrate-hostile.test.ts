/** A paired node that lies to a target in everything that it offers and sends: each lie is refused, leaves nothing, and costs nobody anything. */
import assert from 'node:assert/strict';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { after, before, test } from 'node:test';
import { findHierarchies } from '../../src/kernel/cgroup.ts';
import { goodOffer, holdings, isWell, makeLiar, refusalTo, STRANGE_BASE, treeOf, zeros } from '../lib/liar.ts';
import { makeNode } from '../lib/nodes.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { FrameStream } from '../../src/migration/frames.ts';
import type { Offer, Refuse, TreeMessage } from '../../src/migration/types.ts';
import type { HeaderFields } from '../../src/storage/testing/trees.ts';

const b = await makeNode('beta', { settings: (own) => { own.network.uplinks = ['lo']; } });
const liar = await makeLiar('liar');
const other = await makeLiar('other');
after(async () => {
  await Promise.all([liar.close(), other.close()]);
  await b.destroy();
});
await b.start();
await liar.pair(b);
await other.pair(b);

let web: { uuid: string; number: number; addresses: string[]; mac: string; uidBase: number };
let was: { traces: string[]; held: string[]; record: unknown; pid: number | undefined };
before(async () => {
  web = await b.createRunning('web', { 'network.publish': ['17100:80'] });
  await b.booted('web');
  was = { traces: b.outline(), held: holdings(b), record: await record(), pid: b.pid };
});

/** What other VEs are, but for what changes by itself. */
async function record(): Promise<unknown> {
  const { uuid, name, number, addresses, properties, status, pid } = await b.show('web') as unknown as Record<string, unknown>;
  return { uuid, name, number, addresses, properties, status, pid };
}

/** @param left sessions that go on */
async function idle(left = 0): Promise<void> {
  await until('sessions to end', async () => (await b.api.call<{ state: string }[]>('GET', '/v1/operations')).filter(({ state }) => state === 'running').length === left);
}

/** Nothing is left, and nobody has noticed. */
async function unharmed(): Promise<void> {
  await idle();
  assert.deepEqual((await b.list()).map(({ name }) => name), ['web']);
  await until('steps back', () => holdings(b).join() === was.held.join()).catch(() => {});
  assertSame(holdings(b), was.held, 'state folder');
  assertSame(b.outline(), was.traces, 'traces');
  assert.deepEqual(await record(), was.record);
  await isWell(b, was.pid);
}

/** An offer that is accepted. */
async function accepted(changes: Record<string, unknown> = {}, ve: Record<string, unknown> = {}): Promise<{ link: FrameStream; offer: Offer }> {
  const [link, offer] = [await liar.open(b), await goodOffer(b, changes, ve)];
  link.send(offer);
  await link.receive('accept');
  return { link, offer };
}

async function refused(link: FrameStream): Promise<Refuse['error']> {
  const { error } = await link.receive<Refuse>('refuse');
  link.close();
  return error;
}

test('what is right is taken: a dry run, and a VE at rest, which then is like any other', async () => {
  const look = await liar.open(b);
  look.send(await goodOffer(b, { dryRun: true }));
  await look.receive('accept');
  look.close();
  await unharmed();
  const { link } = await accepted();
  link.send({ type: 'round', bytes: 0, last: true } as TreeMessage);
  await link.sendBulk(treeOf([{ path: './root/', type: '5', uid: STRANGE_BASE }, { path: './root/come', uid: STRANGE_BASE, content: 'along' }]));
  for (const word of ['done', 'prepared']) await link.receive(word);
  link.send({ type: 'grant' });
  for (const word of ['owned', 'arrived']) await link.receive(word);
  link.close();
  await idle();
  await b.api.operate('POST', '/v1/ves/guest/start', {});
  assert.equal((await b.exec('guest', 'cat', '/root/come')).stdout, 'along');
  await b.api.operate('DELETE', '/v1/ves/guest?force=true');
  await unharmed();
});

/** What is wrong with an offer, and what the target says. Of a function: what the VE that is there has. */
const OFFERS: [what: string, changes: Record<string, unknown> | (() => Record<string, unknown>), ve: Record<string, unknown> | (() => Record<string, unknown>), says: RegExp][] = [
  ['another protocol', { protocol: 2 }, {}, /migration.refused.*version/],
  ['no protocol', { protocol: { toString: 1 } }, {}, /migration.refused.*version/],
  ['a uuid that is here', {}, () => ({ uuid: web.uuid }), /migration.refused.*already/],
  ['the same in an array', {}, () => ({ uuid: [web.uuid] }), /migration.stream/],
  ['the same in capitals', {}, () => ({ uuid: web.uuid.toUpperCase() }), /migration.stream/],
  ['a name that is here', {}, { name: 'web' }, /ve.name_taken/],
  ['a path as a name', {}, { name: '../../etc' }, /name.invalid/],
  ['an object as a name', {}, { name: { toString: 'web' } }, /migration.stream/],
  ['an address that is here', {}, () => ({ addresses: [web.addresses[0]] }), /address.taken/],
  ['the same within properties', {}, () => ({ properties: { 'network.addresses': [web.addresses[0]] }, addresses: [web.addresses[0]] }), /address.taken/],
  ['an address with lines for ip(8)', {}, { addresses: ['192.0.2.1\nlink del lo'] }, /migration.stream/],
  ['an address with a zone', {}, { addresses: ['fe80::1%lo;x'] }, /property.invalid|migration.stream|address/],
  ['the address of the host', {}, { addresses: ['127.0.0.1'] }, /address|property|network/],
  ['numbers as addresses', {}, { addresses: [1, 2] }, /migration.stream/],
  ['a link-layer address that is here', {}, () => ({ mac: web.mac }), /migration.refused.*link-layer/],
  ['the same in an array', {}, () => ({ mac: [web.mac] }), /migration.stream/],
  ['a port that is here', {}, { properties: { 'network.publish': ['17100:80'] } }, /port.taken/],
  ['a property that is unknown', {}, { properties: { privileged: true } }, /property.unknown/],
  ['a property of the wrong type', {}, { properties: { 'memory.limit': { $gt: 0 } } }, /property.invalid/],
  ['properties in an array', {}, { properties: [['memory.limit', 1]] }, /migration.stream/],
  ['no properties', {}, { properties: null }, /migration.stream/],
  ['a bridge that is not here', {}, { properties: { 'network.mode': 'bridge', 'network.bridge': 'br-hostile' } }, /network|bridge/],
  ['a time with more in it', {}, { createdAt: '2026-01-01 (\u001b[31m)' }, /migration.stream/],
  ['a template by its name', {}, { template: 'test' }, /migration.stream/],
  ['a fingerprint with a path', {}, { template: '../../../etc/shadow' }, /migration.stream/],
  ['another fingerprint in the template', () => ({ template: { fingerprint: 'f'.repeat(64) } }), {}, /migration.stream/],
  ['no template', { template: null }, {}, /migration.stream/],
  ['another number of layers', { templateLayers: 0 }, {}, /migration.refused.*layers/],
  ['layers without end', { layers: Array.from({ length: 41 }, () => ({ uidBase: STRANGE_BASE })) }, {}, /migration.stream/],
  ['layers that are none', { layers: [null] }, {}, /migration.stream/],
  ['layers in an object', { layers: { length: 1 } }, {}, /migration.stream/],
  ['a layer that is not aligned', { layers: [{ uidBase: 65_537 }] }, {}, /migration.stream/],
  ['a disk of owners that are not aligned', { diskBase: 1000 }, {}, /migration.stream/],
  ['a disk of owners below nobody', { diskBase: -65_536 }, {}, /migration.stream/],
  ['a disk of no size', { disk: -1 }, {}, /migration.stream/],
  ['a disk of any size', { disk: 'x' }, {}, /migration.stream/],
  ['a disk larger than any', { disk: Number.MAX_SAFE_INTEGER }, {}, /migration.refused.*disk/],
  ['a kind of its own', { kind: '__proto__' }, {}, /migration.stream/],
  ['a running VE without needs', { kind: 'running' }, {}, /migration.stream/],
  ['needs that are none', { kind: 'running', needs: {} }, {}, /migration.stream/],
  ['an id with a path', { id: '../../../../tmp/veld-hostile-incoming' }, {}, /migration.stream/],
  ['an epoch that is none', { epoch: 1.5 }, {}, /migration.stream/],
  ['an only-look that is neither', { dryRun: 'no' }, {}, /migration.stream/],
];

test('lies in an offer are refused, with the reason', async () => {
  for (const [what, changes, ve, says] of OFFERS) {
    const value = (of: typeof changes): Record<string, unknown> => (typeof of === 'function' ? of() : of);
    const { code, message } = await refusalTo(liar, b, await goodOffer(b, value(changes), value(ve)));
    assert.match(`${code} ${message}`, says, what);
    assert.notEqual(code, 'internal', what);
  }
  await unharmed();
});

test('what a program would need of this host is no way to sizes without bound, or to files', async () => {
  const needs = { engine: 'e'.repeat(64), architecture: process.arch, processor: [], kernel: 'x', cgroups: findHierarchies().mode, memory: 1 };
  for (const [wrong, says] of [
    [{ memory: 'x' }, /stream/], [{ memory: -1 }, /stream/], [{ memory: 1e300 }, /stream/], [{ memory: 2 ** 49 }, /./], [{ engine: '../../x' }, /stream/], [{ engine: ['e'.repeat(64)] }, /stream/],
    [{ processor: 'sse' }, /stream/], [{ processor: ['no-such'] }, /processor/], [{ architecture: 'vax' }, /vax/], [{ cgroups: ['v2'] }, /stream/], [{ cgroups: 'v9\u001b[2J' }, /engine/], [{}, /engine/],
  ] as const) {
    const { code, message } = await refusalTo(liar, b, await goodOffer(b, { kind: 'running', needs: { ...needs, ...wrong } }));
    assert.match(`${code} ${message}`, says, JSON.stringify(wrong));
    assert.notEqual(code, 'internal');
  }
  // JSON knows larger numbers than JSON.stringify writes, and a name that is no property.
  const infinite = (JSON as unknown as { rawJSON(text: string): unknown }).rawJSON('1e999');
  assert.equal((await refusalTo(liar, b, await goodOffer(b, { disk: infinite }))).code, 'migration.stream');
  const properties = JSON.parse('{"__proto__":{"features.nesting":true}}') as Record<string, unknown>;
  assert.equal((await refusalTo(liar, b, await goodOffer(b, {}, { properties }))).code, 'property.unknown');
  await unharmed();
});

/** Entries that a disk must not bring. `own`: an id of the range that was said. */
const own = STRANGE_BASE;
const TREES: [what: string, entries: HeaderFields[]][] = [
  ['a path that leads out', [{ path: './../../../../tmp/veld-hostile-out', uid: own, content: 'x' }]],
  ['an absolute path', [{ path: '/tmp/veld-hostile-out', uid: own, content: 'x' }]],
  ['a way through a link', [{ path: './out', type: '2', link: '/tmp', uid: own }, { path: './out/veld-hostile-out', uid: own, content: 'x' }]],
  ['a hard link out', [{ path: './shadow', type: '1', link: '/etc/shadow', uid: own }]],
  ['a disk of the host', [{ path: './sda', type: '4', device: [8, 0], uid: own }]],
  ['memory of the host', [{ path: './mem', type: '3', device: [1, 1], uid: own }]],
  ['a program of the host\'s root', [{ path: './su', uid: 0, mode: 0o4755, content: '#!' }]],
  ['a file of the VE that is here', [{ path: './x', uid: own + 65_536, content: 'x' }]],
  ['more than was announced', [{ path: './huge', uid: own, content: 'x', size: 2 ** 33 - 1 }]],
  ['what overlayfs believes', [{ path: './x', uid: own, pax: { 'SCHILY.xattr.trusted.overlay.redirect': '/' } }]],
  ['capabilities of the host', [{ path: './x', uid: own, pax: { 'SCHILY.xattr.security.capability': Buffer.from('0100000200040000000000000000000000000000', 'hex') } }]],
];

test('disks that lead out, or hold what is not the VE\'s, are refused', async () => {
  for (const [what, entries] of TREES) {
    for (const type of ['round', 'layer'] as const) {
      const { link } = await accepted(type === 'layer' ? { layers: [{ uidBase: own }] } : {});
      link.send({ type, bytes: 0, ...type === 'round' && { last: true } } as TreeMessage);
      await link.sendBulk(treeOf(entries)).catch(() => {});
      const { code } = await refused(link);
      assert.match(code, /migration.(stream|refused)/, `${what}, ${type}`);
    }
  }
  const { link } = await accepted();
  link.send({ type: 'round', bytes: 0, last: true } as TreeMessage);
  await link.sendBulk(treeOf([], own, zeros())).catch(() => {});
  assert.match((await refused(link)).message, /goes on after its end/);
  await unharmed();
  assert.throws(() => process.getBuiltinModule('node:fs').statSync('/tmp/veld-hostile-out'), { code: 'ENOENT' });
});

test('names to remove lead nowhere, and many of them fill no memory', { timeout: 120_000 }, async () => {
  const rss = async (): Promise<number> => Number(/VmRSS:\s+(\d+)/.exec(await process.getBuiltinModule('node:fs').promises.readFile(`/proc/${b.pid}/status`, 'utf8'))![1]) >> 10;
  const remove = async (names: Buffer, removes: unknown = names.length): Promise<string> => {
    const { link } = await accepted();
    link.send({ type: 'round', bytes: 0, last: true, removes } as TreeMessage);
    if (names.length > 0) await link.sendBulk(Readable.from([names])).catch(() => {});
    return (await refused(link)).message;
  };
  for (const name of ['../../../../etc/passwd\0', '/etc/passwd\0', 'a/../../x\0', '\0', './\0', 'a//b\0']) assert.match(await remove(Buffer.from(name)), /not a path within/, JSON.stringify(name));
  assert.match(await remove(Buffer.from('cut off')), /cut off/);
  assert.match(await remove(Buffer.from('short\0'), 100), /cut off/);
  assert.match(await remove(Buffer.from('long\0'), 2), /more names/);
  for (const removes of [-1, 'x', 2 ** 40, 1.5]) assert.match(await remove(Buffer.alloc(0), removes), /more removed/);
  const before = await rss();
  assert.match(await remove(Buffer.alloc(64 << 20)), /not a path within/);
  assert.match(await remove(Buffer.alloc(64 << 20, 'x')), /too long/);
  const many = await accepted();
  many.link.send({ type: 'round', bytes: 0, removes: 500_000 } as TreeMessage);
  await many.link.sendBulk(Readable.from([Buffer.alloc(500_000, 'gone\0')])).catch(() => {});
  many.link.close();
  assert.ok(await rss() - before < 150, `the daemon has grown from ${before} to ${await rss()} MiB`);
  await unharmed();
});

test('a template that is not what its fingerprint says does not come in', async () => {
  const fingerprint = 'f'.repeat(64);
  const offer = await goodOffer(b, {}, { template: fingerprint });
  for (const [wrong, says] of [
    [{ name: '../x' }, /name.invalid/], [{ size: -1 }, /stream/], [{ size: '1' }, /stream/], [{ os: '\u001b]0;x' }, /stream/], [{ source: [] }, /stream/], [{ source: { a: '\u001b[2J' } }, /stream/], [{ createdAt: 'x' }, /stream/],
  ] as const) {
    const { code } = await refusalTo(liar, b, { ...offer, template: { ...offer.template, fingerprint, ...wrong } });
    assert.match(code, says, JSON.stringify(wrong));
  }
  const lie = { template: { ...offer.template, name: 'lie', fingerprint } };
  const send = async (entries: HeaderFields[]): Promise<string> => {
    const { link } = await accepted(lie, { template: fingerprint });
    link.send({ type: 'template', bytes: 0 } as TreeMessage);
    await link.sendBulk(treeOf(entries, 0)).catch(() => {});
    return (await refused(link)).message;
  };
  assert.match(await send([{ path: './x', content: 'x' }]), /not what its fingerprint says/);
  // Who reads it all is never through with it.
  assert.match(await send([{ path: './GNUSparseFile.0/x', content: '1\n0\n0\n'.padEnd(512, '\0'), pax: { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': './x', 'GNU.sparse.realsize': String(2 ** 50) } }]), /holds files of more than/);
  await unharmed();
});

test('messages out of order, twice or after the end fail their session, and no other', async () => {
  const bystander = await accepted({}, { name: 'bystander', mac: '02:00:5e:00:53:78' });
  for (const first of ['grant', 'done', 'owned', 'round', 'arrived', 'answer']) await assert.rejects(refusalTo(liar, b, { type: first }), { code: 'migration.link' }, first);
  for (const next of ['grant', 'offer', 'ask', 'state', 'template', 'layer', 'prepared']) {
    const { link, offer } = await accepted();
    link.send(next === 'offer' ? offer : { type: next });
    await assert.rejects(refused(link), { code: 'migration.link' }, next);
    await idle(1);
  }
  const { link, offer } = await accepted();
  assert.equal((await refusalTo(liar, b, offer)).code, 'migration.refused');
  assert.equal((await refusalTo(liar, b, { ...offer, ve: { ...offer.ve, uuid: crypto.randomUUID(), name: 'twin', mac: '02:00:5e:00:53:79' } })).code, 'migration.stream', 'an id twice');
  // Anew it ends what it had begun; what another node has begun with it stays.
  const anew = { ...offer, id: 'f'.repeat(32) };
  assert.equal((await refusalTo(other, b, anew)).code, 'migration.refused');
  assert.equal((await refusalTo(liar, b, { ...anew, epoch: 0 })).code, 'migration.refused', 'an earlier one');
  const again = await liar.open(b);
  again.send(anew);
  await again.receive('accept');
  await assert.rejects(link.receive('done'), { code: 'migration.link' }, 'which ends that');
  again.close();
  bystander.link.send({ type: 'round', bytes: 0, last: true } as TreeMessage);
  await bystander.link.sendBulk(treeOf([]));
  for (const word of ['done', 'prepared']) await bystander.link.receive(word);
  // Twice, and more after it.
  for (const word of ['grant', 'grant', 'round', 'ask']) bystander.link.send({ type: word });
  for (const word of ['owned', 'arrived']) await bystander.link.receive(word);
  bystander.link.close();
  await idle();
  assert.equal((await b.show('bystander')).status, 'stopped');
  assert.match((await refusalTo(liar, b, { ...bystander.offer, ve: { ...bystander.offer.ve, uuid: crypto.randomUUID(), name: 'twin', mac: '02:00:5e:00:53:79' } })).message, /twice/);
  await b.api.operate('DELETE', '/v1/ves/bystander?force=true');
  await unharmed();
});

test('nobody hears of, or ends, what another node does', async () => {
  const ask = async (who: typeof liar, id: unknown): Promise<unknown> => {
    const link = await who.open(b);
    link.send({ type: 'ask', id } as { type: 'ask' });
    const reply = await link.receive<{ type: string; outcome?: string; error: { code: string } }>('answer', 'refuse');
    link.close();
    return reply.outcome ?? reply.error.code;
  };
  const { link, offer } = await accepted();
  assert.equal(await ask(other, offer.id), 'nothing');
  for (const id of [undefined, null, 1, [offer.id], { toString: offer.id }, '__proto__', '', 'x'.repeat(100_000)]) assert.equal(await ask(other, id), 'migration.stream');
  link.send({ type: 'round', bytes: 0, last: true } as TreeMessage);
  await link.sendBulk(treeOf([]));
  for (const word of ['done', 'prepared']) await link.receive(word);
  assert.equal(await ask(liar, offer.id), 'nothing', 'its own');
  await assert.rejects(link.receive('owned'), { code: 'migration.link' }, 'which ends that');
  await unharmed();
});

test('a node takes no more than its share: eight sessions, and a thousand connections', { timeout: 120_000 }, async () => {
  const links: FrameStream[] = [];
  for (let i = 0; i < 8; i++) links.push((await accepted({}, { name: `guest-${i}`, mac: `02:00:5e:00:53:0${i}` })).link);
  const { code, message } = await refusalTo(liar, b, await goodOffer(b, {}, { name: 'ninth' }));
  assert.match(`${code} ${message}`, /daemon.overloaded .*8 VEs at a time/);
  const theirs = await other.open(b);
  theirs.send(await goodOffer(b, {}, { name: 'theirs' }));
  await theirs.receive('accept');
  theirs.close();
  for (const link of links) link.close();
  await unharmed();
  const crowd: FrameStream[] = [];
  let overloaded = 0;
  for (let i = 0; i < 1000; i += 50) {
    const some = await Promise.all(Array.from({ length: 50 }, () => liar.open(b)));
    crowd.push(...some);
    overloaded += (await Promise.all(some.map((link) => Promise.race([link.receive<Refuse>('refuse').then(({ error }) => error.code === 'daemon.overloaded', () => false), sleep(3000, false)])))).filter(Boolean).length;
  }
  assert.equal(overloaded, 968);
  assert.equal((await refusalTo(other, b, await goodOffer(b, { protocol: 2 }))).code, 'migration.refused', 'another node is heard');
  for (const link of crowd) link.close();
  await unharmed();
});

test('who says nothing is not waited for, nor who says only that it lives', { timeout: 120_000, skip: process.env.VELD_TEST_FULL === undefined && 'in ./check full' }, async () => {
  const [silent, alive] = [await liar.open(b, { alive: 600_000, dead: 600_000, idle: 600_000 }), await liar.open(b)];
  const began = performance.now();
  await assert.rejects(silent.receive('x'), { code: 'migration.link' });
  assert.ok(performance.now() - began < 25_000);
  await assert.rejects(alive.receive('x'), { code: 'migration.link' });
  const took = performance.now() - began;
  assert.ok(took > 25_000 && took < 45_000, String(took));
  await unharmed();
});

test('without the right nothing is heard; with it taken away, or the node removed, the session ends', async () => {
  const { link } = await accepted();
  await b.json('node', 'set', 'liar', 'allow=none');
  await assert.rejects(link.receive('done'), { code: 'migration.link' });
  await assert.rejects(liar.open(b), { code: 'node.not_allowed' });
  await unharmed(); // the first session has ended, and its name is free
  await b.json('node', 'set', 'liar', 'allow=migrate');
  const second = await accepted();
  second.link.send({ type: 'round', bytes: 0, last: true } as TreeMessage);
  const long = treeOf([{ path: './long', uid: own, size: 2 ** 32 }], own, zeros());
  const sending = second.link.sendBulk(long).catch((error: unknown) => error as { code: string });
  await sleep(300);
  await b.json('node', 'remove', 'liar');
  assert.equal((await sending as { code: string }).code, 'migration.link');
  await unharmed();
});
