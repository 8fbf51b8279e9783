/** Commands in a VE: status, streams, users, terminals. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readlinkSync } from 'node:fs';
import { test } from 'node:test';
import { CLI } from '../lib/program.ts';
import { fileInstance } from '../lib/instance.ts';
import { openSession } from '../lib/session.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('box');
await veld.booted('box');



test('the exit status is the command\'s', async () => {
  assert.equal((await veld.cli('exec', 'box', '--', 'true')).code, 0);
  assert.equal((await veld.cli('exec', 'box', '--', 'sh', '-c', 'exit 73')).code, 73);
  assert.equal((await veld.cli('exec', 'box', '--', 'sh', '-c', 'kill -9 $$')).code, 137);
  assert.equal((await veld.cli('exec', 'box', '--', '/no/such/program')).code, 127);
  assert.equal((await veld.cli('exec', 'box', '--', '/etc/passwd')).code, 126);
  assert.equal((await veld.exec('box', 'sh', '-c', 'exit 9')).exitCode, 9);
});

test('what cannot be run is told once, with the status that a shell gives it', async () => {
  const made = await veld.exec('box', 'sh', '-c', 'cd /root && printf "#!/no/such\\n" >script && printf "\\001\\002 no program" >junk && echo "echo not run" >plain && mkdir folder && chmod 755 script junk');
  assert.equal(made.exitCode, 0, made.stderr);
  for (const [program, status, says] of [['/root/script', 127, /what should run it is not/], ['/root/junk', 126, /Exec format error/], ['/root/plain', 126, /not executable/],
    ['/root/folder', 126, /not a regular file/], ['/root/none', 127, /has no program/], ['none', 127, /has no program/]] as const) {
    const { code, stdout, stderr } = await veld.cli('exec', 'box', '--', program);
    assert.deepEqual([code, stdout], [status, ''], program);
    assert.match(stderr, says);
    assert.match(stderr, /^veld: [^\n]*\nHint: [^\n]*\n$/, 'said once');
  }
  // A command's own words are its own, whatever they look like, also when they come in doubtful shape.
  const own = await veld.cli('exec', 'box', '--', 'sh', '-c', 'echo "exec `/root/script`: No such file" >&2; exit 1');
  assert.deepEqual([own.code, own.stderr.includes('No such file')], [1, true]);
  const quoted = await veld.cli('exec', 'box', '--', 'sh', '-c', "echo 'exec `x`: No such file' >&2; sleep 0.3; echo more >&2; exit 1");
  assert.deepEqual([quoted.code, quoted.stderr], [1, 'exec `x`: No such file\nmore\n']);
});

test('standard output and error are apart, standard input ends', async () => {
  const result = await veld.cliWith('three\nlines\nhere\n', 'exec', 'box', '--', 'sh', '-c', 'wc -l; echo to the left >&2');
  assert.deepEqual([result.code, result.stdout.trim(), result.stderr], [0, '3', 'to the left\n']);
});

test('user, environment, folder', async () => {
  const command = ['sh', '-c', 'id -un; echo "$COLOUR"; pwd'];
  const result = await veld.cli('exec', '--user', 'daemon', '--env', 'COLOUR=sea green', '--cwd', '/var', 'box', '--', ...command);
  assert.equal(result.stdout, 'daemon\nsea green\n/var\n');
  assert.equal((await veld.cli('exec', '--user', 'nobody-at-all', 'box', '--', 'true')).code !== 0, true);
});

test('50 MB go in and out unharmed', async () => {
  const data = randomBytes(50 << 20);
  const child = spawn(process.execPath, [...CLI, 'exec', 'box', '--', 'cat'], { env: { ...process.env, VELD_SETTINGS: veld.settingsFile }, stdio: ['pipe', 'pipe', 'inherit'] });
  const back = createHash('sha256');
  let size = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    size += chunk.length;
    back.update(chunk);
  });
  child.stdin.end(data);
  const code = await new Promise((resolve) => { child.on('close', resolve); });
  assert.equal(code, 0);
  assert.equal(size, data.length);
  assert.equal(back.digest('hex'), createHash('sha256').update(data).digest('hex'));
  const sum = await veld.cliWith(data, 'exec', 'box', '--', 'sha256sum');
  assert.equal(sum.stdout.slice(0, 64), createHash('sha256').update(data).digest('hex'));
});

test('a terminal is the VE\'s own, has the size asked for, follows it, and passes Ctrl-C on', async () => {
  const session = await openSession(veld.api, 'box', { command: ['bash', '--norc'], tty: { columns: 91, rows: 33, term: 'xterm' } });
  session.write('stty size; tty; echo TERM is $TERM\r');
  await until('the size', () => session.stdout().includes('33 91') && /\/dev\/pts\/\d+/.test(session.stdout()) && session.stdout().includes('TERM is xterm'));
  session.resize(120, 40);
  session.write('stty size\r');
  await until('the new size', () => session.stdout().includes('40 120'));
  session.write('sleep 100; echo status $?\r');
  await until('sleep to run', async () => (await veld.exec('box', 'pgrep', '-x', 'sleep')).exitCode === 0);
  session.write('\x03');
  await until('the shell to go on', async () => (await veld.exec('box', 'pgrep', '-x', 'sleep')).exitCode === 1);
  session.write('exit 44\r');
  assert.equal(await session.exit, 44);
});

test('no terminal of the host is open in the VE', async () => {
  // Of a devpts of the VE's own, the device number in the VE is that of the link in /proc/self/fd; the host's /dev/pts does not have it.
  const session = await openSession(veld.api, 'box', { command: ['sh', '-c', 'stat -L -c %d:%r /proc/self/fd/0; stat -c %d /dev/pts/0; sleep 5'], tty: { columns: 80, rows: 24, term: 'dumb' } });
  const output = await until('an answer', () => /(\d+):\S+\s+(\d+)/.exec(session.stdout()));
  assert.equal(output[1], output[2], 'the terminal lies on the devpts of the VE');
  const host = spawnSync('stat', ['-c', '%d', '/dev/pts'], { encoding: 'utf8' }).stdout.trim();
  assert.notEqual(output[1], host);
  session.signal('SIGKILL');
  assert.equal(await session.exit, 137);
});

test('a command gets no descriptor, folder or variable of the host', async () => {
  const result = await veld.exec('box', 'sh', '-c', 'ls -l /proc/self/fd | sed 1d; readlink /proc/self/cwd; env');
  const links = result.stdout.split('\n').filter((line) => line.includes(' -> ')).map((line) => line.split(' -> ')[1] ?? '');
  assert.equal(links.length, 4, links.join()); // three streams, and ls's own folder
  for (const link of links) assert.match(link, /^(pipe:|\/dev\/null|\/proc\/)/);
  assert.doesNotMatch(result.stdout, /VELD|NODE|veld-test/);
  assert.equal(result.stdout.split('\n').includes('/root'), true);
});

test('a client that goes away takes its command along', async () => {
  const session = await openSession(veld.api, 'box', { command: ['sleep', '4321'] });
  await until('it to run', async () => (await veld.exec('box', 'pgrep', '-f', 'sleep 4321')).exitCode === 0);
  session.terminate();
  await until('it to be gone', async () => (await veld.exec('box', 'pgrep', '-fx', 'sleep 4321')).exitCode === 1);
});

test('commands sit in the groups of the VE, not of the daemon', async () => {
  const session = await openSession(veld.api, 'box', { command: ['sleep', '1234'] });
  const line = await until('its pid', async () => (await veld.exec('box', 'pgrep', '-fx', 'sleep 1234')).stdout.trim() || undefined);
  assert.match(line, /^\d+$/);
  const groups = await veld.exec('box', 'cat', `/proc/${line}/cgroup`);
  assert.doesNotMatch(groups.stdout, /\.\.\//, 'outside of the VE\'s own cgroup namespace root');
  session.signal('SIGTERM');
  assert.equal(await session.exit, 143);
  assert.ok(readlinkSync('/proc/self/ns/pid'));
});
