/** Templates from servers: an administrator's signed server on loopback, real systems in the images, and VEs of them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { OperationRecord } from '../../src/store/types.ts';
import { hostArchitecture, makeKey, packMetadata, packTree, smallTree, startImageServer, writeStreams, type ServedImage } from '../../src/templates/testing/image-server.ts';
import type { ImageView } from '../../src/ve/images.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance, type Instance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

const server = await startImageServer();
const key = makeKey('images');
const stranger = makeKey('stranger');
after(async () => {
  await server.close();
  for (const each of [key, stranger]) each.remove();
});

/** Nobody outside of this machine is asked. */
const settings = (own: Instance['settings']): void => {
  own.sourcesDir = join(own.stateDir, '../sources');
  mkdirSync(own.sourcesDir, { recursive: true });
  for (const name of ['images', 'openvz']) writeFileSync(join(own.sourcesDir, `${name}.conf`), '');
  writeFileSync(join(own.sourcesDir, 'ubuntu.conf'), `# Ours\nprotocol=simplestreams\nurl=${server.url}\nkeyring=${key.keyring}\n`);
};
const veld = await fileInstance({ settings });
const other = await fileInstance({ settings });
const { ok, refused } = wordsWith(veld);

/** The system that the tests have, as an image of somebody else's. @param changed made in it before */
async function pack(path: string, changed: string): Promise<void> {
  const { layers: [layer] } = await veld.json<TemplateView>('template', 'show', TEMPLATE);
  const over = mkdtempSync(join(veld.dir, 'over-'));
  mkdirSync(join(over, 'etc'), { recursive: true });
  writeFileSync(join(over, 'etc/image'), `${changed}\n`);
  execFileSync('/bin/sh', ['-c', 'mkdir -p "$(dirname "$0")" && tar --create --format=posix --numeric-owner --xattrs --xattrs-include="*" -C "$1" . -C "$2" ./etc/image | zstd -1 -q -f -o "$0"', join(server.folder, path), join(veld.settings.stateDir, 'layers', layer!.id, 'fs'), over]);
  rmSync(over, { recursive: true });
}

const NAME = 'ubuntu-24.04';
const SMALL = 'ubuntu-24.04-small';
const versions: ServedImage['versions'] = {};
/** Of one that holds a shell and no more: for what has nothing to do with what is in it. */
const small: ServedImage['versions'] = {};
const publish = (updated: string, signs = key): void => writeStreams(server, [
  { os: 'Ubuntu', release: 'noble', version: '24.04', aliases: 'ubuntu/noble,lts', endOfLife: '2029-04-25', versions }, { os: 'Ubuntu', release: 'noble', version: '24.04', variant: 'small', versions: small },
], signs, { updated: new Date(updated) });
const offer = async (serial: string): Promise<void> => {
  await pack(`${serial}/root.tar`, serial);
  packMetadata(join(server.folder, `${serial}/meta.tar.xz`));
  versions[serial] = [{ ftype: 'incus.tar.xz', path: `${serial}/meta.tar.xz` }, { ftype: 'root.tar.xz', path: `${serial}/root.tar` }];
};
const offerSmall = (serial: string): void => {
  const tree = mkdtempSync(join(veld.dir, 'small-'));
  packTree(smallTree(tree, serial), join(server.folder, `small/${serial}`));
  small[serial] = [{ ftype: 'root.tar.xz', path: `small/${serial}` }];
  rmSync(tree, { recursive: true });
};
const templates = async (): Promise<string[]> => (await veld.json<TemplateView[]>('template', 'list')).map(({ name }) => name);
const downloads = (of = veld): string[] => (existsSync(join(of.settings.stateDir, 'cache/downloads')) ? readdirSync(join(of.settings.stateDir, 'cache/downloads')) : []);
/** Lists are believed for a minute. */
const forgetLists = (): Promise<void> => veld.restart();

