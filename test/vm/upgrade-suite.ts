/** Another version of Veld takes over from another folder while VEs run. */
import assert from 'node:assert/strict';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PROGRAM } from './disks.ts';
import { PATIENCE } from './host.ts';
import type { Host } from './host.ts';

const NEXT = '/opt/veld-next';
const VERSION = '99.1.0';

/** In the VE: a server that says again what it is told, as long as it is told anything. */
const ECHO = 'use IO::Socket::INET; my $s = IO::Socket::INET->new(LocalPort => 7, Listen => 5, ReuseAddr => 1) or die $@;'
  + ' while (my $c = $s->accept) { while (my $line = <$c>) { print $c $line; $c->flush } }';

/** Leaves the new version installed, and the old one's folder without what is needed to run it. */
export function upgradeTest(host: Host): void {
  const { machine } = host;

  test('an upgrade with VEs running: they notice nothing, and boot by the new version from then on', async () => {
    assert.equal((await host.exec('demo', 'systemd-run', '--quiet', '--unit=echo', 'perl', '-e', ECHO)).exitCode, 0);
    const demo = await host.show('demo');
    const processes = (): Promise<string> => host.said('demo', 'sh', '-c', 'cat /proc/1/stat /proc/[0-9]*/stat 2>/dev/null | grep -E "\\((systemd|perl|sshd|dbus-daemon)\\)" | cut -d" " -f1,2,22 | sort');
    const [init, inside] = [await host.init(demo), await processes()];
    const echo = await machine.forward(`${demo.addresses[0]}:7`);
    const connection = await until('the echo server', async () => {
      const attempt = open(echo);
      return await attempt.say('before') === 'before' ? attempt : undefined;
    }, PATIENCE, 250);

    await machine.run(`mkdir ${NEXT} && cd ${PROGRAM} && cp -a bin dist libexec package.json package-lock.json quickstart rolldown.config.ts scripts share src ${NEXT}/ && ln -s ${PROGRAM}/node_modules ${NEXT}/`
      + ` && sed -i 's/"version": "[^"]*"/"version": "${VERSION}"/' ${NEXT}/package.json && touch ${NEXT}/dist/*.cjs`);
    // A VE that was booted by a version which knew less.
    await machine.run(`sed -i '/^VELD_TINI=/d' /run/veld/ves/${demo.number}/env`);
    host.program = NEXT;
    assert.match(await machine.ask(`cd ${NEXT} && ./quickstart`, { timeout: 600_000 }), /starting it anew; VEs go on[^]*\[100 %\] Done/);
    // Whoever still wants something of the old one shall fail.
    await machine.run(`cd ${PROGRAM} && mkdir gone && mv bin dist libexec package.json quickstart scripts share src gone/`);

    assert.match(await host.veld('version'), new RegExp(VERSION.replaceAll('.', '\\.')));
    assert.match(await machine.ask('tr "\\0" " " </proc/$(systemctl show -P MainPID veldd)/cmdline'), new RegExp(`${NEXT}/`));
    assert.equal(await connection.say('after'), 'after');
    assert.equal(await host.init(demo), init);
    assert.equal(await processes(), inside);
    assert.equal(await host.veld('exec demo -- echo on'), 'on');
    await host.set('demo', { 'pids.limit': '500' });
    assert.equal(await host.control(demo, 'pids.max'), '500');
    await host.set('demo', { 'pids.limit': null });

    await host.exec('demo', 'systemctl', 'reboot').catch(() => {});
    await until('a new init', async () => !['', init].includes(await host.init(demo)), PATIENCE, 250);
    await host.booted('demo');
    connection.close();
    assert.doesNotMatch(await machine.ask(`cat /run/veld/ves/${demo.number}/env`), new RegExp(`${PROGRAM}/`));
    const monitors = await machine.ask(`for pid in $(cat ${host.group}/monitors/cgroup.procs); do tr '\\0' ' ' </proc/$pid/cmdline; echo; done`);
    assert.match(monitors, new RegExp(`conmon .* -r ${NEXT}/libexec/veld-runtime `));
  });
}

/** A TCP connection that stays open: each line is answered by itself. */
function open(path: string): { say(line: string): Promise<string>; close(): void } {
  const socket: Socket = connect({ path });
  let said = '';
  let failure: Error | undefined;
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => { said += text; });
  socket.on('error', (error) => { failure = error; });
  socket.on('close', () => { failure ??= new Error('the connection has ended'); });
  return {
    async say(line) {
      said = '';
      socket.write(`${line}\n`);
      await until(`the answer to ${line}`, () => {
        if (failure) return true;
        return said.endsWith('\n');
      }, PATIENCE);
      if (failure) throw failure;
      return said.trim();
    },
    close: () => socket.destroy(),
  };
}
