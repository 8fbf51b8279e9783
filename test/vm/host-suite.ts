/**
 * What Veld promises on a stock Debian with systemd as pid 1 and cgroup v2, from quickstart to --remove. One machine goes through all of it in order:
 * each test leaves `demo` running and without limits.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PATIENCE, quickstart } from './host.ts';
import type { Host } from './host.ts';
import { fileTests, limitsTests } from './limits-suite.ts';

/** What doctor may warn of on such a machine, because it is so: a mirror may be late. */
const TRUE_WARNINGS = new Set(['engine.release']);

const CONTROLLERS = ['cpu', 'memory', 'pids', 'io', 'cpuset'];

/** From quickstart on: what an operator does on a host that runs. */
export function everydayTests(host: Host): void {
  const { machine, template, group } = host;

  test('the machine is what a server is: systemd, cgroup v2 with its controllers, AppArmor', async () => {
    assert.equal(await machine.ask('cat /proc/1/comm'), 'systemd');
    assert.equal(await machine.ask('systemctl is-system-running --wait', { allow: true }), 'running');
    assert.equal(await machine.ask('stat -fc %T /sys/fs/cgroup'), 'cgroup2fs');
    const controllers = await machine.ask('cat /sys/fs/cgroup/cgroup.controllers');
    for (const controller of CONTROLLERS) assert.match(controllers, new RegExp(`\\b${controller}\\b`));
    assert.equal(await machine.ask('cat /sys/module/apparmor/parameters/enabled'), 'Y');
  });

  test('quickstart ends with a running VE, and changes nothing when it runs again', async () => {
    const first = await quickstart(host);
    assert.match(first, /\[100 %\] Done/);
    assert.match(first, new RegExp(`demo runs ${template} at 10\\.187\\.0\\.2 and fd5e:1d00:187::2`));
    const [pid, demo] = [await machine.ask('systemctl show -P MainPID veldd'), await host.init(await host.show('demo'))];
    assert.match(await quickstart(host), /\[100 %\] Done/);
    assert.deepEqual([await machine.ask('systemctl show -P MainPID veldd'), await host.init(await host.show('demo'))], [pid, demo]);
  });

  test('the command line: list, exec, set, show, an error', async () => {
    assert.match(await host.veld('list'), /^demo .* running /m);
    assert.equal(await host.veld('exec demo -- systemctl is-system-running'), 'running');
    await host.veld('set demo memory.limit=700M');
    assert.match(await host.veld('show demo'), /memory\.limit.*700M/);
    await host.veld('set demo memory.limit=unlimited');
    const refused = await machine.run('veld show nosuch', { allow: true });
    assert.notEqual(refused.code, 0);
    assert.match(refused.stderr, /no VE "nosuch"/);
  });

  test('the daemon is a unit, and no process of a VE is in its group', async () => {
    assert.equal(await machine.ask('systemctl is-active veldd'), 'active');
    assert.equal(await machine.ask('systemctl is-enabled veldd veld-main-ves'), 'enabled\nenabled');
    assert.match(await machine.ask('systemctl status veldd'), /Active: active \(running\)/);
    assert.equal(await machine.ask('systemctl show -P KillMode veldd'), 'process');
    // A program that the daemon runs for a moment is there, too.
    const daemon = await machine.ask('systemctl show -P MainPID veldd');
    await until('the daemon to be alone', async () => await machine.ask('cat /sys/fs/cgroup/system.slice/veldd.service/cgroup.procs') === daemon, PATIENCE, 250);
    assert.match(await machine.ask(`cat ${group}/monitors/cgroup.procs | xargs -I@ cat /proc/@/comm`), /conmon/);
  });

  test('VEs live in the group that systemd delegated, with its controllers down to the VE', async () => {
    assert.equal(await machine.ask('systemctl show -P Delegate veld-main-ves'), 'yes');
    const demo = await host.show('demo');
    const [pid = ''] = (await host.init(demo)).split(' ');
    assert.equal(await machine.ask(`cut -d/ -f1-5 /proc/${pid}/cgroup`), `0::${group.slice('/sys/fs/cgroup'.length)}/${demo.number}`);
    for (const file of [`${group}/cgroup.subtree_control`, `${group}/${demo.number}/cgroup.controllers`]) {
      const controllers = await machine.ask(`cat ${file}`);
      for (const controller of CONTROLLERS) assert.match(controllers, new RegExp(`\\b${controller}\\b`), file);
    }
    // The VE's systemd sees them, and uses them for its own units.
    assert.match(await host.said('demo', 'cat', '/sys/fs/cgroup/cgroup.subtree_control'), /memory pids/);
    // It may make groups, and not touch its limits.
    assert.notEqual((await host.exec('demo', 'sh', '-c', 'echo max >/sys/fs/cgroup/memory.max')).exitCode, 0);
  });

  limitsTests(host);

  test('doctor says nothing false', async () => {
    const checks = await host.doctor();
    assert.deepEqual(checks.filter(({ status, id }) => status === 'fail' || (status === 'warn' && !TRUE_WARNINGS.has(id))), []);
    assert.match(checks.find(({ id }) => id.includes('cgroup'))?.message ?? '', /v2/);
    assert.match(checks.find(({ id }) => id === 'resources')?.message ?? '', /can be held/);
  });

  test('freeze and thaw', async () => {
    await host.api.operate('POST', '/v1/ves/demo/freeze');
    const demo = await host.show('demo');
    assert.equal(demo.status, 'frozen');
    assert.match(await host.control(demo, 'cgroup.events'), /^frozen 1$/m);
    await host.api.operate('POST', '/v1/ves/demo/thaw');
    assert.equal(await host.said('demo', 'echo', 'on'), 'on');
  });

  test('IPv4 and IPv6 from the host to a VE, from VE to VE, and out', async () => {
    const { addresses } = await host.create('web');
    await host.booted('web');
    assert.equal(addresses.length, 2);
    for (const address of addresses) {
      const greeting = `exec 3<>/dev/tcp/${address}/22; head -c 7 <&3`;
      assert.equal(await machine.ask(`timeout 60 bash -c '${greeting}'`), 'SSH-2.0', `the host at ${address}`);
      assert.equal(await host.said('demo', 'timeout', '60', 'bash', '-c', greeting), 'SSH-2.0', `demo at ${address}`);
    }
    // Out: QEMU's user network leads 10.0.2.2 to this machine's loopback.
    const server = createServer((socket) => socket.end('outside')).listen(0, '127.0.0.1');
    try {
      await until('the server', () => server.listening);
      const { port } = server.address() as AddressInfo;
      assert.equal(await host.said('demo', 'timeout', '60', 'bash', '-c', `cat </dev/tcp/10.0.2.2/${port}`), 'outside');
    } finally {
      server.close();
    }
  });

  test('AppArmor stops nothing in a VE', async () => {
    assert.equal(await machine.ask(`journalctl -k -b --no-pager | grep -c 'apparmor="DENIED"'`, { allow: true }), '0');
  });

  test('reboot inside, with the daemon and without', async () => {
    const demo = await host.show('demo');
    for (const daemon of [true, false]) {
      const old = await host.init(demo);
      if (!daemon) await machine.run('systemctl stop veldd');
      const [pid = ''] = old.split(' ');
      if (daemon) await host.exec('demo', 'systemctl', 'reboot').catch(() => {});
      else await machine.run(`kill -39 ${pid}`); // SIGRTMIN+5: reboot.target
      await until('a new init', async () => !['', old].includes(await host.init(demo)), PATIENCE, 250);
      if (!daemon) await machine.run('systemctl start veldd');
      await host.booted('demo');
    }
  });

  fileTests(host);

  test('restart and kill -9 of the daemon leave VEs alone', async () => {
    const both = async (): Promise<string[]> => Promise.all(['demo', 'web'].map(async (ve) => host.init(await host.show(ve))));
    const inits = await both();
    const lxcfs = await machine.ask('pgrep -x lxcfs');
    await machine.run('systemctl restart veldd');
    assert.deepEqual(await both(), inits);
    assert.equal(await machine.ask('pgrep -x lxcfs'), lxcfs);
    const killed = await machine.ask('systemctl show -P MainPID veldd');
    await machine.run(`kill -9 ${killed}`);
    await until('systemd to start it again', async () => !['0', killed].includes(await machine.ask('systemctl show -P MainPID veldd')), PATIENCE, 250);
    await host.answers();
    assert.deepEqual(await both(), inits);
    assert.equal(await machine.ask('pgrep -x lxcfs'), lxcfs);
    assert.doesNotMatch(await machine.ask(`cat /proc/${lxcfs}/cgroup`), /veldd\.service/);
    await machine.run(`kill -9 ${lxcfs}`);
    await until('demo to see itself again', async () => /^MemTotal:/.test(await host.said('demo', 'head', '-1', '/proc/meminfo')), PATIENCE, 250);
    // A VE stands still for the moment in which its mounts are exchanged.
    await until('both to run', async () => (await host.list()).every(({ status }) => status === 'running'), PATIENCE, 250);
    await host.healthy('demo');
  });

  test('what systemd does to its units takes nothing from VEs', async () => {
    await host.set('demo', { 'memory.limit': '300M', 'pids.limit': '300' });
    const demo = await host.show('demo');
    const state = (): Promise<string> => machine.ask(`cd ${group}; cat cgroup.subtree_control ${demo.number}/memory.max ${demo.number}/pids.max /run/veld/ves/${demo.number}/init`);
    const as = await state();
    for (const command of ['daemon-reload', 'daemon-reexec', 'set-property --runtime veld-main-ves.service CPUWeight=90', 'restart veld-main-ves', 'daemon-reload']) {
      await machine.run(`systemctl ${command}`);
      assert.equal(await state(), as, command);
      assert.equal(await machine.ask('systemctl is-active veld-main-ves'), 'active', command);
    }
    await machine.run('systemctl restart veldd');
    assert.equal(await state(), as, 'after a restart of the daemon');
    await host.set('demo', { 'memory.limit': null, 'pids.limit': null });
  });

  test('stop and destroy leave nothing', async () => {
    const web = await host.show('web');
    await host.api.operate('POST', '/v1/ves/web/stop');
    assert.equal((await host.show('web')).status, 'stopped');
    await host.destroy('web');
    assert.equal(await machine.ask(`find ${group} /run/veld /var/lib/veld/ves -name '${web.number}' -o -name '${web.uuid}*' | head; ip -o link | grep -- '-${web.number}@'`, { allow: true }), '');
    await assert.rejects(host.show('web'), /ve\.not_found/);
  });
}

