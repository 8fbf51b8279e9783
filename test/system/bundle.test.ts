/** `veld doctor --bundle`: what is in it, what never is, with the daemon up, hanging and down. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { CLI } from '../lib/program.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

/** Planted wherever a secret may lie; never to be found in a bundle. */
const SECRET = 'Pl4nt3dS3cr3t';
/** Planted in a console. */
const CONSOLE = 'C0nsol3S3cr3t';

const veld = await fileInstance({ settings: (settings) => { settings.engine.mirror = `http://user:${SECRET}@127.0.0.1:9/debian`; } });
const out = join(veld.dir, 'bundles');
mkdirSync(out);
await veld.createRunning('web', { 'description': 'a shop' });

/** Unpack a bundle. @returns its files by name, without the folder above them */
function open(file: string): Map<string, string> {
  const folder = `${file}.open`;
  mkdirSync(folder);
  execFileSync('tar', ['-xf', file, '-C', folder]);
  const [top, ...others] = readdirSync(folder);
  assert.deepEqual(others, [], 'everything is below one folder');
  const files = readdirSync(join(folder, top!), { recursive: true }).map(String).filter((name) => statSync(join(folder, top!, name)).isFile());
  return new Map(files.map((name) => [name, readFileSync(join(folder, top!, name), 'utf8')]));
}

function whereIs(files: Map<string, string>, text: string): string[] {
  return [...files].filter(([, content]) => content.includes(text)).map(([name]) => name);
}

/** A command that has the secret in its environment, arguments and standard input goes on while `work` does. */
async function withSecrets<T>(work: () => Promise<T>): Promise<T> {
  const held = spawn(process.execPath, [...CLI, '--socket', veld.settings.socket, 'exec', '-e', `PLANTED=${SECRET}`, 'web', '--',
    'sh', '-c', 'echo up; cat >/dev/null; sleep 1000', SECRET, `--password=${SECRET}`], { stdio: ['pipe', 'pipe', 'inherit'], env: { VELD_SETTINGS: veld.settingsFile } });
  try {
    await new Promise<void>((resolve, reject) => {
      held.stdout.once('data', () => resolve());
      held.once('exit', (code) => reject(new Error(`ended with ${code}`)));
    });
    held.stdin.write(SECRET);
    await veld.exec('web', 'sh', '-c', `echo 'db password is ${CONSOLE}' >/dev/console; echo ${SECRET} >/root/secret`);
    await until('the console to have it', async () => (await veld.cli('logs', 'web')).stdout.includes(CONSOLE));
    // A VE whose last words become an error message, in the log and among the operations.
    await veld.createRunning('dies');
    await veld.exec('dies', 'sh', '-c', `rm -f /sbin/init && printf '#!/bin/sh\necho "it is \\"${CONSOLE}\\", now"\nexit 42\n' >/sbin/init && chmod 755 /sbin/init`);
    await veld.api.operate('POST', '/v1/ves/dies/stop', { force: true });
    assert.match((await veld.cli('start', 'dies')).stderr, new RegExp(`died at boot.*${CONSOLE}`));
    return await work();
  } finally {
    held.kill('SIGKILL');
  }
}

test('everything is there, and no secret that was planted', async () => {
  const file = join(out, 'full.tar.gz');
  const result = await withSecrets(() => veld.cli('doctor', '--bundle', file));
  assert.equal(result.code, 0, result.stderr);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.ok(statSync(file).size < 16 << 20);
  const files = open(file);
  for (const name of ['README.txt', 'versions.json', 'settings/effective.json', 'settings/settings.json', 'doctor.json', 'daemon/ves.json', 'daemon/operations.json', 'daemon/events.json',
    'daemon/usage.json', 'store/records.json', 'engine/current.json', 'logs/veldd.log', 'kernel/cmdline', 'kernel/self-mountinfo', 'kernel/sysctl.txt', 'kernel/cgroup-hierarchies.json',
    'network/addresses.txt', 'network/table.nft', 'ves/run-folders.txt', 'ves/101/init', 'ves/101/config.json', 'ves/101/groups.json', 'ves/101/processes.json']) {
    assert.ok(files.has(name), `${name}\n${files.get('README.txt')}`);
  }
  assert.match(files.get('README.txt')!, /^The daemon answers\.$/m);
  assert.match(files.get('ves/run-folders.txt')!, /"ves\/101\/exec\/\w+\.json"/, 'a command is under way: its file is seen by name');
  assert.match(files.get('store/records.json')!, /"description": "a shop"/);
  assert.match(files.get('daemon/events.json')!, /ve\.started/);
  assert.match(files.get('network/table.nft')!, new RegExp(`table inet veld_${veld.name}`));
  assert.deepEqual(whereIs(files, SECRET), []);
  assert.deepEqual(whereIs(files, CONSOLE), []);
  assert.match(files.get('settings/effective.json')!, /\/\/\[redacted\]@127\.0\.0\.1:9/);
});

