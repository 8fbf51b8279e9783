/** `veld cp` with real VEs: what comes over, what does not, and who follows whose links. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { ERRORS } from '../../src/lib/errors.ts';
import { CLI } from '../lib/program.ts';
import { fileInstance } from '../lib/instance.ts';
import { openTerminal } from '../lib/terminal.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await Promise.all([veld.createRunning('box'), veld.createRunning('other')]);

const here = mkdtempSync(join(veld.dir, 'cp-'));
after(() => rmSync(here, { recursive: true, force: true }));

const sh = async (ve: string, script: string): Promise<string> => {
  const { exitCode, stdout, stderr } = await veld.exec(ve, 'sh', '-c', script);
  assert.equal(exitCode, 0, stderr);
  return stdout;
};
const cp = async (...words: string[]): Promise<void> => {
  const { code, stderr } = await veld.cli('cp', ...words);
  assert.deepEqual([code, stderr], [0, ''], words.join(' '));
};
const fails = async (code: number, says: RegExp, ...words: string[]): Promise<void> => {
  const result = await veld.cli('cp', ...words);
  assert.match(result.stderr, says);
  assert.equal(result.code, code, result.stderr);
};
const FAILED = ERRORS['copy.failed'].exit;

/** Everything about a tree that a copy must keep, one line an entry. */
const FACTS = 'cd "$1" && find . -printf "%P|%y|%m|%U:%G|%T@|%l|%n\\n" | grep -v "^|" | LC_ALL=C sort; find . -type f -exec md5sum {} + | LC_ALL=C sort; du -k holes | cut -f1';
const factsHere = (path: string): string => spawnSync('sh', ['-c', FACTS, 'sh', path], { encoding: 'utf8' }).stdout;
const factsIn = async (ve: string, path: string): Promise<string> => (await veld.exec(ve, 'sh', '-c', FACTS, 'sh', path)).stdout;

const MAKE = `mkdir -p "$1/sub/deep" "$1/empty" && cd "$1" && echo hello >a && ln a hard && ln -s /etc/shadow abs && ln -s ../../.. up && ln -s sub rel && echo x >"new
line" && echo y >"-rf * \\$(id)" && echo ä >ümlaut && : >"$(printf %0200d 7)" && truncate -s 20M holes && echo end >>holes && mkfifo pipe && chown 12:34 sub/deep && chown -h 5:6 abs \
&& chmod 1770 empty && chmod 0 sub/deep && setfattr -n user.note -v kept a && touch -d "2001-02-03 04:05:06.789" hard sub && touch -h -d 1999-01-01 abs`;

test('a tree goes in, over and out as it is', async () => {
  spawnSync('sh', ['-c', MAKE, 'sh', join(here, 'tree')], { stdio: 'inherit' });
  const facts = factsHere(join(here, 'tree'));
  assert.match(facts, /new/);
  assert.match(facts, /^\d+$/m);
  await cp(join(here, 'tree'), 'box:/root/');
  assert.equal(await factsIn('box', '/root/tree'), facts);
  await cp('box:/root/tree', 'other:/srv/copy');
  assert.equal(await factsIn('other', '/srv/copy'), facts);
  await cp('other:/srv/copy/.', join(here, 'back'));
  assert.equal(factsHere(join(here, 'back')), facts);
  assert.match(spawnSync('getfattr', ['--absolute-names', '-d', join(here, 'back/a')], { encoding: 'utf8' }).stdout, /user\.note="kept"/);
  assert.ok(Number(facts.trim().split('\n').at(-1)) < 1000, 'the hole is a hole');
});

test('a VE without any program but its init can be copied out of and into', async () => {
  await veld.createRunning('bare');
  await veld.booted('bare');
  await sh('bare', 'rm -rf /usr/bin/tar /usr/bin/mv /usr/bin/mkdir /usr/bin/cat /usr/bin/dash /bin/sh /usr/bin/rm');
  await cp(join(here, 'tree'), 'bare:/opt/tree');
  await cp('bare:/opt/tree', join(here, 'from-bare'));
  assert.equal(factsHere(join(here, 'from-bare')), factsHere(join(here, 'tree')));
  assert.equal((await veld.cliWith('text', 'cp', '-', 'bare:/opt/text')).code, 0);
  assert.equal((await veld.cli('cp', 'bare:/opt/text', '-')).stdout, 'text');
  assert.deepEqual((await veld.exec('bare', 'ls', '-A', '/opt')).stdout.trim().split('\n'), ['text', 'tree']);
});

