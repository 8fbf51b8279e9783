/** Templates for other nodes: one publishes, another pulls, deploys and updates; what is broken off leaves the lists as they were. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'node:test';
import type { OperationRecord } from '../../src/store/types.ts';
import type { ImageServerState, PublishedProduct } from '../../src/templates/publishing/types.ts';
import type { ImageView } from '../../src/ve/images.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

const free = createServer().listen(0, '127.0.0.1');
await once(free, 'listening');
const { port } = free.address() as AddressInfo;
free.close();

/** All points at which a daemon can die. */
const FULL = process.env.VELD_TEST_FULL !== undefined;
const veld = await fileInstance({ settings: (own) => { own.images.listen = `127.0.0.1:${port}`; } });
/** It has no template, and asks nobody but the first. */
const other = await fileInstance({
  noTemplate: true,
  settings: (own) => {
    own.sourcesDir = join(own.stateDir, '../sources');
    mkdirSync(own.sourcesDir, { recursive: true });
    for (const name of ['ubuntu', 'images', 'openvz']) writeFileSync(join(own.sourcesDir, `${name}.conf`), '');
  },
});
const { ok, refused } = wordsWith(veld);
const there = wordsWith(other);
const place = join(veld.settings.stateDir, 'published');
const published = (): Promise<PublishedProduct[]> => veld.json<PublishedProduct[]>('template', 'published');
const serials = async (): Promise<string[]> => (await published()).flatMap(({ versions }) => versions.map(({ serial }) => serial));
/** Lists are believed for a minute. */
const offered = async (): Promise<ImageView[]> => {
  await other.restart();
  const { images, failed } = await other.json<{ images: ImageView[]; failed: unknown[] }>('template', 'search', '--all');
  assert.deepEqual(failed, []);
  return images;
};

/** The system that the tests have with something changed, as a template of another name. */
async function change(name: string, changed: string): Promise<void> {
  const { layers: [layer] } = await veld.json<TemplateView>('template', 'show', TEMPLATE);
  const over = mkdtempSync(join(veld.dir, 'over-'));
  mkdirSync(join(over, 'etc'), { recursive: true });
  writeFileSync(join(over, 'etc/image'), `${changed}\n`);
  const file = join(veld.dir, `${name}.tar`);
  execFileSync('/bin/sh', ['-c', 'tar --create --format=posix --numeric-owner --xattrs --xattrs-include="*" --file "$0" -C "$1" . -C "$2" ./etc/image', file, join(veld.settings.stateDir, 'layers', layer!.id, 'fs'), over]);
  await ok('template', 'import', file, name);
  for (const path of [file, over]) rmSync(path, { recursive: true });
}

const NAME = `debian-12-${TEMPLATE}`;

test('what one node publishes another pulls: by its key, by its authority, and it boots', async () => {
  await refused(83, /Nothing is signed yet/, 'template', 'server', '--key');
  assert.match(await ok('template', 'publish', TEMPLATE, '--level', '1', '--alias', 'trusty'), new RegExp(`template ${TEMPLATE} is published as debian:bookworm:\\w+:${TEMPLATE}, version \\d{8}_\\d{6}: [\\d.]+ MiB, signed by [0-9A-F]{40}\\nother names: debian/12/${TEMPLATE}, .*trusty`));
  assert.match(await ok('template', 'published'), new RegExp(`debian:bookworm:\\w+:${TEMPLATE} +\\d{8}_\\d{6} +${TEMPLATE} `));
  const server = await veld.json<ImageServerState>('template', 'server');
  assert.deepEqual([server.url, server.error], [`https://127.0.0.1:${port}`, null]);
  assert.match(await ok('template', 'server'), /Signed by: +[0-9A-F]{40}/);
  // Just as its words say it.
  const source = await ok('template', 'server', '--source');
  const keyrings = join(other.dir, 'keyrings');
  mkdirSync(keyrings);
  writeFileSync(join(keyrings, '127.0.0.1.asc'), await ok('template', 'server', '--key'));
  writeFileSync(join(keyrings, '127.0.0.1.crt'), await ok('template', 'server', '--authority'));
  writeFileSync(join(other.settings.sourcesDir, 'first.conf'), source.replaceAll('/etc/veld/keyrings', keyrings));
  const [image] = await offered();
  assert.deepEqual([image!.name, image!.aliases.includes('trusty'), image!.source], [`debian:12/${TEMPLATE}`, true, 'first']);
  assert.match(await there.ok('template', 'pull', `debian:12/${TEMPLATE}`), new RegExp(`template ${NAME} is here`));
  const [here, made] = [await veld.json<TemplateView>('template', 'show', TEMPLATE), await other.json<TemplateView>('template', 'show', NAME)];
  assert.equal(made.fingerprint, here.fingerprint, 'the very same');
  assert.deepEqual(made.source.signedBy, [server.key!.fingerprint]);
  await there.ok('create', 'web', '--template', NAME, '--start');
  assert.equal(await other.booted('web'), 'running');
  assert.ok((await veld.json<ImageServerState>('template', 'server')).bytes > 1 << 20);
});

