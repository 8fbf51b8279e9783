import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Tree, TreeType } from '../storage/transfer.ts';
import { patternOf, planCleaning } from './cleaning.ts';

/** Names with / at their end are folders, those with - before them are deleted ones, those with @ links. */
function tree(...names: string[]): Tree {
  const type = (name: string): TreeType => (name.endsWith('/') ? 'folder' : name.startsWith('-') ? 'character' : name.startsWith('@') ? 'symlink' : 'file');
  return new Map(['./', ...names].map((name) => [name === './' ? '.' : name.replace(/^[-@]|\/$/g, '').replace(/\/$/, ''), { inode: '1', ctime: '1', mtime: '1', type: type(name), size: 1, links: 1, recent: false }]));
}

test('what belongs to one VE alone is left out; folders that somebody writes to stay, and what is deleted stays deleted', () => {
  const plan = planCleaning(tree(
    'etc/', 'etc/machine-id', 'etc/hostname', 'etc/hosts', 'etc/nginx/', 'etc/nginx/nginx.conf', 'etc/ssh/', 'etc/ssh/ssh_host_ed25519_key', 'etc/ssh/ssh_host_ed25519_key.pub', 'etc/ssh/sshd_config', 'etc/shadow', 'etc/shadow-',
    'var/', 'var/log/', 'var/log/nginx/', 'var/log/nginx/access.log', 'var/log/journal/', 'var/log/journal/abc/', 'var/log/journal/abc/system.journal', '-var/log/dpkg.log', 'var/lib/apt/lists/', 'var/lib/apt/lists/x', 'var/lib/apt/lists/partial/',
    'var/lib/dpkg/status', 'var/lib/systemd/random-seed', 'root/', 'root/.bash_history', 'root/.psql_history', 'root/.bashrc', 'home/', 'home/ann/', 'home/ann/.zsh_history', 'home/ann/.local/share/fish/fish_history', 'tmp/', 'tmp/x/', 'tmp/x/y', '-tmp/z', 'var/tmp/q',
    'var/lib/cloud/instances/', 'var/lib/cloud/instances/i-1/', 'var/lib/cloud/instances/i-1/user-data.txt', 'var/lib/cloud/seed/', '@var/lib/cloud/instance', 'etc/systemd/network/', 'etc/systemd/network/00-veld-eth0.network', 'srv/etc/machine-id',
  ), { own: ['/etc/systemd/network/00-veld-eth0.network'] });
  assert.deepEqual([...plan.out].sort(), [
    'etc/hostname', 'etc/hosts', 'etc/machine-id', 'etc/shadow-', 'etc/ssh/ssh_host_ed25519_key', 'etc/ssh/ssh_host_ed25519_key.pub', 'etc/systemd/network/00-veld-eth0.network', 'home/ann/.local/share/fish/fish_history', 'home/ann/.zsh_history', 'root/.bash_history', 'root/.psql_history',
    'tmp/x', 'tmp/x/y', 'var/lib/apt/lists/x', 'var/lib/cloud/instance', 'var/lib/cloud/instances/i-1', 'var/lib/cloud/instances/i-1/user-data.txt', 'var/lib/systemd/random-seed', 'var/log/journal/abc', 'var/log/journal/abc/system.journal', 'var/log/nginx/access.log', 'var/tmp/q',
  ]);
  assert.deepEqual(plan.empty, ['etc/machine-id']);
  assert.deepEqual(plan.cleaned.find(({ path }) => path === '/var/log/nginx/access.log'), { path: '/var/log/nginx/access.log', what: 'logs' });
  assert.ok(!plan.cleaned.some(({ path }) => path === '/tmp/x'), 'of folders nothing is said');
});

test('what is to be kept is, with the folders above it', () => {
  const names = tree('var/', 'var/log/', 'var/log/a.log', 'tmp/', 'tmp/x/', 'tmp/x/keep', 'tmp/x/not', 'etc/', 'etc/machine-id');
  assert.deepEqual([...planCleaning(names, { keep: ['/var/log/**', '/tmp/x/keep', '/etc/machine-id'] }).out], ['tmp/x/not']);
  assert.deepEqual(planCleaning(names, { keep: ['/etc/machine-id'] }).empty, []);
});

test('patterns: a star is no slash, and all else stands for itself', () => {
  for (const [pattern, path, fits] of [
    ['/home/*/.a', '/home/ann/.a', true], ['/home/*/.a', '/home/ann/b/.a', false], ['/home/*/.a', '/home/ann/xa', false], ['/x/**', '/x', false], ['/x/**', '/x/y/z', true], ['/x/**', '/x/a\nb', true], ['/a+(b)', '/a+(b)', true], ['/a', '/ab', false],
  ] as const) assert.equal(patternOf([pattern]).test(path), fits, `${pattern} ${path}`);
  for (const bad of ['x', '/a/**/b', '/a**', '']) assert.throws(() => patternOf([bad]), /is not a pattern/, bad);
});
