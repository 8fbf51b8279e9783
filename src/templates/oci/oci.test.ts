import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { Task } from '../../ops/types.ts';
import { readImage } from './config.ts';
import { fillFromOci } from './fill.ts';
import { isOci, parseOci } from './reference.ts';
import { makeLayout, spoil } from './testing.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-oci-'));
after(() => rmSync(folder, { recursive: true, force: true }));

test('names of images', () => {
  assert.deepEqual(['docker://a', 'oci:/a', 'ubuntu:24.04', 'docker:a', '/a'].map(isOci), [true, true, false, false, false]);
  const names = ['docker://docker.io/library/nginx:1.27', 'docker://nginx', 'docker://localhost:5000/team/App:latest'.toLowerCase(), `docker://a.example/b@sha256:${'0'.repeat(64)}`, 'oci:/srv/layouts/shop:2.0', 'oci:/srv/7up/', 'oci:/srv/x:1_0..2_'];
  assert.deepEqual(names.map((name) => parseOci(name).name), ['nginx-1.27', 'nginx', 'app', 'b', 'shop-2.0', 'image-7up', 'x-1-0.2']);
  for (const bad of ['docker://', 'docker:///a', 'docker://a b', 'docker://a --authfile', 'docker://A', 'docker://a:', 'docker://a@sha256:1', 'docker://a/../b', 'oci:a', 'oci:/a:', 'oci:/a:b:c', 'oci:/a:-x', 'oci:/a\n', `docker://${'a:'.repeat(500)}`]) {
    assert.throws(() => parseOci(bad), { code: 'request.invalid' }, bad);
  }
});

/** A layout that nobody has checked. */
function layoutOf(documents: { index?: unknown; manifest?: unknown; config?: unknown }): string {
  const own = mkdtempSync(join(folder, 'layout-'));
  const blobs = join(own, 'blobs/sha256');
  mkdirSync(blobs, { recursive: true });
  const digest = (digit: string): { digest: string } => ({ digest: `sha256:${digit.repeat(64)}` });
  writeFileSync(join(own, 'index.json'), JSON.stringify(documents.index ?? { manifests: [digest('a')] }));
  writeFileSync(join(blobs, 'a'.repeat(64)), JSON.stringify(documents.manifest ?? { config: digest('b'), layers: [digest('c')] }));
  writeFileSync(join(blobs, 'b'.repeat(64)), JSON.stringify(documents.config ?? {}));
  return own;
}

test('what an image says of its command; nothing of it is believed', () => {
  const of = (config: unknown) => readImage(layoutOf({ config: { architecture: 'arm', config } }));
  assert.deepEqual(of({}).command, { args: [], env: [], cwd: '/', user: 'root' });
  assert.deepEqual(readImage(layoutOf({})).architecture, 'unknown');
  const { command, architecture, description, layers, digest } = of({ Entrypoint: ['/bin/app', '-x'], Cmd: ['y'], Env: ['A=1', 'B-C=2', '=3', 'D'], WorkingDir: '/srv', User: '33:44', Labels: { 'org.opencontainers.image.title': 'An \u001b[1mapp' } });
  assert.deepEqual([command, architecture, description], [{ args: ['/bin/app', '-x', 'y'], env: ['A=1'], cwd: '/srv', user: '33' }, 'armhf', 'An  [1mapp']);
  assert.deepEqual([layers.map((path) => path.slice(-64)), digest], [['c'.repeat(64)], 'a'.repeat(64)]);
  const bad: unknown[] = [{ Entrypoint: 'sh' }, { Cmd: [1] }, { Env: {} }, { WorkingDir: 'srv' }, { User: '-x' }, { User: 'a b' }, { Cmd: ['a\0b'] }, { Cmd: Array.from({ length: 257 }, () => 'x') }, { Cmd: ['x'.repeat(5000)] }, [], { Labels: 5 }];
  for (const config of bad) assert.throws(() => of(config), { code: 'template.invalid' }, JSON.stringify(config)?.slice(0, 80));
  for (const documents of [{ index: [] }, { index: {} }, { index: { manifests: [] } }, { index: { manifests: [{ digest: 'sha256:../../../etc/passwd' }] } }, { manifest: { layers: [] } }, { manifest: { config: { digest: 'x' }, layers: [{}] } }, { manifest: 5 }, { manifest: { layers: Array.from({ length: 300 }, () => ({})) } }]) {
    assert.throws(() => readImage(layoutOf(documents)), { code: 'template.invalid' }, JSON.stringify(documents));
  }
  const linked = layoutOf({});
  rmSync(join(linked, 'index.json'));
  spawnSync('ln', ['-s', '/etc/passwd', join(linked, 'index.json')]);
  assert.throws(() => readImage(linked), /ELOOP/);
});