test('names: new ones, folders, contents, and what is refused', async () => {
  writeFileSync(join(here, 'file'), 'one');
  await sh('box', 'mkdir -p /n/dir/taken && ln -s dir /n/to-dir && ln -s /nowhere /n/dangling');
  await cp(join(here, 'file'), 'box:/n/new');
  await cp(join(here, 'file'), 'box:/n/dir');
  await cp(join(here, 'file'), 'box:/n/to-dir/second');
  await cp(join(here, 'file'), 'box:/n/dangling'); // replaced, not followed
  assert.equal(await sh('box', 'cat /n/new /n/dir/file /n/dir/second /n/dangling; test ! -L /n/dangling && test ! -e /nowhere && echo fine'), 'oneoneoneonefine\n');
  await fails(FAILED, /there is no folder \/n\/no\//, join(here, 'file'), 'box:/n/no/where');
  await fails(FAILED, /there is no folder \/n\/new\//, join(here, 'file'), 'box:/n/new/');
  await fails(FAILED, /\/n\/new is there already, and is not a folder/, join(here, 'tree'), 'box:/n/new');
  await sh('box', 'mkdir /n/dir/file2');
  writeFileSync(join(here, 'file2'), 'two');
  await fails(FAILED, /\/n\/dir\/file2 is a folder/, join(here, 'file2'), 'box:/n/dir');
  await fails(FAILED, /there is no \/n\/none/, 'box:/n/none', here);
  await fails(FAILED, /[Tt]here is no folder/, 'box:/n/new', join(here, 'no/where'));
  await fails(FAILED, /is a folder/, 'box:/n/dir', '-');
  await fails(ERRORS['ve.not_found'].exit, /no VE/, 'nobody:/x', here);
  assert.equal((await veld.cli('cp', '-L', 'box:/n/to-dir', join(here, 'followed'))).code, 0);
  assert.ok(lstatSync(join(here, 'followed')).isDirectory());
  await cp('box:/n/to-dir', join(here, 'link'));
  assert.ok(lstatSync(join(here, 'link')).isSymbolicLink());
  assert.deepEqual((await sh('box', 'ls -A /n')).trim().split('\n'), ['dangling', 'dir', 'new', 'to-dir']);
});

test('a folder that is there is merged into', async () => {
  await sh('box', 'mkdir -p /m/tree/sub && echo old >/m/tree/a && echo stays >/m/tree/sub/stays && ln -s /etc /m/tree/rel');
  await cp(join(here, 'tree'), 'box:/m');
  assert.equal(await sh('box', 'cd /m/tree && cat a sub/stays && readlink rel && ls -A | grep -c veld || true'), 'hello\nstays\nsub\n0\n');
  mkdirSync(join(here, 'into/tree/sub'), { recursive: true });
  writeFileSync(join(here, 'into/tree/sub/stays'), 'stays');
  await cp('box:/m/tree', join(here, 'into'));
  assert.equal(readFileSync(join(here, 'into/tree/a'), 'utf8'), 'hello\n');
  assert.equal(readFileSync(join(here, 'into/tree/sub/stays'), 'utf8'), 'stays\n');
  assert.deepEqual(readdirSync(join(here, 'into')), ['tree']);
});

test('other mounts of the VE are reached, and files of its kernel can be read', async () => {
  await sh('box', 'mkdir -p /mnt && mount -t tmpfs none /mnt && echo inside >/mnt/file');
  await cp(join(here, 'file'), 'box:/mnt/second');
  assert.equal((await veld.cli('cp', 'box:/mnt/second', '-')).stdout, 'one');
  assert.match((await veld.cli('cp', 'box:/proc/uptime', '-')).stdout, /^\d/);
});

test('streams: 20 MB in and out, mode and owner of the file that was there stay', async () => {
  const data = randomBytes(20 << 20);
  await sh('box', 'echo old >/root/stream && chmod 640 /root/stream && chown 7:8 /root/stream');
  assert.equal((await veld.cliWith(data, 'cp', '-', 'box:/root/stream')).code, 0);
  assert.equal(await sh('box', 'stat -c %a:%u:%g:%s /root/stream'), `640:7:8:${data.length}\n`);
  writeFileSync(join(here, 'sum'), data);
  assert.equal((await sh('box', 'md5sum </root/stream')).slice(0, 32), spawnSync('md5sum', [join(here, 'sum')], { encoding: 'utf8' }).stdout.slice(0, 32));
  const out = spawn(process.execPath, [...CLI, 'cp', 'box:/root/stream', '-'], { env: { ...process.env, VELD_SETTINGS: veld.settingsFile }, stdio: ['ignore', 'pipe', 'inherit'] });
  const chunks: Buffer[] = [];
  for await (const chunk of out.stdout) chunks.push(chunk as Buffer);
  assert.ok(Buffer.concat(chunks).equals(data));
  await fails(FAILED, /not an ordinary file/, 'box:/dev/zero', '-');
  await sh('box', 'mkfifo /root/pipe');
  await fails(FAILED, /not an ordinary file/, 'box:/root/pipe', '-');
});

test('whoever goes away in the middle leaves nothing under the name, and nothing beside it', async () => {
  writeFileSync(join(here, 'big'), randomBytes(100 << 20));
  await sh('box', 'mkdir /half && echo old >/half/file');
  const staged = async (): Promise<boolean> => (await veld.exec('box', 'sh', '-c', 'ls -A /half | grep -q veld-cp')).exitCode === 0;
  for (const [signal, from] of [['SIGINT', 'tree'], ['SIGKILL', 'tree'], ['SIGKILL', 'stream']] as const) {
    const child = spawn(process.execPath, [...CLI, 'cp', from === 'tree' ? join(here, 'big') : '-', 'box:/half/file'], {
      env: { ...process.env, VELD_SETTINGS: veld.settingsFile }, stdio: ['pipe', 'ignore', 'ignore'],
    });
    child.stdin.on('error', () => {});
    const ended = new Promise<number | null>((resolve) => { child.on('close', resolve); });
    if (from === 'stream') child.stdin.write(randomBytes(3 << 20));
    await until(`the copy by ${from} to be under way`, staged);
    child.kill(signal);
    const status = await ended;
    if (signal === 'SIGINT') assert.equal(status, ERRORS['operation.cancelled'].exit);
    await until('nothing to be left', async () => !(await staged()));
    assert.equal(await sh('box', 'cat /half/file'), 'old\n');
  }
  // The daemon itself: its pipes close, which must not look like the end of the file.
  const child = spawn(process.execPath, [...CLI, 'cp', '-', 'box:/half/file'], { env: { ...process.env, VELD_SETTINGS: veld.settingsFile }, stdio: ['pipe', 'ignore', 'ignore'] });
  child.stdin.on('error', () => {});
  const ended = new Promise((resolve) => { child.on('close', resolve); });
  child.stdin.write(randomBytes(3 << 20));
  await until('the copy to be under way', staged);
  await veld.kill9();
  assert.notEqual(await ended, 0);
  await veld.start();
  await until('nothing to be left', async () => !(await staged()));
  assert.equal(await sh('box', 'cat /half/file'), 'old\n');
});

test('a hostile VE: its links and devices lead nowhere on this side, and ours lead nowhere from the VE\'s', async () => {
  const secret = join(here, 'secret');
  writeFileSync(secret, 'of the host');
  // A link of the VE to a path of the host is a link, and as a folder on the way it leads within the VE.
  await sh('box', `mkdir -p /h && ln -s ${secret} /h/link && ln -s / /h/root`);
  await cp('box:/h/link', join(here, 'taken'));
  assert.ok(lstatSync(join(here, 'taken')).isSymbolicLink());
  await fails(FAILED, /there is no/, `box:/h/root${secret}`, join(here, 'taken2'));
  await fails(FAILED, /there is no/, `box:/proc/1/root${secret}`, join(here, 'taken2'));
  await fails(FAILED, /\/h\/link leads nowhere/, '-L', 'box:/h/link', join(here, 'taken2'));
  await fails(FAILED, /there is no folder/, join(here, 'file'), `box:/h/root${here}/planted`);
  assert.equal(existsSync(join(here, 'planted')), false);
  // Device nodes: refused, and with --privileged the VE cannot make them.
  spawnSync('mknod', [join(here, 'null'), 'c', '1', '3']);
  await fails(ERRORS['path.refused'].exit, /device node/, join(here, 'null'), 'box:/h/null');
  await fails(FAILED, /not permitted|mknod/i, '--privileged', join(here, 'null'), 'box:/h/null');
  await fails(ERRORS['path.refused'].exit, /device node/, 'box:/dev/null', join(here, 'null2'));
  // The programs that do the work are the engine's, and the VE cannot write them.
  await sh('box', 'printf "#!/bin/sh\\necho owned >/owned\\n" >/usr/bin/tar && chmod 755 /usr/bin/tar && cp /usr/bin/tar /usr/local/sbin/tar && echo /evil.so >/etc/ld.so.preload');
  await veld.cli('cp', 'box:/etc/hostname', join(here, 'name'));
  assert.equal(readFileSync(join(here, 'name'), 'utf8'), 'box\n');
  assert.equal((await veld.exec('box', 'test', '-e', '/owned')).exitCode, 1);
});

test('the programs that come in for a copy cannot be written, and lead to no folder of the host', async () => {
  const child = spawn(process.execPath, [...CLI, 'cp', '-', 'other:/root/slow'], { env: { ...process.env, VELD_SETTINGS: veld.settingsFile }, stdio: ['pipe', 'ignore', 'ignore'] });
  const pid = await until('the copy to run', async () => (await veld.exec('other', 'pgrep', '-fo', 'veld-cp /root/slow')).stdout.trim() || undefined);
  // Each attempt prints its own name when it succeeds.
  const attempts = await sh('other', `
    for fd in /proc/${pid}/fd/*; do
      case $fd in */[012]) continue ;; esac
      [ -r "$fd" ] || continue
      (: >>"$fd") 2>/dev/null && echo "append $fd"
      (: <>"$fd") 2>/dev/null && echo "open for writing $fd"
      chmod 777 "$fd" 2>/dev/null && echo "chmod $fd"
      chown 0:0 "$fd" 2>/dev/null && echo "chown $fd"
      setfattr -n user.x -v y "$fd" 2>/dev/null && echo "setfattr $fd"
      ls "$fd/.." >/dev/null 2>&1 && echo "walk $fd"
      ln -L "$fd" /root/linked 2>/dev/null && echo "link $fd"
    done
    (: >>/proc/${pid}/exe) 2>/dev/null && echo "append exe"
    ls /proc/${pid}/fd | wc -l`);
  assert.match(attempts, /^\d+\n$/);
  assert.ok(Number(attempts) >= 3 + 4, 'the programs were there to be attacked');
  child.stdin.end('done');
  assert.equal(await new Promise((resolve) => { child.on('close', resolve); }), 0);
  assert.equal((await veld.cli('cp', 'other:/root/slow', '-')).stdout, 'done');
});

test('progress on a terminal', async () => {
  const terminal = openTerminal(`veld cp ${join(here, 'big')} box:/root/big`, veld.settingsFile);
  await terminal.shows(/big to box:\/root\/big: [\d.]+ MiB, [\d.]+ [MK]iB\/s/);
  await terminal.ended;
  assert.match(terminal.shown(), /status=0/);
});

test('a VE that does not run', async () => {
  await veld.api.operate('POST', '/v1/ves/other/stop', { force: true });
  await fails(ERRORS['ve.not_running'].exit, /other is stopped/, 'other:/etc/motd', '-');
});