test('consoles only when they are asked for', async () => {
  const file = join(out, 'consoles.tar.zst');
  assert.equal((await veld.cli('doctor', '--bundle', file, '--console-logs')).code, 0);
  const files = open(file);
  const found = whereIs(files, CONSOLE);
  assert.ok(found.length === 2 && found.every((name) => name.startsWith('consoles/')), found.join(' '));
  assert.deepEqual(whereIs(files, SECRET), []);
  assert.match(files.get('README.txt')!, /Holds what VEs wrote to their consoles/);
});

test('a file that is there stays, unless forced; nothing half made is left', async () => {
  const file = join(out, 'mine.tar.gz');
  writeFileSync(file, 'mine');
  const refused = await veld.cli('doctor', '--bundle', file);
  assert.deepEqual([refused.code, /is there already/.test(refused.stderr)], [2, true]);
  assert.equal(readFileSync(file, 'utf8'), 'mine');
  assert.equal((await veld.cli('doctor', '--bundle', file, '--force')).code, 0);
  assert.ok(open(file).has('README.txt'));
  assert.equal(statSync(file).mode & 0o777, 0o600);
  for (const [words, said] of [[['--bundle', join(out, 'x.zip')], /ends with \.tar\.gz/], [['--bundle', join(out, 'no/x.tar.gz')], /cannot take the bundle/], [['--force'], /go with --bundle/]] as const) {
    const { code, stderr } = await veld.cli('doctor', ...words);
    assert.equal(code, 2);
    assert.match(stderr, said);
  }
  assert.deepEqual(readdirSync(out).filter((name) => name.includes('.new')), []);
});

test('a signal in the middle leaves nothing', async () => {
  const file = join(out, 'cut.tar.gz');
  const folder = join(veld.dir, 'tmp');
  mkdirSync(folder);
  const child = spawn(process.execPath, [...CLI, 'doctor', '--bundle', file],
    { stdio: 'ignore', env: { PATH: process.env.PATH, VELD_SETTINGS: veld.settingsFile, TMPDIR: folder } });
  const ended = new Promise((resolve) => { child.on('exit', (_, signal) => resolve(signal)); });
  await until('it to gather', () => readdirSync(folder).length > 0, 30_000, 5);
  child.kill('SIGTERM');
  assert.equal(await ended, 'SIGTERM');
  assert.deepEqual(readdirSync(folder), []);
  assert.deepEqual(readdirSync(out).filter((name) => name.startsWith('cut')), []);
});

test('with the daemon down, and with a socket that takes calls and never answers, the rest is there and says so', async () => {
  await veld.stop();
  try {
    for (const state of ['down', 'hangs'] as const) {
      const server = state === 'hangs' ? createServer(() => {}) : undefined;
      rmSync(veld.settings.socket, { force: true });
      await new Promise<void>((resolve) => { if (server) server.listen(veld.settings.socket, resolve); else resolve(); });
      const file = join(out, `${state}.tar.gz`);
      const { code, stderr } = await veld.cli('doctor', '--bundle', file);
      server?.close();
      rmSync(veld.settings.socket, { force: true });
      assert.equal(code, 0, stderr);
      const files = open(file);
      assert.match(files.get('README.txt')!, /^THE DAEMON DOES NOT ANSWER: /m);
      const { ves } = JSON.parse(files.get('store/records.json')!) as { ves: { name: string }[] };
      assert.deepEqual(ves.map(({ name }) => name).toSorted(), ['dies', 'web'], 'records come from the store itself');
      assert.match(files.get('doctor-without-daemon.json')!, /"kernel\.version"/);
      assert.ok(files.has('ves/101/groups.json') && files.has('logs/veldd.log'));
      assert.deepEqual([...whereIs(files, SECRET), ...whereIs(files, CONSOLE)], []);
    }
  } finally {
    await veld.start();
  }
  assert.ok(existsSync(veld.settings.socket));
});