test('what sources there are, and what they offer', async () => {
  await offer('20260101');
  offerSmall('20260101');
  publish('2026-01-01');
  assert.match(await ok('template', 'sources'), new RegExp(`ubuntu +simplestreams +signature +${server.url}`));
  const { images, failed } = await veld.json<{ images: ImageView[]; failed: unknown[] }>('template', 'search', 'lts');
  assert.deepEqual(failed, []);
  assert.deepEqual(images.map(({ name, serial, endOfLife, here, source }) => [name, serial, endOfLife, here, source]), [['ubuntu:24.04', '20260101', '2029-04-25', [], 'ubuntu']]);
  assert.match(await ok('template', 'search'), /ubuntu:24\.04 +Ubuntu noble/);
  assert.deepEqual((await veld.json<{ images: unknown[] }>('template', 'search', 'gutsy')).images, []);
  await refused(70, /no source/, 'template', 'search', '--source', 'none');
});

test('it is brought, and a VE of it boots; asked for again it is there', async () => {
  assert.match(await ok('template', 'pull', 'ubuntu:noble'), /template ubuntu-24\.04 is here/);
  const template = await veld.json<TemplateView>('template', 'show', NAME);
  assert.deepEqual([template.os, template.release, template.architecture, template.source.serial, template.source.signedBy, template.source.description], ['ubuntu', '24.04', hostArchitecture(), '20260101', [key.fingerprint], 'A small one']);
  await ok('create', 'web', '--template', NAME, '--start');
  assert.equal(await veld.booted('web'), 'running');
  assert.equal((await veld.exec('web', 'cat', '/etc/image')).stdout, '20260101\n');
  const before = server.requests.length;
  await ok('template', 'pull', 'ubuntu:24.04');
  assert.ok(server.requests.slice(before).every(({ path }) => path.startsWith('streams/')), 'nothing is brought twice');
  assert.deepEqual(downloads(), []);
  assert.deepEqual((await veld.json<{ images: ImageView[] }>('template', 'search', 'lts')).images[0]!.here, [NAME]);
  // Another node makes the very same of it.
  await veld.json('template', 'pull', 'ubuntu:noble/small');
  // A VE can be made of it at once.
  assert.equal((await other.cli('create', 'direct', '--template', 'ubuntu:noble/small')).code, 0);
  assert.equal((await other.show('direct')).template.name, SMALL);
  const [here, there] = await Promise.all([veld, other].map((node) => node.json<TemplateView>('template', 'show', SMALL)));
  assert.equal(here!.fingerprint, there!.fingerprint);
});

test('a newer version takes the name; the older one stays while a VE stands on it, and goes without', async () => {
  assert.match(await ok('template', 'update', NAME), /is of the newest version$/m);
  await offer('20260201');
  publish('2026-02-01');
  await forgetLists();
  assert.match(await ok('template', 'update'), /template ubuntu-24\.04 is of the newest version now/);
  assert.deepEqual((await templates()).filter((name) => name.startsWith('ubuntu')), [NAME, `${NAME}-20260101`, SMALL]);
  assert.equal((await veld.show('web')).template.name, `${NAME}-20260101`);
  await ok('restart', 'web');
  assert.equal((await veld.exec('web', 'cat', '/etc/image')).stdout, '20260101\n');
  // The other node has the older one still, and makes VEs of it, by whatever name it is meant.
  for (const [i, name] of ['ubuntu:24.04/small', 'ubuntu:noble/small'].entries()) {
    assert.equal((await other.cli('create', `older${i}`, '--template', name)).code, 0);
    assert.equal((await other.show(`older${i}`)).template.name, SMALL);
  }
  assert.equal((await other.cli('create', 'none', '--template', 'ubuntu:7.10')).code, 75);
  await ok('create', 'newer', '--template', NAME, '--start');
  assert.equal((await veld.exec('newer', 'cat', '/etc/image')).stdout, '20260201\n');
  await ok('destroy', '--force', 'newer');
  await refused(75, /which a newer one has replaced/, 'template', 'update', `${NAME}-20260101`);
  offerSmall('20260301');
  publish('2026-03-01');
  await forgetLists();
  assert.match(await ok('template', 'update'), /template ubuntu-24\.04 is of the newest version$\n^template ubuntu-24\.04-small is of the newest version now/m);
  assert.deepEqual((await templates()).filter((name) => name.startsWith('ubuntu')), [NAME, `${NAME}-20260101`, SMALL], 'of the small one nobody used the older version');
  await refused(75, /did not come from a source/, 'template', 'update', TEMPLATE);
  await ok('destroy', '--force', 'web');
  await ok('template', 'update', NAME);
  assert.deepEqual((await templates()).filter((name) => name.startsWith('ubuntu')), [NAME, SMALL], 'so has the one that nobody uses any more');
});