/** The end of a machine's tests. */
export function removalTest(host: Host): void {
  const { machine } = host;

  test('quickstart --remove leaves VEs for later and nothing else', async () => {
    // One disk of each kind that Veld itself mounts.
    await machine.run('veld pool create disks --driver image --image-size 300M && veld pool create shared --image-size 300M');
    for (const pool of ['disks', 'shared']) await machine.run(`veld create on-${pool} --template ${host.template} --set disk.pool=${pool}`);
    assert.notEqual(await machine.ask('losetup -l | grep /var/lib/veld'), '');
    const { uuid } = await host.show('demo');
    await machine.run(`cd ${host.program} && ./quickstart --remove --yes`, { timeout: 300_000 });
    // (veld.slice itself is systemd's own, above those of all installations.)
    assert.equal(await machine.ask('find /sys/fs/cgroup/veld* /sys/fs/cgroup/*/veld-main -mindepth 1 -type d 2>/dev/null; ls -d /run/veld /etc/systemd/system/veld* 2>/dev/null; find /usr/local -name "*veld*"; '
      + 'nft list tables | grep veld; ip -o link | grep vmain; ip route | grep "proto 118"; grep veld /proc/mounts | grep -v "^/dev/[^l]"; losetup -l | grep veld; bpftool prog show | grep veld_; pgrep -fa "veldd|lxcfs|conmon|^sleep"', { allow: true }), '');
    assert.equal(await machine.ask('ls /var/lib/veld/ves'), uuid);
    assert.equal(await machine.ask('find /var/lib/veld/pools -name image -size +0 | wc -l'), '2', 'the disks of the others');
    assert.equal(await machine.ask('systemctl is-system-running'), 'running');
  });
}
