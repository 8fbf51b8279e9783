/** What is published is read back by our own client: names, versions, signatures, files. Trees are packed in a box, so by root. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { defaultSettings } from '../../lib/settings.ts';
import { createLogger } from '../../lib/log.ts';
import type { Task } from '../../ops/types.ts';
import type { TemplateRecord } from '../../store/types.ts';
import { pullImage } from '../pull.ts';
import { createCatalogues } from '../sources/catalogue.ts';
import { hostArchitecture, smallTree } from '../testing/image-server.ts';
import { fingerprintOf } from '../tree.ts';
import { createPublisher } from './publisher.ts';
import type { Publisher } from './types.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-publish-'));
after(() => rmSync(folder, { recursive: true, force: true }));

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const settings = { ...defaultSettings(), stateDir: join(folder, 'state'), sourcesDir: join(folder, 'sources'), libexecDir: join(folder, 'none/libexec') };
const port = await freePort();
settings.images = { ...settings.images, listen: `127.0.0.1:${port}`, scheme: 'http', keep: 2 };
const place = join(settings.stateDir, 'published');
const log = createLogger({ write() {} }, 'error');
const open = (): Publisher => createPublisher(settings, log);
let publisher = open();
after(() => publisher.close());

/** A task as an operation has one. */
function taskOf(id: string, signal = new AbortController().signal): Task & { warnings: string[]; back(): Promise<void> } {
  const steps: (() => void | Promise<void>)[] = [];
  const warnings: string[] = [];
  return {
    id, signal, warnings, progress() {}, warn: (text) => void warnings.push(text), undo: (_name, step) => void steps.push(step), phase() {}, commit: () => void steps.splice(0),
    async back() { for (const step of steps.toReversed()) await step(); },
  };
}

/** A template whose tree has something in it. */
async function template(note: string, name = 'ubuntu-24.04'): Promise<{ template: TemplateRecord; path: string; check(): void }> {
  const path = smallTree(mkdtempSync(join(folder, 'tree-')), note);
  chmodSync(path, 0o755);
  const record = { fingerprint: await fingerprintOf(path), name, os: 'ubuntu', release: '24.04', architecture: hostArchitecture(), layers: [], size: 200_000, createdAt: '2026-01-02T03:04:05.000Z', source: { endOfLife: '2029-04-25' } };
  return { template: record, path, check() {} };
}

let turn = 0;
const publish = (of: Awaited<ReturnType<typeof template>>, options = {}) => publisher.publish(of, options, taskOf(`task${turn++}`));
const fetch = (path: string): Promise<{ status: number; body: Buffer }> => new Promise((resolve, reject) => {
  get({ port, host: '127.0.0.1', path: `/${path}`, agent: false }, (answer) => {
    const parts: Buffer[] = [];
    answer.on('data', (part: Buffer) => parts.push(part));
    answer.on('end', () => resolve({ status: answer.statusCode!, body: Buffer.concat(parts) }));
  }).on('error', reject);
});
/** What our own client sees, with nothing remembered. */
const seen = (source = 'here') => createCatalogues({ ...settings, stateDir: mkdtempSync(join(folder, 'client-')) }).all(source);
const filesHere = (): string[] => readdirSync(join(place, 'files'));

