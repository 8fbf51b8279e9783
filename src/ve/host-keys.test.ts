import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { test } from 'node:test';
import { sshHostKeys } from './host-keys.ts';

const without = spawnSync('ssh-keygen', ['--help']).error !== undefined;

test('keys are two pairs, each new, with names and modes of sshd', () => {
  const files = sshHostKeys('root@web');
  assert.deepEqual(files.map(({ path, mode }) => `${path} ${mode.toString(8)}`), [
    '/etc/ssh/ssh_host_ed25519_key 600', '/etc/ssh/ssh_host_ed25519_key.pub 644', '/etc/ssh/ssh_host_ecdsa_key 600', '/etc/ssh/ssh_host_ecdsa_key.pub 644',
  ]);
  assert.match(files[1]!.content, /^ssh-ed25519 AAAA\S+ root@web\n$/);
  for (const [i, { content }] of sshHostKeys('root@web').entries()) assert.notEqual(content, files[i]!.content);
});

test('OpenSSH reads them, and finds the public key in the private one; also where a number begins with zeros', { skip: without && 'no ssh-keygen here' }, (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-keys-'));
  t.after(() => rmSync(folder, { recursive: true }));
  for (let round = 0; round < 40; round++) {
    const files = sshHostKeys(`root@ve-${'x'.repeat(round)}`);
    for (const { path, content, mode } of files) {
      const file = join(folder, basename(path));
      rmSync(file, { force: true });
      writeFileSync(file, content, { mode });
      if (path.endsWith('.pub')) assert.equal(spawnSync('ssh-keygen', ['-y', '-f', file.slice(0, -4)], { encoding: 'utf8' }).stdout, content);
    }
  }
});
