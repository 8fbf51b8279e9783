/** Images come whole, or not at all: broken-off downloads, and everything that somebody could have changed on the way. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { Task } from '../ops/types.ts';
import type { TemplateRecord } from '../store/types.ts';
import { pullImage } from './pull.ts';
import { download } from './sources/download.ts';
import type { Image, ImageFile, Source } from './sources/types.ts';
import { hostArchitecture, makeKey, packMetadata, packTree, smallTree, startImageServer, type ImageServer, type SigningKey } from './testing/image-server.ts';

describe('images', { skip: process.getuid?.() !== 0 && 'needs root' }, () => {
  let server: ImageServer;
  let key: SigningKey;
  let dir: string;
  let source: Source;
  const architecture = hostArchitecture();

  before(async () => {
    server = await startImageServer();
    key = makeKey('openvz');
    dir = mkdtempSync(join(tmpdir(), 'veld-pull-'));
    source = { name: 'test', description: '', protocol: 'simplestreams', urls: [server.url], keyring: null, trust: 'https', ca: null, order: 50, file: '/test.conf', shipped: false, error: null };
    smallTree(join(dir, 'tree'));
    for (const form of ['root.tar.xz', 'squashfs', 'incus_combined.tar.gz', 'tar.gz'] as const) packTree(join(dir, 'tree'), join(server.folder, `one.${form}`), form);
    packMetadata(join(server.folder, 'meta.tar.xz'));
    writeFileSync(join(server.folder, 'large'), Buffer.alloc(1 << 20, 'content of it; '));
  });
  after(async () => {
    await server.close();
    key.remove();
    rmSync(dir, { recursive: true, force: true });
  });

  const sha256 = (...paths: string[]): string => {
    const hash = createHash('sha256');
    for (const path of paths) hash.update(readFileSync(join(server.folder, path)));
    return hash.digest('hex');
  };
  const fileOf = (path: string, role: ImageFile['role'], fields: Partial<ImageFile> = {}): ImageFile => ({ role, path, size: readFileSync(join(server.folder, path)).length, sha256: sha256(path), signature: null, ...fields });
  const imageOf = (files: ImageFile[], fields: Partial<Image> = {}): Image => ({ source: 'test', product: 'p', serial: '1', os: 'ubuntu', release: '24.04', codename: 'noble', variant: 'default', architecture, title: 'Ubuntu', aliases: [], endOfLife: null, files, fingerprint: null, ...fields });
  const progress: string[] = [];
  const task: Task = { id: 't', signal: new AbortController().signal, progress: (_percent, message) => void progress.push(message), warn() {}, undo() {}, phase() {}, commit() {} };
  let pulls = 0;
  const pull = async (image: Image, from: Partial<Source> = {}, signal?: AbortSignal): Promise<Omit<TemplateRecord, 'layers' | 'size'> & { tree: string }> => {
    const tree = join(dir, `staged${pulls += 1}`);
    const record = await pullImage({ source: { ...source, ...from }, image, signedBy: null, name: 'noble' }, { path: tree }, join(dir, 'downloads'), { ...task, ...signal && { signal } }, { stall: 400, pause: 10 });
    return { ...record, tree };
  };
  const left = (): string[] => (existsSync(join(dir, 'downloads')) ? readdirSync(join(dir, 'downloads')) : []);
  const bring = (file: Partial<ImageFile> = {}, from: Partial<Source> = {}): Promise<string> => download({ ...source, ...from }, { ...fileOf('large', 'tree'), ...file }, join(dir, 'large'), { stall: 400, pause: 10 });
  const anew = (): void => {
    rmSync(join(dir, 'large'), { force: true });
    server.faults.clear();
    server.requests.length = 0;
  };

  test('every form makes the same tree', async () => {
    const metadata = fileOf('meta.tar.xz', 'metadata');
    const forms = [
      imageOf([metadata, fileOf('one.root.tar.xz', 'tree')], { fingerprint: sha256('meta.tar.xz', 'one.root.tar.xz') }), imageOf([metadata, fileOf('one.squashfs', 'tree')], { fingerprint: sha256('meta.tar.xz', 'one.squashfs') }),
      imageOf([fileOf('one.incus_combined.tar.gz', 'combined')]), imageOf([fileOf('one.root.tar.xz', 'tree')]),
    ];
    const records = [];
    for (const form of forms) records.push(await pull(form));
    assert.equal(new Set(records.map(({ fingerprint }) => fingerprint)).size, 1);
    assert.deepEqual(records.map(({ source: { description } }) => description), ['A small one', 'A small one', 'A small one', undefined]);
    const [{ os, release, name, source: { kind, serial, files } }] = records as [typeof records[0] & object];
    assert.deepEqual([os, release, name, kind, serial, (files as unknown[]).length], ['ubuntu', '24.04', 'noble', 'image', '1', 2]);
    assert.deepEqual(readdirSync(records[2]!.tree).toSorted(), ['bin', 'dev', 'etc', 'sbin', 'usr']);
    assert.deepEqual(left(), [], 'nothing of the downloads is kept');
  });

  test('a download goes on where it broke off, at whichever tenth, and however it did', async () => {
    for (let tenth = 0; tenth < 10; tenth++) {
      for (const fault of ['drop', 'stall'] as const) {
        anew();
        const at = Math.floor(tenth * (1 << 20) / 10);
        server.faults.set('large', [{ [fault]: at } as never]);
        assert.equal(await bring(), sha256('large'));
        const [, second] = server.requests;
        assert.equal(server.requests.length, 2);
        const from = Number(/^bytes=(\d+)-$/.exec(second!.range ?? 'bytes=0-')![1]);
        assert.ok(from <= at && (at === 0 || from > at - (1 << 17)), `${fault} at ${at}, gone on from ${from}`);
      }
    }
    // By the next call, too; and where the server knows no ranges.
    anew();
    server.faults.set('large', [{ drop: 500_000 }, ...Array.from({ length: 8 }, () => ({ status: 503 }))]);
    await assert.rejects(bring(), { code: 'source.unreachable' });
    server.faults.clear();
    server.requests.length = 0;
    assert.equal(await bring(), sha256('large'));
    assert.match(server.requests[0]!.range!, /^bytes=[1-9]/);
    writeFileSync(join(dir, 'large'), readFileSync(join(server.folder, 'large')).subarray(0, 1000));
    server.faults.set('large', [{ whole: true }]);
    assert.equal(await bring(), sha256('large'));
    // What an earlier call left was of something else.
    writeFileSync(join(dir, 'large'), 'something else');
    assert.equal(await bring(), sha256('large'));
  });

  test('from the second address when the first is away, or has something else', async () => {
    anew();
    assert.equal(await bring({}, { urls: ['http://127.0.0.1:1', server.url] }), sha256('large'));
    anew();
    const liar = await startImageServer();
    try {
      writeFileSync(join(liar.folder, 'large'), Buffer.alloc(1 << 20));
      assert.equal(await bring({}, { urls: [liar.url, server.url] }), sha256('large'));
      anew();
      await assert.rejects(bring({}, { urls: [liar.url] }), { code: 'source.corrupt' });
      assert.equal(existsSync(join(dir, 'large')), false);
    } finally {
      await liar.close();
    }
  });

  test('what is not what the list says is refused, and nothing is kept', async () => {
    const size = 1 << 20;
    const cases: [what: string, file: Partial<ImageFile>, code: string, why: RegExp][] = [
      ['wrong hash', { sha256: 'a'.repeat(64) }, 'source.corrupt', /its sha256 is/], ['one byte too long', { size: size - 1 }, 'source.corrupt', /longer than/], ['one byte too short', { size: size + 1 }, 'source.unreachable', /broke off: it has 1048576 of 1048577/],
      ['not there', { path: 'none' }, 'source.unreachable', /status 404/],
    ];
    for (const [what, file, code, why] of cases) {
      anew();
      await assert.rejects(bring(file), (error: Error & { code?: string }) => error.code === code && why.test(error.message), what);
    }
    anew();
    server.faults.set('large', Array.from({ length: 8 }, () => ({ to: 'http://127.0.0.1:1/other' })));
    await assert.rejects(bring(), { code: 'source.unreachable' });
  });

  test('files that do not belong together, another machine\'s programs, metadata that is none', async () => {
    const tree = fileOf('one.root.tar.xz', 'tree');
    await assert.rejects(pull(imageOf([fileOf('meta.tar.xz', 'metadata'), tree], { fingerprint: 'b'.repeat(64) })), { code: 'source.corrupt' });
    await assert.rejects(pull(imageOf([tree], { architecture: 'riscv64' })), (error: Error & { code?: string }) => error.code === 'template.invalid' && /its programs are for/.test(error.message));
    const bombs = ['architecture: [x86_64', 'x86_64', 'creation_date: 1', 'a: &a [1]\narchitecture: x86_64\nb: *a', `architecture: x86_64\nmore: ${'x'.repeat(2 << 20)}`];
    for (const yaml of bombs) {
      packMetadata(join(server.folder, 'bad.tar.xz'), yaml);
      await assert.rejects(pull(imageOf([fileOf('bad.tar.xz', 'metadata'), tree])), { code: 'template.invalid' }, yaml.slice(0, 60));
    }
    await assert.rejects(pull(imageOf([fileOf('one.root.tar.xz', 'metadata'), tree])), /no metadata.yaml/);
    assert.deepEqual(left(), []);
  });

  test('trees that reach out of it, hold devices, or have no init', async () => {
    const spoil: [what: string, commands: string, why: RegExp][] = [
      ['a device', 'mknod etc/disk b 8 0', /device node/], ['no init', 'rm sbin/init', /no program \/sbin\/init/], ['no end', 'true', /cut short|decompressed/],
    ];
    for (const [what, commands, why] of spoil) {
      const tree = join(dir, 'spoilt');
      rmSync(tree, { recursive: true, force: true });
      smallTree(tree);
      execFileSync('/bin/sh', ['-c', commands], { cwd: tree });
      const file = join(server.folder, 'spoilt.tar.gz');
      packTree(tree, file, 'tar.gz');
      if (what === 'no end') writeFileSync(file, readFileSync(file).subarray(0, -2000));
      await assert.rejects(pull(imageOf([fileOf('spoilt.tar.gz', 'tree')])), (error: Error & { code?: string }) => error.code === 'template.invalid' && why.test(error.message), what);
    }
    // Of archives with more than a tree in it, what is beside the tree stays away.
    const folder = join(dir, 'combined');
    for (const name of ['rootfs', 'other']) mkdirSync(join(folder, name), { recursive: true });
    smallTree(join(folder, 'rootfs'));
    writeFileSync(join(folder, 'other/file'), '');
    symlinkSync('/etc', join(folder, 'rootfs/etc/host'));
    copyFileSync(join(server.folder, 'meta.tar.xz'), join(dir, 'meta.tar.xz'));
    execFileSync('/usr/bin/tar', ['-xf', join(dir, 'meta.tar.xz'), '-C', folder]);
    execFileSync('/usr/bin/tar', ['-czf', join(server.folder, 'mixed.tar.gz'), '-C', folder, 'metadata.yaml', 'other', 'rootfs']);
    const { tree } = await pull(imageOf([fileOf('mixed.tar.gz', 'combined')]));
    assert.deepEqual(readdirSync(tree).toSorted(), ['bin', 'dev', 'etc', 'sbin', 'usr']);
    execFileSync('/bin/sh', ['-c', 'ln other/file rootfs/etc/linked; tar -czf "$0" metadata.yaml other rootfs', join(server.folder, 'linked.tar.gz')], { cwd: folder });
    await assert.rejects(pull(imageOf([fileOf('linked.tar.gz', 'combined')])), /leads out of it/);
    assert.deepEqual(left(), []);
  });

  test('a file that is signed by itself', async () => {
    const signed = imageOf([fileOf('one.tar.gz', 'tree', { size: null, sha256: null, signature: 'one.tar.gz.asc' })]);
    const from = { keyring: key.keyring };
    const untrusted = (why: RegExp) => (error: Error & { code?: string }) => error.code === 'source.untrusted' && why.test(error.message);
    await assert.rejects(pull(signed, from), untrusted(/is not signed/));
    const stranger = makeKey('stranger');
    try {
      writeFileSync(join(server.folder, 'one.tar.gz.asc'), stranger.detach(join(server.folder, 'one.tar.gz')));
      await assert.rejects(pull(signed, from), untrusted(/not in the keyring/));
    } finally {
      stranger.remove();
    }
    writeFileSync(join(server.folder, 'one.tar.gz.asc'), key.detach(join(server.folder, 'one.root.tar.xz')));
    await assert.rejects(pull(signed, from), untrusted(/changed/));
    writeFileSync(join(server.folder, 'one.tar.gz.asc'), key.detach(join(server.folder, 'one.tar.gz')));
    const { source: { signedBy } } = await pull(signed, from);
    assert.deepEqual(signedBy, [key.fingerprint]);
    assert.deepEqual(left(), []);
  });

  test('cancelled it leaves what has come, and nothing in the way', async () => {
    const canceller = new AbortController();
    server.faults.set('one.root.tar.xz', [{ stall: 1000 }]);
    setTimeout(() => canceller.abort(), 150);
    await assert.rejects(pull(imageOf([fileOf('one.root.tar.xz', 'tree')]), {}, canceller.signal), { code: 'operation.cancelled' });
    assert.equal(left().length, 1);
    server.requests.length = 0;
    await pull(imageOf([fileOf('one.root.tar.xz', 'tree')]));
    assert.match(server.requests[0]!.range!, /^bytes=[1-9]/);
    assert.ok(progress.some((line) => /^downloading: .* of .* MiB/.test(line)), progress.join('\n'));
    assert.deepEqual(left(), []);
  });
});
