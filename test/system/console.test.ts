/** `veld console`: the terminal of init, seen and typed at by several, over reboots. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileInstance } from '../lib/instance.ts';
import { openTerminal } from '../lib/terminal.ts';
import type { UserTerminal } from '../lib/terminal.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();

/** An init that counts its boots and offers a shell on its console, as small systems do. */
const SHELL_INIT = `#!/bin/sh
mount -o remount,rw / 2>/dev/null
echo x >> /boots
echo "this is boot $(wc -l < /boots)"
while :; do /bin/sh -i; sleep 0.1; done
`;

async function withShellInit(name: string): Promise<void> {
  await veld.createRunning(name);
  const written = await veld.exec(name, 'sh', '-c', 'rm -f /sbin/init && printf %s "$1" > /sbin/init && chmod 755 /sbin/init', 'sh', SHELL_INIT);
  assert.equal(written.exitCode, 0, written.stderr);
  await veld.api.operate('POST', `/v1/ves/${name}/stop`, { force: true });
}

/** State letter of the VE's conmon, proc_pid_stat(5). */
function stateOfMonitor(number: number): string {
  const pid = readFileSync(join(veld.settings.runDir, 'ves', String(number), 'conmon.pid'), 'utf8').trim();
  return /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1] ?? '?';
}

/** Ask the shell inside for the size of its terminal until it is this one: it changes a moment after that of the terminal outside. */
async function sizeIs(terminal: UserTerminal, size: RegExp): Promise<void> {
  await until(`a size ${size.source}`, async () => {
    const before = terminal.shown().length;
    terminal.type('\rstty size\r');
    await until('an answer', () => /\d+ \d+\r\n/.test(terminal.shown().slice(before)));
    return size.test(terminal.shown().slice(before));
  });
}

test('an init with a shell: keys, two at once, sizes, a reboot inside, and the way out', async () => {
  await withShellInit('plain');
  const early = await veld.cli('console', 'plain');
  assert.equal(early.code, 8);
  assert.match(early.stderr, /plain is stopped/);
  assert.match(early.stderr, /veld console --wait/);

  // Attached before there is anything to attach to.
  const first = openTerminal('veld console --wait plain', veld.settingsFile);
  await first.shows('waiting for plain to boot');
  await veld.api.operate('POST', '/v1/ves/plain/start');
  await first.shows('this is boot 1');
  first.type('echo first was $((6 * 7))\r');
  await first.shows('first was 42');
  await sizeIs(first, /24 80\r\n/); // a moment after the first words

  const second = openTerminal('veld console --tail 50 plain', veld.settingsFile);
  await second.shows('first was 42'); // from the log
  second.type('echo second says $((6 * 8))\r');
  await first.shows('second says 48');
  second.resize(111, 35);
  await sizeIs(second, /35 111\r\n/);

  second.type('reboot -ff\r');
  await first.shows('this is boot 2');
  await second.shows('this is boot 2');
  // The new terminal gets a size, too, once it is seen.
  await sizeIs(first, /(24 80|35 111)\r\n/);

  second.type('\x1d');
  await second.ended;
  assert.match(second.shown(), /Detached\.\s+status=0/);
  const [before, after] = second.settings();
  assert.ok(before);
  assert.equal(after, before);

  // Without --wait a stop is the end, with it is not.
  const third = openTerminal('veld console --detach-key ctrl-t plain', veld.settingsFile);
  await third.shows('this is boot 2');
  third.type('\x1d');
  await veld.api.operate('POST', '/v1/ves/plain/stop', { force: true });
  await third.ended;
  assert.match(third.shown(), /plain has stopped\][\s\S]*status=0/);
  await first.shows('plain has stopped; waiting for its next boot');
  await veld.api.operate('POST', '/v1/ves/plain/start');
  await first.shows('this is boot 3');
  await veld.api.operate('DELETE', '/v1/ves/plain?force=true');
  await first.ended;
  assert.match(first.shown(), /plain was destroyed\]/);
});

test('without a terminal: what comes goes to standard output, lines come from standard input', async () => {
  await withShellInit('piped');
  await veld.api.operate('POST', '/v1/ves/piped/start');
  const ended = veld.cliWith('echo $((7 * 7)); poweroff -ff\n', 'console', 'piped');
  const { code, stdout } = await ended;
  assert.equal(code, 0);
  assert.match(stdout, /\r\n49\r\n/);
  assert.match(stdout, /piped has stopped/);
});

test('a console that nobody reads: it is said, keys are dropped, and conmon is left in peace', async () => {
  const { number } = await veld.createRunning('deaf');
  await veld.booted('deaf');
  const terminal = openTerminal('veld console deaf', veld.settingsFile);
  await terminal.shows('nothing in deaf listens on its console');
  for (let i = 0; i < 300; i++) terminal.type('0123456789abcdef\r'.repeat(60));
  terminal.type('\x1d');
  await terminal.ended;
  assert.match(terminal.shown(), /Detached\./);
  await until('conmon to sleep', () => stateOfMonitor(number) === 'S');
  // Somebody holds it, and does not read: keys wait for a while, then they are lost.
  assert.equal((await veld.exec('deaf', 'systemd-run', '--quiet', '-p', 'StandardInput=tty-force', '-p', 'TTYPath=/dev/console', '--unit', 'holder', 'sleep', 'infinity')).exitCode, 0);
  const other = openTerminal('veld console deaf', veld.settingsFile);
  await other.shows('detaches');
  for (let i = 0; i < 300; i++) other.type('0123456789abcdef\r'.repeat(60));
  await until('conmon to sleep', () => stateOfMonitor(number) === 'S');
  assert.equal((await veld.exec('deaf', 'systemctl', 'stop', 'holder')).exitCode, 0);
  other.hangUp();
});

test('a login prompt where the VE offers one', async () => {
  await veld.createRunning('login');
  await veld.booted('login');
  const made = await veld.exec('login', 'sh', '-c', 'echo root:secret | chpasswd && systemctl unmask console-getty 2>&1 && systemctl enable --now console-getty 2>&1');
  assert.equal(made.exitCode, 0, made.stdout);
  const terminal = openTerminal('veld console login', veld.settingsFile);
  await terminal.shows('login: ');
  terminal.type('root\r');
  await terminal.shows('Password: ');
  terminal.type('secret\r');
  await terminal.shows('root@login:~#');
  terminal.type('tty; echo "$0"; loginctl --no-legend list-sessions\r');
  await terminal.shows(/\/dev\/pts\/0\r\n-bash\r\n/);
  // The prompt is not the last thing shown where the boot takes long: agetty waits 5 s for systemd's jobs, systemd.service(5) on Type=idle, and words of theirs may follow.
  const before = terminal.shown().length;
  terminal.type('reboot\r');
  await until('the prompt of the next boot', () => /Started.*console-getty[\s\S]*login: /.test(terminal.shown().slice(before)), 60_000);
  terminal.type('\x1d');
  await terminal.ended;
});
