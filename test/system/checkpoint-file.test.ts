/** A VE in one file: written while it runs on, verified, and made a VE again. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { wordsWith } from '../lib/words.ts';
import { until } from '../lib/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-checkpoint-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const GNUPGHOME = join(folder, 'gnupg');
const veld = await fileInstance({ env: { GNUPGHOME } });
const { ok, said } = wordsWith(veld);
const file = join(folder, 'web.veld');

/** Answers each line with the number of lines so far. */
const SERVER = 'use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => 7000, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@; '
  + 'my $n = 0; while (my $c = $s->accept) { $c->autoflush(1); while (<$c>) { $n++; print $c "$n\\n" } }';

test('a running VE is written, and runs on', async () => {
  await veld.createRunning('web', { 'memory.limit': '300M' });
  await veld.booted('web');
  await veld.exec('web', 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
  await said('web', 'echo of the disk >/root/file; setfattr -n user.colour -v blue /root/file 2>/dev/null; rm /etc/motd; echo in memory >/run/file');
  assert.equal(await ok('checkpoint', 'web', '--file', file, '--keep-running'), `web written to ${file}\n`);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.equal((await veld.show('web')).status, 'running');
  assert.equal(await said('web', 'systemctl is-system-running'), 'running');
  assert.deepEqual(readdirSync(folder).filter((name) => name.includes('veld')), ['web.veld'], 'nothing half written stays');
  const again = await veld.cli('checkpoint', 'web', '--file', file);
  assert.equal(again.code, 42);
  assert.match(again.stderr, /is there already/);
  assert.equal((await veld.show('web')).status, 'running', 'refused before anything was done');
});

test('a file that was changed, cut off, or is none is refused, and nothing comes of it', async () => {
  const before = (await veld.list()).length;
  const bad = join(folder, 'bad.veld');
  const tries: [words: RegExp, change: () => void][] = [
    [/was changed or cut off/, () => { const bytes = readFileSync(file); bytes[bytes.length >> 1]! ^= 1; writeFileSync(bad, bytes); }],
    [/was changed or cut off/, () => { copyFileSync(file, bad); truncateSync(bad, statSync(file).size - 100); }],
    [/was changed or cut off/, () => { const bytes = readFileSync(file); bytes[bytes.length - 1]! ^= 1; writeFileSync(bad, bytes); }],
    [/is not a checkpoint/, () => writeFileSync(bad, 'something else altogether, and long enough to be one: '.repeat(9))],
    [/is not a checkpoint/, () => writeFileSync(bad, '')],
    [/no such file/i, () => rmSync(bad, { force: true })],
  ];
  for (const [words, change] of tries) {
    change();
    const result = await veld.cli('restore', '--file', bad, '--as', 'other');
    assert.ok([39, 42].includes(result.code), `${words}: ${result.code} ${result.stderr}`);
    assert.match(result.stderr, words);
  }
  assert.equal((await veld.list()).length, before);
  assert.ok(!existsSync(join(veld.settings.stateDir, 'incoming')) || readdirSync(join(veld.settings.stateDir, 'incoming')).length === 0);
});

test('another VE is made of it, with what was in memory and on the disk', async () => {
  await said('web', 'echo later >/root/file');
  await ok('restore', '--file', file, '--as', 'other');
  const [web, other] = [await veld.show('web'), await veld.show('other')];
  assert.notEqual(other.uidBase, web.uidBase);
  assert.notDeepEqual(other.addresses, web.addresses);
  assert.equal(await said('other', 'cat /root/file /run/file; test ! -e /etc/motd; hostname'), 'of the disk\nin memory\nother');
  assert.equal(await said('other', 'systemctl is-system-running'), 'running');
  assert.equal(await said('web', 'cat /root/file'), 'later');
  assert.match(await said('other', 'grep MemTotal /proc/meminfo'), /\b307200 kB/);
  await veld.api.operate('DELETE', '/v1/ves/other?force=true');
});

test('the same VE comes back after it was destroyed, and its connections go on', async () => {
  const { addresses } = await veld.show('web');
  const socket = connect(7000, addresses[0]);
  after(() => socket.destroy());
  let answers = '';
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => { answers += text; });
  const ask = async (): Promise<string> => {
    const before = answers.length;
    socket.write('line\n');
    return until('an answer', () => (answers.length > before && answers.endsWith('\n') ? answers.slice(before).trim() : undefined), 30_000, 10);
  };
  assert.equal(await ask(), '1');
  const moved = join(folder, 'moved.veld');
  await ok('checkpoint', 'web', '--file', moved);
  assert.equal((await veld.show('web')).status, 'suspended');
  await veld.api.operate('DELETE', '/v1/ves/web');
  await ok('restore', '--file', moved);
  const web = await veld.show('web');
  assert.deepEqual(web.addresses, addresses);
  assert.equal(await ask(), '2');
  assert.equal(await said('web', 'cat /root/file; hostname'), 'later\nweb');
  await veld.api.operate('POST', '/v1/ves/web/suspend');
  await veld.api.operate('POST', '/v1/ves/web/resume');
  assert.equal(await ask(), '3');
  await veld.exec('web', 'systemctl', 'reboot');
  await until('another init', async () => ![web.pid, null].includes((await veld.show('web')).pid));
  assert.equal(await veld.booted('web'), 'running');
});

