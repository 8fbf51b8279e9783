/** `veld enter`: a login shell as a person meets it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { openTerminal } from '../lib/terminal.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
await veld.createRunning('box');
await veld.booted('box');
assert.equal((await veld.exec('box', 'sh', '-c', 'useradd -m -s /usr/bin/zsh zed && useradd -m -s /bin/bash ann')).exitCode, 0);

test('a login shell in home with the terminal\'s type and size, and the user\'s terminal as it was afterwards', async () => {
  const terminal = openTerminal('veld enter box', veld.settingsFile);
  await terminal.shows('root@box:~#');
  terminal.type('shopt login_shell; pwd; tty; stty size; echo "$SHELL,$LANG,$TERM,$HOME,$0"\r');
  await terminal.shows(/login_shell\s+on\r\n\/root\r\n\/dev\/pts\/\d+\r\n24 80\r\n\/bin\/bash,C\.UTF-8,xterm,\/root,\/bin\/bash/);
  terminal.resize(101, 33);
  // It is on its way, as what is typed is, and may come later.
  await until('the new size', async () => {
    terminal.type('stty size\r');
    return terminal.shown().includes('33 101');
  }, 20_000, 250);
  assert.doesNotMatch(terminal.shown(), /no job control|cannot set terminal process group/);
  terminal.type('exit 5\r');
  await terminal.ended;
  assert.match(terminal.shown(), /status=5/);
  const [before, after] = terminal.settings();
  assert.ok(before);
  assert.equal(after, before);
});

test('job control: Ctrl-Z, jobs, fg, Ctrl-C', async () => {
  const terminal = openTerminal('veld enter box', veld.settingsFile);
  await terminal.shows('root@box:~#');
  terminal.type('sleep 1000\r');
  await until('sleep to run', async () => (await veld.exec('box', 'pgrep', '-fx', 'sleep 1000')).exitCode === 0);
  terminal.type('\x1a');
  await terminal.shows(/\[1\]\+\s+Stopped\s+sleep 1000/);
  terminal.type('bg\r');
  await terminal.shows(/\[1\]\+ sleep 1000 &/);
  terminal.type('fg\r');
  await terminal.shows(/fg\r\n\S*\r?sleep 1000\r\n/);
  terminal.type('\x03');
  await terminal.shows('^C');
  terminal.type('echo interrupted: $?\r');
  await terminal.shows('interrupted: 130');
  terminal.type('\x04');
  await terminal.ended;
  assert.equal((await veld.exec('box', 'pgrep', '-fx', 'sleep 1000')).exitCode, 1);
});

test('a closed window ends the shell and what it runs', async () => {
  const terminal = openTerminal('veld enter box', veld.settingsFile);
  await terminal.shows('root@box:~#');
  terminal.type('sleep 2000\r');
  await until('sleep to run', async () => (await veld.exec('box', 'pgrep', '-fx', 'sleep 2000')).exitCode === 0);
  terminal.hangUp();
  await until('sleep to be gone', async () => (await veld.exec('box', 'pgrep', '-fx', 'sleep 2000')).exitCode === 1);
});

test('other users, and a shell that is not there', async () => {
  const ann = await veld.cliWith('id -un; pwd; echo $0 $SHELL; shopt login_shell\n', 'enter', '-u', 'ann', 'box');
  assert.deepEqual([ann.code, ann.stdout.replaceAll(/\s+/g, ' ').trim()], [0, 'ann /home/ann /bin/bash /bin/bash login_shell on']);
  const zed = await veld.cliWith('id -un; echo $SHELL\n', 'enter', '-u', 'zed', 'box');
  assert.deepEqual([zed.code, zed.stdout], [0, 'zed\n/bin/bash\n']);
  const daemon = await veld.cliWith('id\n', 'enter', '-u', 'daemon', 'box');
  assert.deepEqual([daemon.code, daemon.stdout], [1, 'This account is currently not available.\n']);
  const nobody = await veld.cli('enter', '-u', 'nobody-at-all', 'box');
  assert.match(nobody.stderr, /has no user "nobody-at-all"/);
  assert.equal(nobody.code, 2);
});

test('files that the login reads may be anything', async () => {
  // A FIFO must not block the daemon, a link must not lead out, a huge or odd locale is left out.
  await veld.exec('box', 'sh', '-c', 'rm -f /etc/default/locale && mkfifo /etc/default/locale');
  assert.equal((await veld.cliWith('echo "[$LANG]"\n', 'enter', 'box')).stdout, '[]\n');
  await veld.exec('box', 'sh', '-c', 'rm -f /etc/default/locale && echo LANG=C.UTF-8 PATH=/evil "LC_ALL=\\$(id)" LD_PRELOAD=x | tr " " "\\n" > /etc/default/locale');
  assert.equal((await veld.cliWith('echo "[$LANG][$LC_ALL][$LD_PRELOAD]"; case $PATH in *evil*) echo evil;; esac\n', 'enter', 'box')).stdout, '[C.UTF-8][][]\n');
  await veld.exec('box', 'sh', '-c', 'ln -sf ../../../../etc/hostname /home/zed/sh; usermod -s /home/zed/sh zed');
  assert.equal((await veld.cliWith('echo $0\n', 'enter', '-u', 'zed', 'box')).stdout, '/bin/bash\n');
});

test('a VE that does not run cannot be entered', async () => {
  await veld.api.operate('POST', '/v1/ves/box/freeze');
  assert.equal((await veld.cli('enter', 'box')).code, 9);
  await veld.api.operate('POST', '/v1/ves/box/thaw');
  await veld.api.operate('POST', '/v1/ves/box/stop', { force: true });
  const stopped = await veld.cli('enter', 'box');
  assert.equal(stopped.code, 8);
  assert.match(stopped.stderr, /box is stopped/);
});
