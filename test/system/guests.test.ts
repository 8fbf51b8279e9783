/**
 * The guests that Veld promises: suites whose init is systemd, and the other inits. `./check full` takes all suites; without it the newest systemd that
 * Debian has, whose demands grow, stands for them (the test template is that of the host).
 */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { guestTemplate } from '../lib/cache.ts';
import { listen } from '../lib/events.ts';
import { fileInstance, startInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { VeDetail } from '../../src/ve/types.ts';

const FULL = process.env.VELD_TEST_FULL !== undefined;
const SYSTEMD = FULL ? ['debian-11', 'debian-12', 'debian-13', 'debian-testing'] : ['debian-testing'];
/** What the template of all tests is: another one of it would be the very same. */
const TESTED = 'debian-12';
const OTHER = [['debian-12', 'sysvinit'], ['debian-12', 'busybox'], ...(FULL ? [['debian-13', 'sysvinit'], ['debian-13', 'busybox']] : [])] as [string, 'sysvinit' | 'busybox'][];

const bare = (): ReturnType<typeof startInstance> => startInstance({ noTemplate: true });
const templates: string[] = [];
for (const suite of SYSTEMD) if (suite !== TESTED) templates.push(await guestTemplate({ suite }, bare));
for (const [suite, init] of OTHER) templates.push(await guestTemplate({ suite, init }, bare));
const veld = await fileInstance({ templates });
const empty = veld.traces();

async function run(name: string, template: string, properties: Record<string, unknown> = {}): Promise<VeDetail> {
  await veld.api.operate('POST', '/v1/ves', { name, template, properties, start: true });
  return veld.show(name);
}

async function shell(ve: string, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await veld.exec(ve, 'sh', '-c', script);
  assert.equal(exitCode, 0, `${script}: ${stdout}${stderr}`);
  return stdout;
}

/** The first thing that a server says, which then waits for its client. */
function banner(address: string, port: number): Promise<string> {
  return until(`${address} port ${port} to speak`, () => new Promise<string>((resolve, reject) => {
    const socket = connect({ host: address, port, timeout: 2000 });
    socket.once('data', (data: Buffer) => {
      socket.destroy();
      resolve(data.toString('utf8'));
    });
    socket.on('timeout', () => socket.destroy(new Error('silence')));
    socket.on('error', reject);
    socket.on('close', () => reject(new Error('closed without a word')));
  }));
}

const settledAs = (name: string, status: string): Promise<VeDetail> => until(`${name} to be ${status}`, async () => {
  const ve = await veld.show(name);
  return ve.status === status ? ve : undefined;
}, 30_000);

/**
 * What units ask for to be shut in. Some of it a VE may not have (features.nesting is off): then systemd passes over it, or the template
 * switches it off; a unit must not fail for it.
 */
const SANDBOXES = [
  'PrivateTmp=yes', 'ProtectHome=yes', 'ProtectHome=tmpfs', 'ProtectSystem=strict', 'DynamicUser=yes', 'PrivateUsers=yes', 'PrivateNetwork=yes', 'PrivateDevices=yes',
  'ProtectHostname=yes', 'ProtectClock=yes', 'ProtectKernelTunables=yes', 'ProtectKernelModules=yes', 'ProtectKernelLogs=yes', 'ProtectControlGroups=yes',
  'ProtectProc=invisible', 'ProcSubset=pid', 'PrivateMounts=yes', 'RestrictNamespaces=yes', 'SystemCallFilter=@system-service', 'MemoryDenyWriteExecute=yes',
  'TemporaryFileSystem=/srv', 'StateDirectory=tried', 'LoadCredential=a:/etc/passwd', 'IPAddressDeny=any', 'MemoryMax=50M', 'TasksMax=9', 'Nice=-5',
];

for (const suite of SYSTEMD) {
  describe(`${suite} with systemd`, () => {
    const name = suite.replace('debian-', 's');

    test('boots to running without a failed unit, and knows its name', async () => {
      await run(name, suite === TESTED ? 'test' : suite);
      assert.equal(await veld.booted(name), 'running', await shell(name, 'systemctl --failed --no-legend --plain'));
      assert.equal(await shell(name, 'systemctl --failed --no-legend --plain'), '');
      assert.equal(await shell(name, 'hostname'), `${name}\n`);
      assert.match(await shell(name, 'systemctl --version'), /^systemd \d+/);
    });

    test('units that shut themselves in run all the same', async () => {
      const failed = await shell(name, `for p in ${SANDBOXES.join(' ')}; do systemd-run --quiet --wait -p "$p" true || echo "$p"; done`);
      assert.equal(failed, '');
    });

    test('a user has a manager of its own, and sshd listens', async () => {
      await shell(name, 'systemctl start user@0.service && systemctl is-active user@0.service');
      assert.match(await banner((await veld.show(name)).addresses[0]!, 22), /^SSH-2/);
      assert.equal(await shell(name, 'systemctl --failed --no-legend --plain'), '');
    });

    test('reboots, and powers off', async () => {
      const { pid } = await veld.show(name);
      await veld.exec(name, 'systemctl', 'reboot');
      await until('another init', async () => ![pid, null].includes((await veld.show(name)).pid), 30_000);
      await settledAs(name, 'running');
      assert.equal(await veld.booted(name), 'running');
      assert.deepEqual((await veld.api.operate('POST', `/v1/ves/${name}/stop`)).result, { forced: false });
      assertSame(veld.traces(), empty, 'a stopped VE leaves nothing');
    });
  });
}

/** How to have a file written when the system inside shuts down in order. */
const WITNESS = {
  sysvinit: `cat >/etc/init.d/witness <<'E'
#!/bin/sh
### BEGIN INIT INFO
# Provides: witness
# Required-Start:
# Required-Stop: $remote_fs
# Default-Start: 2
# Default-Stop: 0 6
### END INIT INFO
[ "$1" != stop ] || touch /root/in-order
E
chmod 755 /etc/init.d/witness && update-rc.d witness defaults`,
  busybox: 'printf "#!/bin/sh\\n[ \\"\\$1\\" != stop ] || touch /root/in-order\\n" >/etc/rc.d/witness && chmod 755 /etc/rc.d/witness',
};

/** What offers a login on the console. */
const LOGIN = { sysvinit: /sysvinit-\d+ login:/, busybox: /press Enter to activate this console/ };

for (const [suite, init] of OTHER) {
  describe(`${suite} with ${init}`, () => {
    const name = `${init}-${suite.replace('debian-', '')}`;
    let ve: VeDetail;

    test('is running once its init has shown that it is up', async () => {
      ve = await run(name, `${suite}-${init}`);
      assert.equal(ve.status, 'running');
      assert.equal(await shell(name, 'cat /proc/1/comm'), 'init\n');
      assert.equal((await veld.cli('restart', '--wait', name)).code, 0);
      ve = await veld.show(name);
    });

    test('has its name, its addresses and a login on its console', async () => {
      assert.equal(await shell(name, 'cat /etc/hostname; hostname'), `${name}\n${name}\n`);
      assert.match(await shell(name, 'cat /etc/hosts'), new RegExp(`${ve.addresses[0]} ${name}`));
      if (init === 'busybox') await shell(name, 'mkdir -p /srv/www && echo hello >/srv/www/index.html && httpd -p 8080 -h /srv/www');
      for (const address of ve.addresses) {
        if (init === 'sysvinit') assert.match(await banner(address, 22), /^SSH-2/);
        else assert.equal(await (await fetch(`http://${address.includes(':') ? `[${address}]` : address}:8080/`)).text(), 'hello\n');
      }
      let log = '';
      await until('the login', async () => LOGIN[init].test(log = (await veld.cli('logs', name)).stdout)).catch(() => assert.match(log, LOGIN[init]));
    });

    test('is suspended and resumed, though its init keeps the console', async () => {
      await shell(name, 'echo kept >/run/kept');
      const { lastExit } = await veld.show(name);
      await veld.api.operate('POST', `/v1/ves/${name}/suspend`);
      assert.equal((await veld.show(name)).status, 'suspended');
      await veld.api.operate('POST', `/v1/ves/${name}/resume`);
      assert.equal(await shell(name, 'cat /run/kept /proc/1/comm'), 'kept\ninit\n');
      assert.deepEqual((await veld.show(name)).lastExit, lastExit, 'that was no end');
      await shell(name, 'echo a word >/dev/console');
      await until('the word in the log', async () => (await veld.cli('logs', name)).stdout.includes('a word'));
      for (const address of ve.addresses) if (init === 'sysvinit') assert.match(await banner(address, 22), /^SSH-2/);
    });

    test('stops in order when asked', async () => {
      await shell(name, WITNESS[init]);
      assert.deepEqual((await veld.api.operate('POST', `/v1/ves/${name}/stop`)).result, { forced: false });
      assert.equal((await veld.show(name)).lastExit?.code, 130);
      assertSame(veld.traces(), empty, 'a stopped VE leaves nothing');
      await veld.api.operate('POST', `/v1/ves/${name}/start`);
      await shell(name, 'test -e /root/in-order');
    });

    test('reboot inside boots it again, also for a daemon that has been killed; poweroff ends it', async () => {
      const listener = await listen(veld.api);
      const before = (await veld.show(name)).pid;
      await veld.exec(name, 'reboot');
      await listener.next('ve.rebooted', 30_000);
      listener.close();
      const { pid } = await settledAs(name, 'running');
      assert.notEqual(pid, before);
      await veld.kill9();
      await veld.start();
      assert.deepEqual([(await veld.show(name)).pid, (await veld.show(name)).status], [pid, 'running']);
      assert.equal(await shell(name, 'cat /proc/1/comm'), 'init\n');
      await veld.exec(name, 'poweroff');
      assert.equal((await settledAs(name, 'stopped')).lastExit?.code, 130);
    });
  });
}

describe('inits that nobody knows', () => {
  const replaceInit = async (name: string, script: string): Promise<void> => {
    await veld.createRunning(name);
    assert.equal((await veld.exec(name, 'sh', '-c', `rm -f /sbin/init && printf '%s' "$1" >/sbin/init && chmod 755 /sbin/init`, 'sh', script)).exitCode, 0);
    await veld.api.operate('POST', `/v1/ves/${name}/restart`, { force: true });
    assert.equal((await veld.show(name)).status, 'running');
  };

  test('one that listens to nothing is killed without a wait', async () => {
    await replaceInit('deaf', '#!/bin/sh\nwhile :; do sleep 1000; done\n');
    // stop.timeout is a minute; the API's answer would come after it.
    const stopped = veld.api.operate('POST', '/v1/ves/deaf/stop');
    assert.ok(await Promise.race([stopped, settledAs('deaf', 'stopped')]));
    assert.deepEqual((await stopped).result, { forced: true });
  });

  test('one that takes SIGTERM gets it', async () => {
    await replaceInit('term', '#!/bin/sh\ntrap "touch /root/asked; exit 0" TERM\nwhile :; do sleep 0.05; done\n');
    assert.deepEqual((await veld.api.operate('POST', '/v1/ves/term/stop')).result, { forced: false });
    await veld.api.operate('POST', '/v1/ves/term/start');
    await shell('term', 'test -e /root/asked');
  });
});

describe('the host goes down', () => {
  before(async () => {
    for (const ve of await veld.list()) await veld.api.operate('DELETE', `/v1/ves/${ve.name}?force=true`);
  });

  test('every kind of init is asked in its own way', async () => {
    const inits = OTHER.slice(0, 2);
    for (const [suite, init] of inits) {
      await run(init, `${suite}-${init}`, { 'stop.timeout': 50 });
      await shell(init, WITNESS[init]);
    }
    await veld.createRunning('system', { 'stop.timeout': 50 });
    await veld.booted('system');
    await veld.createRunning('command', { 'stop.timeout': 50, 'boot.command': ['sh', '-c', 'trap "touch /root/in-order; exit 7" TERM; while :; do sleep 0.05; done'] });
    const numbers = new Map((await veld.list()).map((ve) => [ve.name, ve.number]));
    await veld.stop();
    const result = spawnSync(join(import.meta.dirname, '../../libexec/veld-shutdown'), [veld.settings.runDir], { env: { ...process.env, VELD_SHUTDOWN: 'yes' }, encoding: 'utf8', timeout: 60_000 });
    assert.deepEqual([result.status, result.stdout], [0, ''], result.stderr);
    const status = async (name: string): Promise<string> => {
      const file = join(veld.settings.runDir, 'ves', String(numbers.get(name)), 'exited');
      await until(`the note of ${name}`, () => existsSync(file));
      return readFileSync(file, 'utf8').split(' ')[0]!;
    };
    for (const [, init] of inits) assert.equal(await status(init), '130', init);
    assert.deepEqual([await status('system'), await status('command')], ['130', '7']);
    await veld.start();
    for (const name of ['sysvinit', 'busybox']) {
      await until(`${name} to be free`, async () => (await veld.show(name)).pid === null);
      await veld.api.operate('POST', `/v1/ves/${name}/start`);
      await shell(name, 'test -e /root/in-order');
    }
  });
});