test('the same is no new version; another content is, and the other node updates; templates may go', async () => {
  assert.match(await ok('template', 'publish', TEMPLATE), /is the newest version .* already/);
  await change('changed', 'second');
  await refused(84, /has the alias trusty already/, 'template', 'publish', 'changed', '--alias', 'trusty');
  await refused(12, /is not of the form/, 'template', 'publish', 'changed', '--as', 'debian');
  await refused(15, /no template/, 'template', 'publish', 'nothing');
  await ok('template', 'publish', 'changed', '--as', `debian:12/${TEMPLATE}`, '--level', '0');
  assert.equal((await serials()).length, 2);
  await ok('template', 'delete', 'changed');
  await offered();
  assert.match(await there.ok('template', 'update'), new RegExp(`template ${NAME} is of the newest version now`));
  await there.ok('create', 'newer', '--template', NAME, '--start');
  assert.equal((await other.exec('newer', 'cat', '/etc/image')).stdout, 'second\n');
  for (const name of ['web', 'newer']) await there.ok('destroy', '--force', name);
});

test('cancelled, or with a daemon that dies, the lists are the old ones or the new ones, whole', async () => {
  const before = await serials();
  await change('late', 'third');
  const { id } = await veld.api.call<OperationRecord>('POST', '/v1/templates/late/publish', { as: `debian:12/${TEMPLATE}`, level: 9 });
  await until('some of it to be packed', async () => /MiB/.test((await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).message), 60_000, 50);
  await ok('operation', 'cancel', id);
  await until('it to end', async () => (await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).state === 'cancelled', 20_000, 50);
  assert.deepEqual([await serials(), readdirSync(join(place, 'incoming'))], [before, []]);
  const files = readdirSync(join(place, 'files')).length;
  for (const point of FULL ? ['template-publish.packed', 'template-publish.signed', 'template-publish.placed', 'template-publish.listed'] : ['template-publish.placed', 'template-publish.listed']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['template', 'publish', 'late', '--as', `debian:12/${TEMPLATE}`, '--level', '0']);
    const listed = point.endsWith('listed');
    assert.equal((await serials()).length, before.length + Number(listed), point);
    assert.equal(existsSync(join(place, 'incoming')), false, point);
    assert.equal(readdirSync(join(place, 'files')).length, listed ? files + 3 : files, point);
    assert.equal((await offered()).length, before.length + Number(listed), point);
  }
});

test('unpublished it is gone for others, and what they have stays', async () => {
  const [, second] = await serials();
  await ok('template', 'unpublish', `debian:12/${TEMPLATE}@${second}`);
  assert.ok(!(await offered()).some(({ serial }) => serial === second));
  assert.match(await ok('template', 'unpublish', 'trusty'), /is published no longer/);
  assert.deepEqual(await offered(), []);
  assert.deepEqual(readdirSync(join(place, 'files')), []);
  await there.refused(75, /has no debian:bookworm:/, 'template', 'update', NAME);
  await there.ok('template', 'show', NAME);
  await refused(83, /Nothing is published as/, 'template', 'unpublish', 'trusty');
});