test('a template goes into a file, and another node makes the same of it', async () => {
  const file = join(veld.dir, 'exported.tar');
  await veld.api.operate('POST', `/v1/templates/${SMALL}/export`, { file: `${file}.zst` });
  assert.equal(statSync(`${file}.zst`).mode & 0o777, 0o600);
  await refused(62, /is there already/, 'template', 'export', TEMPLATE, '--file', `${file}.zst`);
  await refused(62, /cannot be written/, 'template', 'export', TEMPLATE, '--file', join(veld.dir, 'none/x'));
  assert.match(await ok('template', 'export', TEMPLATE, '--file', file, '--compress', 'none'), /MiB/);
  // The other node has it already, and says so by what is in it.
  assert.match((await other.cli('template', 'import', file, 'same')).stderr, new RegExp(`The same content is already there as ${TEMPLATE}`));
  await ok('template', 'import', `${file}.zst`, 'again').catch((error: Error) => assert.match(error.message, new RegExp(`already there as ${SMALL}`)));
  await veld.restart({ VELD_FAULT: 'kill:template-export.written' });
  await veld.cliAcross(['template', 'export', SMALL, '--file', `${file}.late`]);
  assert.equal(existsSync(`${file}.late`), false);
});

test('what is not right is refused, each in its own words, and leaves nothing', async () => {
  const before = await templates();
  const bad = async (code: number, words: RegExp): Promise<void> => {
    await forgetLists();
    await refused(code, words, 'template', 'pull', 'ubuntu:noble/small', '--name', 'bad');
    assert.deepEqual(await templates(), before);
  };
  publish('2026-04-01', stranger);
  await bad(73, /not in the keyring/);
  publish('2026-01-15');
  await bad(73, /was seen as of 2026-03-01/);
  offerSmall('20260401');
  small['20260401']![0]!.extra = { sha256: 'a'.repeat(64) };
  publish('2026-04-01');
  await bad(74, /its sha256 is/);
  small['20260401']![0]!.extra = { size: 1000 };
  publish('2026-04-02');
  await bad(74, /longer than 1000 bytes/);
  delete small['20260401'];
  publish('2026-04-03');
  await forgetLists();
  await refused(75, /No source has "ubuntu:gutsy"/, 'template', 'pull', 'ubuntu:gutsy');
  await refused(16, /There is a template named/, 'template', 'pull', 'ubuntu:noble', '--name', TEMPLATE);
  await refused(12, /cannot be the name/, 'template', 'pull', 'ubuntu:noble', '--name', 'Bad Name');
  assert.deepEqual(downloads(), []);
  assert.deepEqual(readdirSync(join(veld.settings.stateDir, 'layers')).filter((name) => name.startsWith('.staged')), []);
});

test('cancelled, or with a daemon that dies, nothing is half there, and what has come is gone on with', async () => {
  const path = 'small/20260301';
  server.faults.set(path, [{ stall: 30_000 }]);
  const { id } = await veld.api.call<OperationRecord>('POST', '/v1/templates/pull', { image: 'ubuntu:noble/small@20260301', name: 'mine' });
  await until('some of it to be there', async () => /MiB/.test((await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).message), 20_000, 50);
  await refused(77, /is being brought already/, 'template', 'pull', 'ubuntu:noble/small', '--name', 'twice');
  await ok('operation', 'cancel', id);
  await until('it to end', async () => (await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).state === 'cancelled', 20_000, 50);
  for (const point of ['pull.file', 'pull.unpacked', 'phase:template-pull.commit']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cli('template', 'pull', 'ubuntu:noble/small@20260101', '--name', 'mine');
    await veld.restart({});
    assert.ok(!(await templates()).includes('mine'), point);
    await until('what was half made to go', () => readdirSync(join(veld.settings.stateDir, 'layers')).every((name) => !name.startsWith('.')), 20_000, 100);
  }
  server.requests.length = 0;
  await ok('template', 'pull', 'ubuntu:noble/small@20260101', '--name', 'mine');
  assert.deepEqual(downloads().length, 1, 'of the one that was cancelled, for the next attempt');
  assert.deepEqual((await veld.json<TemplateView>('template', 'show', 'mine')).source.serial, '20260101');
});
