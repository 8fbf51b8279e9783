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

  test('limits set while it runs are written, seen inside, and bite', async () => {
    await host.set('demo', { 'memory.limit': '160M', 'memory.swap': '0', 'pids.limit': '80', 'cpu.limit': '20%', 'cpu.weight': '50' });
    const demo = await host.show('demo');
    assert.equal(await host.control(demo, 'memory.max'), String(160 * 2 ** 20));
    assert.equal(await host.control(demo, 'memory.swap.max'), '0');
    assert.equal(await host.control(demo, 'pids.max'), '80');
    assert.equal(await host.control(demo, 'cpu.max'), '20000 100000');
    assert.equal(await host.control(demo, 'cpu.weight'), '50');
    assert.match(await host.said('demo', 'cat', '/proc/meminfo'), new RegExp(`^MemTotal: +${160 * 1024} kB`, 'm'));
    // (On a busy machine lxcfs may be too slow for doctor once.)
    await until('doctor to see the limit', async () => /a VE sees its memory limit/.test((await host.doctor()).find(({ id }) => id === 'lxcfs')?.message ?? ''), PATIENCE, 1000);

    // cpu: a loop of 4 s of clock gets a fifth of one CPU, and a little for what the period begins with.
    const used = async (): Promise<number> => Number(/usage_usec (\d+)/.exec(await host.control(demo, 'cpu.stat'))?.[1]);
    const before = await used();
    await host.exec('demo', 'timeout', '4', 'sh', '-c', 'while :; do :; done');
    assert.ok((await used()) - before < 2_000_000, 'the loop took more CPU than the limit allows');
    assert.ok(Number(/nr_throttled (\d+)/.exec(await host.control(demo, 'cpu.stat'))?.[1]) > 10);
    await host.set('demo', { 'cpu.burst': '10%' });
    assert.equal(await host.control(demo, 'cpu.max.burst'), '10000');
    await host.set('demo', { 'cpu.limit': null, 'cpu.burst': null });
    assert.equal(await host.control(demo, 'cpu.max'), 'max 100000');

    await host.set('demo', { 'cpu.count': 1 });
    assert.match(await host.control(demo, 'cpuset.cpus'), /^\d$/);
    assert.equal(await host.said('demo', 'sh', '-c', 'nproc; grep -c ^processor /proc/cpuinfo'), '1\n1');
    await host.set('demo', { 'cpu.count': null });
    assert.equal(await host.control(demo, 'cpuset.cpus'), '');

    // What goes through the page cache, too, is the VE's own here.
    await host.set('demo', { 'io.limit': '4M' });
    assert.match(await host.control(demo, 'io.max'), /rbps=4194304 wbps=4194304/);
    const since = performance.now();
    await host.said('demo', 'sh', '-c', 'dd if=/dev/urandom of=/root/io bs=1M count=12 conv=fsync 2>/dev/null; rm /root/io');
    assert.ok(performance.now() - since > 1500, '12 MiB at 4 MiB a second');
    await host.set('demo', { 'io.limit': null });
    assert.doesNotMatch(await host.control(demo, 'io.max'), /wbps=\d/);

    assert.notEqual((await host.exec('demo', 'perl', '-e', '$x = "x" x (400 << 20)')).exitCode, 0);
    assert.match(await host.control(demo, 'memory.events'), /oom_kill [1-9]/);

    const forks = await host.exec('demo', 'sh', '-c', 'for i in $(seq 100); do sleep 60 & done; wait');
    assert.match(forks.stderr, /fork/i);
    // Counted where the process was, or (since 6.11) where the limit is.
    assert.match(await machine.ask(`find ${group}/${demo.number} -name pids.events | xargs cat`), /^max [1-9]/m);
    await host.set('demo', { 'memory.limit': null, 'memory.swap': null, 'pids.limit': null, 'cpu.weight': null });
    await host.exec('demo', 'pkill', 'sleep');
    assert.equal(await host.control(demo, 'memory.max'), 'max');
    assert.equal(await host.said('demo', 'systemctl', 'is-system-running'), 'running');
  });

  test('guaranteed memory stays while another VE fills the host', async (t) => {
    const MIB = 2 ** 20;
    await host.api.operate('POST', '/v1/ves', { name: 'greedy', template, start: true });
    await host.booted('greedy');
    const demo = await host.show('demo');
    const kept = async (): Promise<number> => Number(/^file (\d+)$/m.exec(await host.control(demo, 'memory.stat'))![1]) / MIB;
    // Page cache that is not used any more goes first, when somebody wants memory: here one VE's is guaranteed, then none's.
    await host.said('demo', 'sh', '-c', 'head -c 200M /dev/zero >/root/cached; sync /root/cached');
    await host.said('greedy', 'sh', '-c', 'head -c 900M /dev/zero >/root/large; sync /root/large');
    const press = async (): Promise<number> => {
      await host.said('demo', 'sh', '-c', 'cat /root/cached >/dev/null');
      await host.said('greedy', 'sh', '-c', 'for i in 1 2; do cat /root/large >/dev/null; done; perl -e \'$m = "x" x (450 << 20); sleep 3\'');
      return kept();
    };
    await host.set('demo', { 'memory.guarantee': '400M' });
    assert.equal(await host.control(demo, 'memory.low'), String(400 * MIB));
    const promised = await press();
    await host.set('demo', { 'memory.guarantee': null });
    const bare = await press();
    t.diagnostic(`of 200 MiB ${promised.toFixed(0)} were left with a guarantee, and ${bare.toFixed(0)} without`);
    assert.ok(promised > 180, `${promised} MiB`);
    assert.ok(bare < promised - 40, `${bare} MiB without`);
    await host.said('demo', 'rm', '/root/cached');
    await host.api.operate('DELETE', '/v1/ves/greedy?force=true');
  });

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
    assert.equal(await host.said('demo', 'systemctl', 'is-system-running'), 'running');
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
    const { uuid } = await host.show('demo');
    await machine.run(`cd ${host.program} && ./quickstart --remove --yes`, { timeout: 300_000 });
    // (veld.slice itself is systemd's own, above those of all installations.)
    assert.equal(await machine.ask('find /sys/fs/cgroup/veld* /sys/fs/cgroup/*/veld-main -mindepth 1 -type d 2>/dev/null; ls -d /run/veld /etc/systemd/system/veld* 2>/dev/null; find /usr/local -name "*veld*"; '
      + 'nft list tables | grep veld; ip -o link | grep vmain; ip route | grep "proto 118"; grep veld /proc/mounts | grep -v "^/dev/"; pgrep -fa "veldd|lxcfs|conmon|^sleep"', { allow: true }), '');
    assert.equal(await machine.ask('ls /var/lib/veld/ves'), uuid);
    assert.equal(await machine.ask('systemctl is-system-running'), 'running');
  });
}