test('encrypted for age or gpg: nobody else reads it, and nobody changes it; uncompressed; connections closed when that is wished', async () => {
  const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8', env: { ...process.env, GNUPGHOME }, stdio: ['ignore', 'pipe', 'pipe'] });
  const identity = join(folder, 'identity');
  run('age-keygen', '-o', identity);
  const age = run('age-keygen', '-y', identity).trim();
  mkdirSync(GNUPGHOME, { mode: 0o700 });
  try {
    run('gpg', '--batch', '--quiet', '--passphrase', '', '--quick-generate-key', 'veld@test.invalid', 'default', 'default', 'never');
    const { addresses } = await veld.createRunning('secret');
    await veld.booted('secret');
    await veld.exec('secret', 'systemd-run', '--quiet', '--unit=server', 'perl', '-e', SERVER);
    await said('secret', 'echo not-for-everybody-to-read >/root/file');
    const files = { age: join(folder, 'age.bin'), gpg: join(folder, 'gpg.bin'), plain: join(folder, 'plain.bin') };
    await ok('checkpoint', 'secret', '--file', files.plain, '--keep-running', '--compress', 'none');
    await ok('checkpoint', 'secret', '--file', files.gpg, '--keep-running', '--encrypt', 'veld@test.invalid', '--compress', 'none');
    const talk = connect(7000, addresses[0]);
    let [text, closed] = ['', false];
    talk.setEncoding('utf8').on('data', (chunk: string) => { text += chunk; }).on('close', () => { closed = true; }).on('error', () => {});
    talk.write('a\n');
    await until('an answer', () => text === '1\n');
    await ok('checkpoint', 'secret', '--file', files.age, '--encrypt', age, '--compress', 'none', '--tcp', 'close');
    await veld.api.operate('DELETE', '/v1/ves/secret?force=true');
    for (const [name, path] of Object.entries(files)) assert.equal(readFileSync(path).includes('not-for-everybody-to-read'), name === 'plain', name);

    const refused = await veld.cli('restore', '--file', files.age);
    assert.match(refused.stderr, /is encrypted by age/);
    assert.match(refused.stderr, /--identity/);
    const stranger = join(folder, 'stranger');
    run('age-keygen', '-o', stranger);
    const unread = await veld.cli('restore', '--file', files.age, '--identity', stranger);
    assert.notEqual(unread.code, 0);
    assert.match(unread.stderr, /no identity matched/);
    assert.deepEqual((await veld.list()).filter(({ name }) => name === 'secret'), [], 'nothing came of it');

    await ok('restore', '--file', files.age, '--identity', identity);
    talk.write('b\n');
    await until('the connection to be closed', () => closed, 20_000);
    assert.equal(await said('secret', 'cat /root/file'), 'not-for-everybody-to-read');
    await ok('restore', '--file', files.gpg, '--as', 'second');
    assert.equal(await said('second', 'cat /root/file'), 'not-for-everybody-to-read');
    const nobody = await veld.cli('checkpoint', 'secret', '--file', join(folder, 'x.bin'), '--encrypt', 'no one');
    assert.match(nobody.stderr, /names nobody/);
    const unknown = await veld.cli('checkpoint', 'secret', '--file', join(folder, 'x.bin'), '--keep-running', '--encrypt', 'other@test.invalid');
    assert.match(unknown.stderr, /gpg ended with/);
    assert.equal((await veld.show('secret')).status, 'running');
    assert.ok(!existsSync(join(folder, 'x.bin')));
    for (const ve of ['secret', 'second']) await veld.api.operate('DELETE', `/v1/ves/${ve}?force=true`);
  } finally {
    spawnSync('gpgconf', ['--kill', 'all'], { env: { ...process.env, GNUPGHOME } });
  }
});

test('with its template the VE comes back where that is not any more', async () => {
  await said('web', 'echo in memory >/run/file');
  const with_ = join(folder, 'with.veld');
  const [only] = await veld.api.call<{ name: string; fingerprint: string }[]>('GET', '/v1/templates');
  const template = only!.name;
  const before = await veld.api.call<{ fingerprint: string }>('GET', `/v1/templates/${template}`);
  await ok('checkpoint', 'web', '--file', with_, '--with-template');
  await ok('checkpoint', 'web', '--file', join(folder, 'without.veld'));
  for (const { name } of await veld.list()) await veld.api.operate('DELETE', `/v1/ves/${name}?force=true`);
  await veld.api.operate('DELETE', `/v1/templates/${template}`);
  const without = await veld.cli('restore', '--file', join(folder, 'without.veld'));
  assert.match(without.stderr, /stands on a template that is not here/);
  assert.deepEqual(await veld.list(), []);
  await ok('restore', '--file', with_);
  assert.equal(await said('web', 'systemctl is-system-running; cat /run/file'), 'running\nin memory');
  const after_ = await veld.api.call<{ fingerprint: string; uses: number }>('GET', `/v1/templates/${template}`);
  assert.deepEqual([after_.fingerprint, after_.uses], [before.fingerprint, 1]);
  await veld.createRunning('fresh');
  assert.equal(await veld.booted('fresh'), 'running');
  await ok('restore', '--file', with_, '--as', 'again');
  assert.equal((await veld.api.call<unknown[]>('GET', '/v1/templates')).length, 1);
});