const absent = process.getuid?.() !== 0 ? 'needs root' : ['/usr/bin/skopeo', '/usr/bin/umoci'].find((program) => !existsSync(program));

describe('a layout', { skip: absent === undefined ? false : `there is no ${absent}` }, () => {
  const layout = join(folder, 'app');
  const made = (): void => makeLayout(layout, 'mkdir -p "$1/usr/lib" "$1/etc" "$2/etc"; ln -s usr/lib "$1/lib"; echo one >"$1/etc/one"; echo two >"$1/etc/two"; mkdir "$1/srv"; echo old >"$1/srv/old"; chown 33:44 "$1/etc/one"; echo three >"$2/etc/three"; : >"$2/etc/.wh.two"; mkdir "$2/srv"; : >"$2/srv/.wh..wh..opq"; echo new >"$2/srv/new"',
    ['--config.entrypoint', '/bin/app', '--config.cmd', 'serve', '--config.env', 'A=1', '--config.user', '33']);
  const task = { signal: new AbortController().signal, progress() {}, warn() {} } as unknown as Task;
  const scratch = join(folder, 'scratch');
  let count = 0;
  const fill = (text: string, signal = task.signal) => {
    const path = join(folder, `tree-${count += 1}`);
    return fillFromOci({ reference: parseOci(text), name: 'app', architecture: 'amd64', scratch, authFile: join(folder, 'none') }, { path }, { ...task, signal }).then((record) => ({ record, path }));
  };

  test('becomes a tree: layers above each other, deleted names gone, owners kept', async () => {
    made();
    const { record, path } = await fill(`oci:${layout}:app`);
    assert.deepEqual([readdirSync(join(path, 'etc')).toSorted(), readdirSync(join(path, 'srv'))], [['one', 'three'], ['new']]);
    assert.deepEqual([statSync(join(path, 'etc/one')).uid, statSync(join(path, 'etc/one')).gid], [33, 44]);
    assert.deepEqual(record.source, { kind: 'oci', reference: `oci:${layout}:app`, digest: record.source.digest, command: { args: ['/bin/app', 'serve'], env: ['A=1'], cwd: '/', user: '33' } });
    assert.equal((await fill(`oci:${layout}`)).record.fingerprint, record.fingerprint, 'its only one');
    assert.deepEqual(readdirSync(scratch), []);
  });

  test('that is not whole, has another name, devices or owners out of range, or is cancelled, is refused, and nothing of it stays', async () => {
    await assert.rejects(fill(`oci:${layout}:other`), { code: 'source.unreachable', message: /skopeo cannot bring/ });
    await assert.rejects(fill('oci:/nowhere:x'), { code: 'template.invalid', message: /holds no layout/ });
    for (const [i, which] of [(content: Buffer) => content.includes('"rootfs"'), (content: Buffer) => content[0] === 0x1f].entries()) {
      const spoilt = join(folder, `spoilt-${i}`);
      cpSync(layout, spoilt, { recursive: true });
      spoil(spoilt, which);
      await assert.rejects(fill(`oci:${spoilt}:app`), { code: 'source.unreachable' }, String(i));
    }
    for (const [name, change, words] of [['device', 'mknod "$1/node" b 7 0', /device node/], ['owner', ': >"$1/file"; chown 70000 "$1/file"', /above 65535/]] as const) {
      makeLayout(join(folder, name), `${change}; : >"$2/x"`, []);
      await assert.rejects(fill(`oci:${join(folder, name)}:app`), { code: 'template.invalid', message: words });
    }
    await assert.rejects(fill(`oci:${layout}:app`, AbortSignal.abort()), { code: 'operation.cancelled' });
    assert.deepEqual(readdirSync(scratch), []);
  });

  test('comes from a registry, too, by its TLS; one that nobody vouches for, or that gives something else, is refused', () => {
    // In a mount namespace of its own: which authorities skopeo trusts for a registry stands below /etc/containers.
    const child = spawnSync('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-ec', 'mount -t tmpfs tmpfs /etc/containers; exec "$0" "$@"', process.execPath, join(import.meta.dirname, 'testing-registry.ts'), layout, folder], { encoding: 'utf8', timeout: 120_000 });
    assert.equal(child.status, 0, child.stderr);
    const { trusted, without, changed, asked } = JSON.parse(child.stdout) as { trusted: string[]; without: string; changed: string; asked: string[] };
    assert.deepEqual(trusted, ['one', 'three']);
    assert.match(without, /^source\.unreachable: .*(certificate|x509)/);
    assert.match(changed, /^source\.unreachable: .*igest/);
    assert.ok(asked.includes('/v2/app/manifests/1'));
    assert.equal(readFileSync('/proc/self/mounts', 'utf8').includes('/etc/containers'), false);
  });
});