describe('published', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  test('nothing is there at first, and it serves', async () => {
    await publisher.start(() => {});
    assert.deepEqual(publisher.list(), []);
    assert.deepEqual(publisher.state(), { url: `http://127.0.0.1:${port}`, error: null, authority: null, key: null, requests: 0, bytes: 0 });
    assert.equal((await fetch('streams/v1/index.json')).status, 404);
  });

  test('our own client finds it, signed, and makes the very same tree of it', async () => {
    const first = await template('first');
    const { product, serial, added, signedBy, aliases, bytes } = await publish(first, { aliases: ['lts'] });
    assert.deepEqual([product, added, aliases], [`ubuntu:noble:${hostArchitecture()}:default`, true, ['ubuntu/24.04', 'ubuntu/24.04/default', 'ubuntu/noble', 'ubuntu/noble/default', 'lts']]);
    assert.ok(bytes > 1000 && signedBy?.length === 40, `${signedBy}`);
    const key = publisher.state().key!;
    assert.equal(key.fingerprint, signedBy);
    mkdirSync(settings.sourcesDir, { recursive: true });
    writeFileSync(join(folder, 'key.asc'), key.armored);
    writeFileSync(join(settings.sourcesDir, 'here.conf'), `protocol=simplestreams\nurl=http://127.0.0.1:${port}\nkeyring=${join(folder, 'key.asc')}\n`);
    assert.deepEqual((await fetch('key.asc')).body.toString(), key.armored);
    const { images, failed } = await seen();
    assert.deepEqual(failed, []);
    assert.deepEqual(images.map((image) => [image.product, image.serial, image.os, image.release, image.codename, image.variant, image.endOfLife, image.files.map(({ role }) => role)]),
      [[product, serial, 'ubuntu', '24.04', 'noble', 'default', '2029-04-25', ['metadata', 'tree']]]);
    const { source, image } = await createCatalogues({ ...settings, stateDir: join(folder, 'client') }).find('ubuntu:24.04', hostArchitecture());
    const pulled = await pullImage({ source, image, signedBy, name: 'pulled' }, { path: join(folder, 'pulled') }, join(folder, 'downloads'), taskOf('pull'));
    assert.equal(pulled.fingerprint, first.template.fingerprint);
    assert.deepEqual(pulled.source.signedBy, [signedBy]);
  });

  test('what Incus, LXD and LXC read', async () => {
    const index = JSON.parse((await fetch('streams/v1/index.json')).body.toString()) as { index: { images: { path: string; products: string[] } } };
    assert.equal(index.index.images.path, 'streams/v1/images.json');
    const list = JSON.parse((await fetch(index.index.images.path)).body.toString()) as { products: Record<string, { aliases: string; arch: string; versions: Record<string, { items: Record<string, Record<string, unknown>> }> }> };
    const product = list.products[index.index.images.products[0]!]!;
    const [[serial, { items }]] = Object.entries(product.versions) as [[string, { items: Record<string, Record<string, unknown>> }]];
    assert.match(serial, /^\d{8}_\d{6}$/);
    const bodies: Buffer[] = [];
    for (const [ftype, item] of Object.entries(items)) {
      assert.equal(item.ftype, ftype);
      const { status, body } = await fetch(String(item.path));
      assert.deepEqual([status, body.length, createHash('sha256').update(body).digest('hex')], [200, item.size, item.sha256], ftype);
      if (ftype !== 'lxd.tar.xz') bodies.push(body);
    }
    assert.deepEqual(Object.keys(items), ['incus.tar.xz', 'lxd.tar.xz', 'root.tar.xz']);
    assert.equal(items['incus.tar.xz']!.combined_rootxz_sha256, createHash('sha256').update(Buffer.concat(bodies)).digest('hex'));
    const unpacked = (file: Buffer, ...args: string[]): string => execFileSync('/usr/bin/tar', ['--extract', '--xz', '--to-stdout', '--file=-', ...args], { input: file, encoding: 'utf8' });
    assert.match(unpacked(bodies[0]!, 'metadata.yaml'), /^architecture: \w+\ncreation_date: 1767323045\n/);
    const [, , , variant, build, path] = (await fetch('meta/1.0/index-system')).body.toString().trim().split(';');
    assert.deepEqual([variant, build], ['default', serial]);
    assert.match(unpacked((await fetch(`${path!.slice(1)}/meta.tar.xz`)).body, 'config'), /^lxc\.include = LXC_TEMPLATE_CONFIG\/common\.conf\nlxc\.arch = /);
    assert.ok((await fetch(`${path!.slice(1)}/rootfs.tar.xz`)).body.equals(bodies[1]!));
  });

  test('the same once more is no new version; another content is, and the oldest goes', async () => {
    const first = await template('first');
    const before = publisher.list()[0]!.versions[0]!.serial;
    assert.deepEqual([(await publish(first)).added, (await publish(first)).serial], [false, before]);
    assert.ok(!(await publish(first, { aliases: ['current'] })).aliases.includes('lts'), 'others in their place');
    assert.ok(publisher.list()[0]!.aliases.includes('current'));
    const second = await publish(await template('second'));
    assert.ok(second.added && second.serial > before && second.aliases.includes('current'));
    assert.equal(filesHere().length, 4, 'LXC\'s configuration is the same, and so is what metadata.yaml says');
    await publish(await template('third'));
    const serials = (await seen()).images.map(({ serial }) => serial);
    assert.equal(serials.length, 2);
    assert.ok(!serials.includes(before), 'images.keep is 2');
    assert.equal(filesHere().length, 4);
    assert.equal((await fetch(`images/ubuntu/noble/${hostArchitecture()}/default/${before}/rootfs.tar.xz`)).status, 404);
  });

  test('OpenVZ\'s way, by our own client', async () => {
    const shop = await template('shop', 'shop');
    await publish(shop, { openvz: true });
    assert.deepEqual((await fetch('precreated/.listing')).body.toString(), `ubuntu-24.04-${{ amd64: 'x86_64', arm64: 'aarch64' }[hostArchitecture()] ?? 'x86'}-shop\n`);
    writeFileSync(join(settings.sourcesDir, 'openvz.conf'), `protocol=precreated\nurl=http://127.0.0.1:${port}/precreated\nkeyring=${join(folder, 'key.asc')}\n`);
    const { source, image, signedBy } = await createCatalogues({ ...settings, stateDir: join(folder, 'client') }).find('openvz:ubuntu/24.04/shop', hostArchitecture());
    const pulled = await pullImage({ source, image, signedBy, name: 'pulled' }, { path: join(folder, 'pulled-openvz') }, join(folder, 'downloads'), taskOf('pull'));
    assert.equal(pulled.fingerprint, shop.template.fingerprint);
    // And so its next version, unasked.
    await publish(await template('shop 2', 'shop'));
    assert.ok(publisher.list()[1]!.versions.every(({ openvz }) => openvz !== null));
  });

  test('what is broken off, or fails, leaves nothing; files that nobody lists go with the next start', async () => {
    const before = [readFileSync(join(place, 'published.json'), 'utf8'), filesHere().length];
    const now = () => [readFileSync(join(place, 'published.json'), 'utf8'), filesHere().length];
    const other = await template('other', 'other');
    const stop = new AbortController();
    const task = taskOf('cancelled', stop.signal);
    const ended = publisher.publish({ ...other, check: () => stop.abort() }, {}, task);
    await assert.rejects(ended);
    await task.back();
    assert.deepEqual(now(), before);
    assert.deepEqual(readdirSync(join(place, 'incoming')), []);
    // The template went while it was read.
    const lost = taskOf('lost');
    await assert.rejects(publisher.publish({ ...other, check: () => { throw new Error('gone'); } }, {}, lost), /gone/);
    await lost.back();
    await assert.rejects(publisher.publish({ ...other, path: join(folder, 'nowhere') }, {}, taskOf('nowhere')));
    await assert.rejects(publish(other, { aliases: ['current'] }), { code: 'published.name_taken' });
    assert.deepEqual(now(), before);
    mkdirSync(join(place, 'incoming/dead'), { recursive: true });
    writeFileSync(join(place, 'files', 'ab'.repeat(32)), 'x');
    await publisher.close();
    publisher = open();
    await publisher.start(() => {});
    assert.deepEqual(now(), before);
    assert.equal(existsSync(join(place, 'incoming')), false);
    assert.equal((await seen()).failed.length, 0);
  });

  test('several at once: all are there', async () => {
    const all = await Promise.all(['a', 'b', 'c'].map(async (name) => publish(await template(name, name))));
    assert.deepEqual((await seen()).images.filter(({ variant }) => /^[abc]$/.test(variant)).map(({ product }) => product).toSorted(), all.map(({ product }) => product).toSorted());
    for (const name of ['a', 'b', 'c']) await publisher.unpublish(name, undefined, taskOf(`un${name}`));
  });

  test('unpublished, a version or all of it', async () => {
    const serials = publisher.list().find(({ variant }) => variant === 'default')!.versions.map(({ serial }) => serial);
    await assert.rejects(publisher.unpublish('ubuntu:24.04', '20000101_000000', taskOf('u1')), { code: 'published.not_found' });
    await assert.rejects(publisher.unpublish('gutsy', undefined, taskOf('u2')), { code: 'published.not_found' });
    assert.deepEqual((await publisher.unpublish('ubuntu:24.04', serials[1], taskOf('u3'))).serials, [serials[1]]);
    assert.deepEqual((await seen()).images.filter(({ variant }) => variant === 'default').map(({ serial }) => serial), [serials[0]]);
    await publisher.unpublish('current', undefined, taskOf('u4'));
    await publisher.unpublish('shop', undefined, taskOf('u5'));
    assert.deepEqual((await seen()).images, []);
    assert.deepEqual(filesHere(), []);
    assert.equal((await fetch('precreated/.listing')).status, 404);
  });

  test('a record that cannot be read is said, and served is nothing', async () => {
    await publisher.close();
    const file = join(place, 'published.json');
    const good = readFileSync(file, 'utf8');
    writeFileSync(file, '{"format": 1');
    publisher = open();
    await assert.rejects(publisher.start(() => {}), { code: 'published.damaged' });
    assert.throws(() => publisher.list(), { code: 'published.damaged' });
    writeFileSync(file, good);
    // And an address that is somebody else's is tried again.
    const other = createServer().listen(port, '127.0.0.1');
    await once(other, 'listening');
    publisher = open();
    const heard = Promise.withResolvers<void>();
    await assert.rejects(publisher.start(heard.resolve), { code: 'published.not_listening' });
    assert.match(publisher.state().error ?? '', /cannot be served at/);
    other.close();
    await heard.promise;
    assert.equal(publisher.state().error, null);
  });
});
