/** Sources: their files, their lists, whom they are signed by, and what is meant by a name. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeKey, startImageServer, writeStreams, type ImageServer, type ServedImage, type SigningKey } from '../testing/image-server.ts';
import { createCatalogues, namesOf, parseName, pick } from './catalogue.ts';
import { listSources, parseSource } from './config.ts';
import { imageOf } from './precreated.ts';
import { trusted } from './signature.ts';
import type { Image } from './types.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };

test('a file of a source is read, and what is wrong with it is said', () => {
  assert.deepEqual(parseSource('# Ours\n\nprotocol = simplestreams\nurl=https://a.example/images/\nmirror=http://b.example\nmirror=http://c.example\nkeyring=/k.gpg\norder=7\n', 'x.conf'), {
    description: 'Ours', protocol: 'simplestreams', urls: ['https://a.example/images', 'http://b.example', 'http://c.example'], keyring: '/k.gpg', trust: 'signature', ca: null, order: 7,
  });
  const refused = (text: string, why: RegExp): void => assert.throws(() => parseSource(text, 'x.conf'), (error: Error & { code?: string }) => error.code === 'source.invalid' && why.test(error.message));
  refused('url=https://a.example', /protocol must be one of/);
  refused('protocol=simplestreams', /no url/);
  refused('protocol=simplestreams\nurl=https://a.example', /no keyring/);
  refused('protocol=simplestreams\nurl=http://a.example\ntrust=https', /needs addresses that begin with https/);
  refused('protocol=simplestreams\nurl=https://a.example\nmirror=http://b.example\ntrust=https', /needs addresses/);
  refused('protocol=precreated\nurl=https://a.example\ntrust=https', /needs a keyring/);
  for (const url of ['file:///etc', 'ftp://a', 'https://me:word@a.example', 'https://a.example/?x', 'nothing']) refused(`protocol=simplestreams\nurl=${url}\ntrust=https`, /is not an http or https address/);
  refused('protocol=simplestreams\nurl=https://a.example\nkeyring=k.gpg', /not an absolute path/);
  refused('protocol=simplestreams\nurl=https://a.example\nurl=https://b.example\ntrust=https', /given twice/);
  refused('protocol=simplestreams\ncolour=red', /line 2: there is no key/);
  refused('protocol', /line 1 is not of the form/);
  refused('protocol=simplestreams\nurl=https://a.example\ntrust=https\norder=x', /order must be/);
});

test('those that ship can be read; an administrator\'s stands in the place of a shipped one', (t) => {
  const sourcesDir = mkdtempSync(join(tmpdir(), 'veld-sources-'));
  t.after(() => rmSync(sourcesDir, { recursive: true }));
  const settings = { sourcesDir, libexecDir: join(import.meta.dirname, '../../../libexec') };
  const shipped = listSources(settings);
  assert.ok(shipped.length >= 3 && shipped.every(({ error, shipped: its }) => error === null && its), JSON.stringify(shipped));
  writeFileSync(join(sourcesDir, 'images.conf'), 'protocol=simplestreams\nurl=https://here.example\ntrust=https\norder=1\n');
  writeFileSync(join(sourcesDir, 'broken.conf'), 'x\n');
  writeFileSync(join(sourcesDir, 'Bad Name.conf'), 'x\n');
  symlinkSync('/dev/null', join(sourcesDir, 'openvz.conf'));
  const all = listSources(settings);
  assert.deepEqual(all.map(({ name }) => name), ['images', 'ubuntu', 'broken']);
  assert.deepEqual([all[0]!.name, all[0]!.urls], ['images', ['https://here.example']]);
  assert.match(all.find(({ name }) => name === 'broken')!.error!, /line 1 is not/);
});

test('what gpgv says of a signature', () => {
  const by = (...lines: string[]): string => trusted(lines.map((line) => line.split(' ')), 'The list');
  const refused = (why: RegExp, ...lines: string[]): void => assert.throws(() => by(...lines), (error: Error & { code?: string }) => error.code === 'source.untrusted' && why.test(error.message));
  assert.equal(by('NEWSIG', 'GOODSIG A1 Some One', 'VALIDSIG A1B2 2026-01-01'), 'A1B2');
  assert.equal(by('ERRSIG B2 1 8 00 1 9', 'NO_PUBKEY B2', 'GOODSIG A1 Some One', 'VALIDSIG A1B2'), 'A1B2', 'one of two that sign is known');
  refused(/changed/, 'GOODSIG A1 x', 'VALIDSIG A1', 'BADSIG B2 y');
  refused(/has expired/, 'EXPKEYSIG A1 x', 'VALIDSIG A1');
  refused(/has expired/, 'EXPSIG A1 x', 'VALIDSIG A1');
  refused(/revoked/, 'REVKEYSIG A1 x', 'VALIDSIG A1');
  refused(/not in the keyring/, 'ERRSIG B2 1', 'NO_PUBKEY B2');
  refused(/not signed/, 'NODATA 1');
  refused(/not signed/);
});

const image = (fields: Partial<Image>): Image => ({ source: 'a', product: 'ubuntu:noble:amd64:default', serial: '20260101', os: 'ubuntu', release: '24.04', codename: 'noble', variant: 'default', architecture: 'amd64', title: '', aliases: [], endOfLife: null, files: [], fingerprint: null, ...fields });

test('what people mean by a name', () => {
  const all = [
    image({ product: 'server', variant: 'server', aliases: ['24.04', 'noble', 'lts'] }), image({ product: 'server', variant: 'server', serial: '20260301' }),
    image({ source: 'b' }), image({ source: 'b', serial: '20260202' }), image({ source: 'b', product: 'desktop', variant: 'desktop' }),
    image({ source: 'b', product: 'd', os: 'debian', release: '12', codename: 'bookworm', variant: 'cloud', aliases: ['debian/12/cloud'] }), image({ source: 'b', product: 'e', os: 'debian', release: '12', codename: 'bookworm', variant: 'slim' }),
    image({ source: 'b', product: 'sid', os: 'debian', release: 'sid', codename: 'sid' }),
  ];
  const mean = (name: string): string | undefined => {
    const { only, words, serial } = parseName(name, ['a', 'b']);
    const found = pick(all.filter(({ source }) => only === undefined || source === only), words, serial, name);
    return found && `${found.source} ${found.product} ${found.serial}`;
  };
  for (const name of ['ubuntu:24.04', 'ubuntu:noble', 'Ubuntu/Noble', 'ubuntu-24.04', '24.04', 'a:noble', 'a:server']) assert.equal(mean(name), 'a server 20260301', name);
  assert.equal(mean('ubuntu:lts'), 'a server 20260101', 'an alias of one version');
  assert.equal(mean('b:ubuntu/noble'), 'b ubuntu:noble:amd64:default 20260202');
  assert.equal(mean('b:ubuntu/noble@20260101'), 'b ubuntu:noble:amd64:default 20260101');
  assert.equal(mean('ubuntu:noble/desktop'), 'b desktop 20260101');
  assert.equal(mean('debian:12/cloud'), 'b d 20260101');
  assert.equal(mean('debian:sid'), 'b sid 20260101');
  for (const name of ['ubuntu:22.04', 'a:desktop', 'ubuntu:noble@1', 'debian:12']) assert.equal(mean(name), undefined, name);
  assert.throws(() => pick([image({ product: 'x', variant: 'cloud', aliases: ['it'] }), image({ product: 'y', variant: 'slim', aliases: ['it'] })], 'it', undefined, 'it'), { code: 'image.ambiguous' });
  for (const name of ['', ':', '@1', 'x@', 'x'.repeat(300)]) assert.throws(() => parseName(name, []), { code: 'image.not_found' }, name);
  assert.ok(namesOf(all[0]!).includes('ubuntu/lts'));
});

test('names of OpenVZ\'s templates', () => {
  const of = (stem: string): unknown => {
    const found = imageOf('openvz', stem);
    return found && [found.os, found.release, found.codename, found.variant, found.architecture, found.files[0]!.path, found.files[0]!.signature];
  };
  assert.deepEqual(of('ubuntu-12.04-x86_64-minimal'), ['ubuntu', '12.04', 'precise', 'minimal', 'amd64', 'ubuntu-12.04-x86_64-minimal.tar.gz', 'ubuntu-12.04-x86_64-minimal.tar.gz.asc']);
  assert.deepEqual(of('ubuntu-7.10-i386'), ['ubuntu', '7.10', 'gutsy', 'default', 'i386', 'ubuntu-7.10-i386.tar.gz', 'ubuntu-7.10-i386.tar.gz.asc']);
  for (const stem of ['', 'ubuntu', '../x-1-x86', 'ubuntu-12.04-sparc', 'a/b-1-x86']) assert.equal(of(stem), undefined, stem);
});

describe('a server', needsRoot, () => {
  let server: ImageServer;
  let [key, other]: SigningKey[] = [];
  let stateDir: string;
  let sourcesDir: string;
  const noble: ServedImage = { os: 'Ubuntu', release: 'noble', aliases: 'ubuntu/noble,ubuntu/noble/default', endOfLife: '2029-04-25', versions: { '20260101_07:42': [{ ftype: 'root.tar.xz', path: 'one.tar.xz' }] } };

  before(async () => {
    server = await startImageServer();
    [key, other] = [makeKey('images'), makeKey('stranger')];
    [stateDir, sourcesDir] = [mkdtempSync(join(tmpdir(), 'veld-state-')), mkdtempSync(join(tmpdir(), 'veld-sources-'))] as [string, string];
    writeFileSync(join(server.folder, 'one.tar.xz'), 'one');
  });
  after(async () => {
    await server.close();
    for (const each of [key, other]) each?.remove();
    for (const folder of [stateDir, sourcesDir]) rmSync(folder, { recursive: true, force: true });
  });
  /** Each time as if nothing were known but what is remembered on the disk. */
  const find = async (name: string, conf = `keyring=${key!.keyring}`, stall = 2000): Promise<Image & { signedBy: string | null }> => {
    writeFileSync(join(sourcesDir, 'test.conf'), `protocol=simplestreams\nurl=${server.url}\n${conf}\n`);
    const libexecDir = join(sourcesDir, 'libexec');
    mkdirSync(libexecDir, { recursive: true });
    const { image: found, signedBy } = await createCatalogues({ sourcesDir, libexecDir, stateDir }, { stall }).find(name, 'amd64');
    return { ...found, signedBy };
  };
  const forget = (): void => rmSync(join(stateDir, 'sources'), { recursive: true, force: true });
  const list = (signs: SigningKey | null, ...rest: [options?: Parameters<typeof writeStreams>[3]]): void => writeStreams(server, [{ ...noble, architecture: 'amd64' }], signs, ...rest);
  const untrusted = (why: RegExp) => (error: Error & { code?: string }) => error.code === 'source.untrusted' && why.test(error.message);

  test('that signs its lists: in the message, or beside it', async () => {
    list(key!);
    const found = await find('ubuntu:24.04');
    assert.deepEqual([found.product, found.serial, found.release, found.codename, found.endOfLife, found.files[0]!.size, found.signedBy], ['ubuntu:noble:amd64:default', '20260101_07:42', '24.04', 'noble', '2029-04-25', 3, key!.fingerprint]);
    list(null, { detached: key! });
    assert.equal((await find('ubuntu:noble')).signedBy, key!.fingerprint);
    await assert.rejects(find('ubuntu:22.04'), { code: 'image.not_found' });
  });

  test('is refused when the list is unsigned, signed by another, changed, or signed by a key or for a time that is over', async () => {
    forget();
    list(null);
    await assert.rejects(find('ubuntu:noble'), untrusted(/is not signed/));
    list(other!);
    await assert.rejects(find('ubuntu:noble'), untrusted(/not in the keyring/));
    list(null, { detached: other! });
    await assert.rejects(find('ubuntu:noble'), untrusted(/not in the keyring/));
    for (const name of ['index', 'images']) {
      list(key!);
      const file = join(server.folder, `streams/v1/${name}.sjson`);
      writeFileSync(file, readFileSync(file, 'utf8').replace('"updated"', '"Updated"'));
      await assert.rejects(find('ubuntu:noble'), untrusted(/is not what was signed/), name);
      // What stands outside of what is signed is no part of it.
      list(key!);
      writeFileSync(file, `{"format":"index:1.0"}\n${readFileSync(file, 'utf8')}{"more":1}\n`);
      assert.equal((await find('ubuntu:noble')).signedBy, key!.fingerprint, name);
    }
    const old = makeKey('old', '1y', '20200101T000000');
    try {
      list(old);
      await assert.rejects(find('ubuntu:noble', `keyring=${old.keyring}`), untrusted(/key .* has expired/));
    } finally {
      old.remove();
    }
    writeStreams(server, [{ ...noble, architecture: 'amd64' }], { sign: (text) => key!.sign(text, ['--default-sig-expire', 'seconds=1']) });
    await sleep(1500);
    await assert.rejects(find('ubuntu:noble'), untrusted(/expired/));
    await assert.rejects(find('ubuntu:noble', 'keyring=/nowhere.gpg'), { code: 'source.invalid' });
  });

  test('that shows an older list than before is refused, until somebody says that it was put back', async () => {
    forget();
    list(key!, { updated: new Date('2026-03-01') });
    await find('ubuntu:noble');
    list(key!, { updated: new Date('2026-02-01') });
    await assert.rejects(find('ubuntu:noble'), untrusted(/was seen as of 2026-03-01/));
    list(key!, { updated: new Date('2026-03-01') });
    await find('ubuntu:noble');
    list(key!, { updated: new Date('2026-02-01') });
    forget();
    await find('ubuntu:noble');
  });

  test('whose list is no list, too long, gone, or never ends', async () => {
    forget();
    const write = (text: string): void => writeFileSync(join(server.folder, 'streams/v1/index.sjson'), key!.sign(text));
    list(key!);
    for (const text of ['', '[]', 'x', '{"format":"index:2.0"}', '{"format":"index:1.0"}', '{"format":"index:1.0","index":{"a":{"datatype":"image-downloads","format":"products:1.0","path":"../../etc/passwd"}}}']) {
      write(text);
      await assert.rejects(find('ubuntu:noble'), (error: Error & { code?: string }) => ['source.invalid', 'source.untrusted'].includes(error.code!), text);
    }
    writeFileSync(join(server.folder, 'streams/v1/index.sjson'), Buffer.alloc(5 << 20));
    await assert.rejects(find('ubuntu:noble'), (error: Error & { code?: string }) => error.code === 'source.invalid' && /is longer than/.test(error.message));
    list(key!);
    for (const fault of [{ status: 500 }, { drop: 100 }, { stall: 100 }, { to: 'file:///etc/passwd' }, { to: `${server.url}/streams/v1/index.sjson` }] as const) {
      server.faults.set('streams/v1/index.sjson', Array.from({ length: 8 }, () => fault));
      await assert.rejects(find('ubuntu:noble', undefined, 300), { code: 'source.unreachable' }, JSON.stringify(fault));
    }
    server.faults.clear();
    assert.equal((await find('ubuntu:noble', `keyring=${key!.keyring}\nmirror=http://127.0.0.1:1`)).serial, '20260101_07:42');
    writeFileSync(join(sourcesDir, 'test.conf'), '');
    // A second address does when the first is away.
    writeFileSync(join(sourcesDir, 'two.conf'), `protocol=simplestreams\nurl=http://127.0.0.1:1\nmirror=${server.url}\nkeyring=${key!.keyring}\n`);
    assert.equal((await createCatalogues({ sourcesDir, libexecDir: sourcesDir, stateDir }).find('two:ubuntu/noble', 'amd64')).image.serial, '20260101_07:42');
    rmSync(join(sourcesDir, 'two.conf'));
  });

  test('entries that are no images are passed over; forms are chosen', async () => {
    forget();
    writeFileSync(join(server.folder, 'meta'), 'meta');
    const one = { path: 'one.tar.xz' };
    writeStreams(server, [
      { ...noble, architecture: 'amd64', versions: { 20260101: [{ ftype: 'incus.tar.xz', path: 'meta', extra: { combined_rootxz_sha256: 'a'.repeat(64), combined_squashfs_sha256: 'b'.repeat(64) } }, { ftype: 'squashfs', ...one }, { ftype: 'root.tar.xz', ...one }], 20260102: [{ ftype: 'disk-kvm.img', ...one }], 20260103: [{ ftype: 'root.tar.xz', ...one, extra: { path: '../x' } }], 20260104: [{ ftype: 'root.tar.xz', ...one, extra: { sha256: null } }], 20260105: [{ ftype: 'root.tar.xz', ...one, extra: { size: -1 } }] } },
      { os: 'Ubuntu', release: 'jammy', architecture: 'amd64', versions: { 20260101: [{ ftype: 'lxd.tar.xz', path: 'meta', extra: { combined_squashfs_sha256: 'b'.repeat(64) } }, { ftype: 'squashfs', ...one }] } },
      { os: 'Ubuntu', release: 'focal', architecture: 'amd64', versions: { 20260101: [{ ftype: 'lxd_combined.tar.gz', ...one }] } },
    ], key!);
    const shape = async (name: string): Promise<unknown[]> => {
      const { serial, files, fingerprint } = await find(name);
      return [serial, files.map(({ role, path }) => `${role} ${path}`).join(', '), fingerprint?.slice(0, 2)];
    };
    assert.deepEqual(await shape('ubuntu:noble'), ['20260101', 'metadata meta, tree one.tar.xz', 'aa']);
    assert.deepEqual(await shape('ubuntu:jammy'), ['20260101', 'metadata meta, tree one.tar.xz', 'bb']);
    const { files: [combined] } = await find('ubuntu:focal');
    assert.deepEqual(await shape('ubuntu:focal'), ['20260101', 'combined one.tar.xz', combined!.sha256!.slice(0, 2)]);
  });
});
