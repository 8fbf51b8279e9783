import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import type { Tree } from '../storage/transfer.ts';
import { findSecrets, LARGEST, newHashes, secretsIn } from './secrets.ts';

const needsRoot = { skip: process.getuid?.() !== 0 && 'needs root' };
const pem = generateKeyPairSync('ed25519').privateKey.export({ type: 'pkcs8', format: 'pem' }) as string;
/** Put together here, so that nobody who looks for such things finds them in this file. */
const joined = (...parts: string[]): string => parts.join('');

/** What a scan has of a tree, as far as it matters here. */
function filesBelow(root: string): Tree {
  const { stdout } = spawnSync('find', [root, '-mindepth', '1', '-printf', String.raw`%y %s %P\0`], { encoding: 'latin1' });
  return new Map(stdout.split('\0').filter(Boolean).map((line) => {
    const [, letter, size, name] = /^(.) (\d+) (.*)$/s.exec(line)!;
    return [name!, { inode: '1', ctime: '1', mtime: '1', type: letter === 'f' ? 'file' as const : letter === 'd' ? 'folder' as const : 'symlink' as const, size: Number(size), links: 1, recent: false }];
  }));
}

test('each shape is found for what it is, and what only looks like it is not', () => {
  const kinds = (path: string, content: string | Buffer): string[] => secretsIn(path, Buffer.from(content)).map(({ kind }) => kind);
  const found: [path: string, content: string, kind: string][] = [
    ['/srv/x', pem, 'private-key'],
    ['/srv/x', `text before\r\n${joined('-----BEGIN RSA PRIV', 'ATE KEY-----')}\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIEpAIBAAKCAQEAxxxx`, 'private-key'],
    ['/root/.ssh/id', `${joined('-----BEGIN OPENSSH PRIV', 'ATE KEY-----')}\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmU=`, 'private-key'],
    ['/etc/wireguard/wg0.conf', `[Interface]\nPrivateKey = ${'A'.repeat(43)}=\n`, 'private-key'],
    ['/etc/ssl/private/a.key', '\0\x01binary', 'private-key'],
    ['/srv/a.p12', '\0', 'key-store'],
    ['/root/.ssh/authorized_keys', '# mine\nssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIabc me', 'authorized-keys'],
    ['/home/a/.netrc', 'machine x login y password z', 'password'],
    ['/home/a/.docker/config.json', '{"auths": {"x": {"auth": "YTpi"}}}', 'password'],
    ['/root/.my.cnf', '[client]\npassword = x', 'password'],
    ['/etc/apt/sources.list.d/a.list', 'deb https://ann:secret@example.org/ x main', 'password'],
    ['/srv/app/.env', 'DB_HOST=x\nDB_PASSWORD=hunter22\n', 'password'],
    ['/srv/x.py', `key = "${joined('AKI', 'AQWERTZUIOPASDFGH')}"`, 'token'],
    ['/srv/x', joined('gh', 'p_', 'a'.repeat(36)), 'token'],
    ['/srv/x', joined('glp', 'at-', 'a'.repeat(20)), 'token'],
    ['/root/.npmrc', '//registry.example.org/:_authToken=abc', 'token'],
  ];
  for (const [path, content, kind] of found) assert.deepEqual(kinds(path, content), [kind], `${path}: ${content}`);
  const harmless: [path: string, content: string | Buffer][] = [
    ['/usr/bin/ssh-keygen', Buffer.concat([Buffer.alloc(20), Buffer.from(pem)])], ['/usr/share/x', joined('-----BEGIN PRIV', 'ATE KEY-----')], ['/root/.ssh/authorized_keys', '# none\n'], ['/etc/ssl/certs/a.pem', '-----BEGIN CERTIFICATE-----\nAAAAAAAAAAAAAAAAAAAAAA'],
    ['/srv/x', joined('AKI', 'AIOSFODNN7EXAMPLE')], ['/srv/app/.env.example', 'DB_PASSWORD=changeme'], ['/srv/app/.env', 'DB_PASSWORD=\nDEBUG=true'], ['/usr/share/doc/x', 'https://ann:secret@example.org'], ['/home/a/.netrc', '\n'], ['/srv/lib.key.txt', 'x'],
  ];
  for (const [path, content] of harmless) assert.deepEqual(kinds(path, content), [], path);
});

test('hashes of passwords: those that the base has not', () => {
  const base = 'root:*:19000:0:99999:7:::\nann:$6$salt$hash12345:1::::::\n';
  const now = `${base}bob:$y$j9T$abc$defgh:1::::::\nann:$6$salt$other1234:1::::::\nsvc:!*:1::::::\nlocked:!$6$x$yyyyyyyy:1\nold:abcdefghijklm:1\nempty::1\ndaemon:!:1\n`;
  assert.deepEqual(newHashes('/etc/shadow', now, base).map(({ what }) => what), ['the password of bob', 'the password of ann', 'the password of locked', 'the password of old']);
  assert.deepEqual(newHashes('/etc/shadow', base, base), []);
});

test('a tree: through no link, nothing of packages, and what is too large is said', needsRoot, async (t) => {
  const root = mkdtempSync(join(tmpdir(), 'veld-secrets-'));
  const elsewhere = mkdtempSync(join(tmpdir(), 'veld-secrets-'));
  t.after(() => [root, elsewhere].forEach((folder) => rmSync(folder, { recursive: true })));
  const put = (path: string, content: string | Buffer): void => {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), content);
  };
  put('srv/key', pem);
  put('usr/share/tests/key.pem', pem);
  put('usr/share/mine/key.pem', pem);
  put('var/lib/dpkg/info/tests.list', '/.\n/usr\n/usr/share/tests/key.pem\n');
  put('etc/shadow', 'root:$6$salt$hash12345:1::::::\n');
  put('srv/large', Buffer.alloc(LARGEST + 1, 'x'));
  put('srv/large.p12', Buffer.alloc(LARGEST + 1));
  put('srv/bytes \u00e4', joined('gh', 'p_', 'b'.repeat(36)));
  writeFileSync(join(elsewhere, 'key'), pem);
  symlinkSync(join(elsewhere, 'key'), join(root, 'srv/link'));
  symlinkSync(elsewhere, join(root, 'srv/folder'));
  const asked: string[] = [];
  const { secrets, skipped } = await findSecrets(root, filesBelow(root), async (path) => { asked.push(path); return ''; }, new AbortController().signal);
  assert.deepEqual(secrets.map(({ path, kind }) => [Buffer.from(path, 'latin1').toString(), kind]),
    [['/etc/shadow', 'password-hash'], ['/srv/bytes \u00e4', 'token'], ['/srv/key', 'private-key'], ['/srv/large.p12', 'key-store'], ['/usr/share/mine/key.pem', 'private-key']]);
  assert.deepEqual([skipped, asked], [2, ['/etc/shadow']]);
});
