/** The commands about templates that are made of VEs, against a server that answers in the API's shapes. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { operation, startTestDaemon, ve } from './test-daemon.ts';

const layer = (id: string): { id: string; uidBase: number } => ({ id, uidBase: 0 });
const secrets = [{ path: '/srv/key\n\x1b]0;x\x07', kind: 'private-key', what: 'a private key' }];

test('commit sends what its options say, and tells what became of it; secrets are listed, whatever their names hold', async (t) => {
  const made = { layers: [layer('a'), layer('b')], layerSize: 3 << 20, cleanedCount: 2, cleaned: [], secrets };
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves/web/commit': operation([{ kind: 'template-commit', result: made }]),
    'POST /v1/ves/leaky/commit': operation([{ kind: 'template-commit', state: 'failed', error: { code: 'template.secrets', message: 'leaky holds what looks like a secret.', hint: 'Remove it.', details: { secrets } } }]),
  });
  const { status, stdout, stderr } = await daemon.veld(['template', 'commit', 'web', 'shop', '--replace', '--description', 'A shop', '--allow-secrets', '--keep', '/var/log/**', '--keep', '/tmp/x']);
  assert.equal(status, 0, stderr);
  assert.deepEqual(daemon.asked.at(-1)!.body, { name: 'shop', replace: true, description: 'A shop', allowSecrets: true, keep: ['/var/log/**', '/tmp/x'] });
  assert.equal(stdout, 'template shop made of web: 3 MiB above 1 shared layer, 2 files left out\n');
  const line = /^\/srv\/key[^\n\x1b]*: a private key$/m;
  assert.match(stderr, line);
  const refused = await daemon.veld(['template', 'commit', 'leaky', 'shop']);
  assert.deepEqual([refused.status, refused.stdout, daemon.asked.at(-1)!.body], [78, '', { name: 'shop' }]);
  assert.match(refused.stderr, line);
  assert.match(refused.stderr, /leaky holds what looks like a secret/);
});

test('edit makes a VE with a name that it can have, and says what comes next', async (t) => {
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves': operation([{ kind: 'create' }]), 'GET /v1/ves/edit-ubuntu-24-04': () => ve({ name: 'edit-ubuntu-24-04', template: { fingerprint: 'ab'.repeat(32), name: 'ubuntu-24.04' } }), 'GET /v1/ves/mine': () => ve({ name: 'mine' }),
  });
  const { status, stdout, stderr } = await daemon.veld(['template', 'edit', 'ubuntu-24.04']);
  assert.equal(status, 0, stderr);
  assert.match(stdout, /veld template commit edit-ubuntu-24-04 ubuntu-24\.04 --replace/);
  assert.deepEqual(daemon.asked.find(({ method }) => method === 'POST')!.body, { name: 'edit-ubuntu-24-04', template: 'ubuntu-24.04', start: true });
  assert.match((await daemon.veld(['template', 'edit', 'debian-12', '--name', 'mine'])).stdout, /^mine runs, a VE of debian-12/);
});

test('history, diff and rollback', async (t) => {
  const version = { number: 2, name: 'shop', fingerprint: 'ab'.repeat(32), current: true, createdAt: '2026-11-23T12:00:00.000Z', ve: 'edit-shop', description: 'better', size: 1 << 20, layers: 3, uses: 1 };
  const daemon = await startTestDaemon(t, {
    'GET /v1/templates/shop/history': () => [version, { ...version, number: 1, name: 'shop-v1', current: false, ve: null, description: '' }],
    'GET /v1/templates/a/diff': () => ({
      from: 'a', to: 'b', packages: { manager: 'dpkg', added: [{ name: 'nginx', version: '1.26' }], removed: [{ name: 'apache2', version: '2.4' }], changed: [{ name: 'bash', from: '5.1', to: '5.2' }] },
      files: [{ path: '/srv/\xc3\xa4', change: 'added', type: 'folder' }, { path: '/etc/a', change: 'changed', type: 'file' }],
    }),
    'GET /v1/templates/x/diff': () => ({ from: 'x', to: 'b', packages: null }),
    'POST /v1/templates/shop/rollback': operation([{ kind: 'template-roll-back', result: { name: 'shop', version: 1, before: 'shop-v2', fingerprint: 'ab'.repeat(32) } }]),
  });
  assert.match((await daemon.veld(['template', 'history', 'shop'])).stdout, /^ +2 +\* +shop +.*edit-shop +1 MiB +3 +1 +better\n +1 +shop-v1 /m);
  assert.equal((await daemon.veld(['template', 'diff', 'a', 'b', '--files'])).stdout, '- apache2 2.4\n  bash 5.1 -> 5.2\n+ nginx 1.26\nA /srv/ä/\nM /etc/a\n');
  assert.match(daemon.asked.at(-1)!.url, /to=b&files=true/);
  assert.match((await daemon.veld(['template', 'diff', 'x', 'b'])).stderr, /cannot be read of both/);
  assert.equal((await daemon.veld(['template', 'rollback', 'shop', '1'])).stdout, 'template shop is version 1; the one that it was is called shop-v2\n');
  assert.deepEqual(daemon.asked.at(-1)!.body, { version: '1' });
});
