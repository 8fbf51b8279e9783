/**
 * What Veld promises, on a stock Debian with systemd as pid 1 and cgroup v2, from quickstart to --remove. One machine goes through all of it in
 * order: each test leaves `demo` running and without limits.
 */
import assert from 'node:assert/strict';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DoctorCheck } from '../../src/jobs/doctor.ts';
import type { VeDetail, VeView } from '../../src/ve/types.ts';
import { until } from '../lib/wait.ts';
import { PROGRAM, prepareState, programDisk, stateDisk } from './disks.ts';
import type { Suite } from './image.ts';
import { boot } from './machine.ts';

/** Group of the VEs: that of the unit that systemd delegated. */
const GROUP = '/sys/fs/cgroup/veld.slice/veld-main.slice/veld-main-ves.service';

/** What doctor may warn of on such a machine, because it is so: a mirror may be late. */
const TRUE_WARNINGS = new Set(['engine.release']);

export interface HostFacts {
  suite: Suite;
  /** Of quickstart's template. */
  template: string;
  /** systemd 254 and later start the process of a delegated group beside its children. */
  subgroups: boolean;
}

/** Boot a machine of a release, and declare all tests on it. To be awaited at the top of a file. */
export async function testHost({ suite, template, subgroups }: HostFacts): Promise<void> {
  const machine = await boot({ suite, disks: [programDisk(), await stateDisk(suite)] });
  const veld = (line: string, allow = false): Promise<string> => machine.ask(`veld ${line}`, { allow });
  const json = async <T>(line: string): Promise<T> => JSON.parse(await veld(`--json ${line}`)) as T;
  const show = (ve: string): Promise<VeDetail> => json<VeDetail>(`show ${ve}`);
  const control = (ve: VeDetail, file: string): Promise<string> => machine.ask(`cat ${GROUP}/${ve.number}/${file}`);
  const init = async (ve: VeDetail): Promise<string> => machine.ask(`cat /run/veld/ves/${ve.number}/init`);
  /** Wait until systemd in a VE has booted. */
  const booted = (ve: string): Promise<true> => until(`${ve} to be up`, async () => {
    const word = await veld(`exec ${ve} -- systemctl is-system-running`, true);
    if (word === 'degraded') throw new Error(await veld(`exec ${ve} -- systemctl --failed`));
    return word === 'running';
  }, 120_000, 500) as Promise<true>;

  test('the machine is what a server is: systemd, cgroup v2 with its controllers, AppArmor', async () => {
    assert.equal(await machine.ask('cat /proc/1/comm'), 'systemd');
    assert.equal(await machine.ask('systemctl is-system-running --wait', { allow: true }), 'running');
    assert.equal(await machine.ask('stat -fc %T /sys/fs/cgroup'), 'cgroup2fs');
    for (const controller of ['cpu', 'memory', 'pids', 'io', 'cpuset']) assert.match(await machine.ask('cat /sys/fs/cgroup/cgroup.controllers'), new RegExp(`\\b${controller}\\b`));
    assert.equal(await machine.ask('cat /sys/module/apparmor/parameters/enabled'), 'Y');
  });

  test('quickstart ends with a running VE, and changes nothing when it runs again', async () => {
    await prepareState(machine);
    const first = await machine.ask(`cd ${PROGRAM} && ./quickstart`, { timeout: 600_000 });
    assert.match(first, /\[100 %\] Done/);
    assert.match(first, new RegExp(`demo runs ${template} at 10\\.187\\.0\\.2 and fd5e:1d00:187::2`));
    await booted('demo');
    assert.match(await veld('exec demo -- systemctl --failed'), /^0 loaded units/m);
    const [pid, demo] = [await machine.ask('systemctl show -P MainPID veldd'), await init(await show('demo'))];
    assert.match(await machine.ask(`cd ${PROGRAM} && ./quickstart`, { timeout: 300_000 }), /\[100 %\] Done/);
    assert.deepEqual([await machine.ask('systemctl show -P MainPID veldd'), await init(await show('demo'))], [pid, demo]);
  });

  test('the daemon is a unit, and no process of a VE is in its group', async () => {
    assert.equal(await machine.ask('systemctl is-active veldd'), 'active');
    assert.equal(await machine.ask('systemctl is-enabled veldd veld-main-ves'), 'enabled\nenabled');
    assert.match(await machine.ask('systemctl status veldd'), /Active: active \(running\)/);
    assert.equal(await machine.ask('systemctl show -P KillMode veldd'), 'process');
    const pids = (await machine.ask('cat /sys/fs/cgroup/system.slice/veldd.service/cgroup.procs')).split('\n');
    assert.deepEqual(pids, [await machine.ask('systemctl show -P MainPID veldd')]);
    assert.match(await machine.ask(`cat ${GROUP}/monitors/cgroup.procs | xargs -n1 -I@ cat /proc/@/comm`), /conmon/);
  });

  test('VEs live in the group that systemd delegated, with its controllers down to the VE', async () => {
    assert.equal(await machine.ask('systemctl show -P Delegate veld-main-ves'), 'yes');
    const demo = await show('demo');
    const [pid = ''] = (await init(demo)).split(' ');
    assert.equal(await machine.ask(`cut -d/ -f1-5 /proc/${pid}/cgroup`), `0::${GROUP.slice('/sys/fs/cgroup'.length)}/${demo.number}`);
    for (const file of [`${GROUP}/cgroup.subtree_control`, `${GROUP}/${demo.number}/cgroup.controllers`]) {
      for (const controller of ['cpu', 'memory', 'pids', 'io', 'cpuset']) assert.match(await machine.ask(`cat ${file}`), new RegExp(`\\b${controller}\\b`), file);
    }
    // The VE's systemd sees them, and uses them for its own units.
    assert.match(await veld('exec demo -- cat /sys/fs/cgroup/cgroup.subtree_control'), /memory pids/);
    // It may make groups, and not touch its limits.
    assert.notEqual((await machine.run('veld exec demo -- sh -c "echo max >/sys/fs/cgroup/memory.max"', { allow: true })).code, 0);
  });

  test('limits set while it runs are written, seen inside, and bite', async () => {
    await veld('set demo memory.limit=160M memory.swap=0 pids.limit=80 cpu.limit=20% cpu.weight=50');
    const demo = await show('demo');
    assert.equal(await control(demo, 'memory.max'), String(160 * 2 ** 20));
    assert.equal(await control(demo, 'memory.swap.max'), '0');
    assert.equal(await control(demo, 'pids.max'), '80');
    assert.equal(await control(demo, 'cpu.max'), '20000 100000');
    assert.equal(await control(demo, 'cpu.weight'), '50');
    assert.match(await veld('exec demo -- cat /proc/meminfo'), new RegExp(`^MemTotal: +${160 * 1024} kB`, 'm'));

    // cpu: a loop of 4 s of clock gets a fifth of one CPU, and a little for what the period begins with.
    const used = async (): Promise<number> => Number(/usage_usec (\d+)/.exec(await control(demo, 'cpu.stat'))?.[1]);
    const before = await used();
    await veld('exec demo -- timeout 4 sh -c "while :; do :; done"', true);
    assert.ok((await used()) - before < 2_000_000, 'the loop took more CPU than the limit allows');
    assert.ok(Number(/nr_throttled (\d+)/.exec(await control(demo, 'cpu.stat'))?.[1]) > 10);
    await veld('set demo cpu.limit=unlimited');
    assert.equal(await control(demo, 'cpu.max'), 'max 100000');

    const eater = await machine.run(`veld exec demo -- perl -e '$x = "x" x (400 << 20)'`, { allow: true });
    assert.notEqual(eater.code, 0);
    assert.match(await control(demo, 'memory.events'), /oom_kill [1-9]/);

    const forks = await machine.run("veld exec demo -- sh -c 'for i in $(seq 100); do sleep 3 & done'", { allow: true });
    assert.match(forks.stderr, /fork/i);
    // Counted where the process was, or (since 6.11) where the limit is.
    assert.match(await machine.ask(`find ${GROUP}/${demo.number} -name pids.events | xargs cat`), /^max [1-9]/m);
    const checks = await doctor();
    assert.match(checks.find(({ id }) => id === 'lxcfs')?.message ?? '', /a VE sees its memory limit/);
    await sleep(3000);
    await veld('set demo memory.limit=unlimited memory.swap=unlimited pids.limit=unlimited cpu.weight=100');
    assert.equal(await control(demo, 'memory.max'), 'max');
    assert.equal(await veld('exec demo -- systemctl is-system-running'), 'running');
  });

  test('doctor says nothing false', async () => {
    const checks = await doctor();
    assert.deepEqual(checks.filter(({ status, id }) => status === 'fail' || (status === 'warn' && !TRUE_WARNINGS.has(id))), []);
    assert.match(checks.find(({ id }) => id.includes('cgroup'))?.message ?? '', /v2/);
    assert.match(checks.find(({ id }) => id === 'resources')?.message ?? '', /can be held/);
  });

  test('freeze and thaw', async () => {
    await veld('freeze demo');
    const demo = await show('demo');
    assert.equal(demo.status, 'frozen');
    assert.match(await control(demo, 'cgroup.events'), /^frozen 1$/m);
    await veld('thaw demo');
    assert.equal(await veld('exec demo -- echo on'), 'on');
  });

  test('IPv4 and IPv6 from the host to a VE, from VE to VE, and out', async () => {
    await veld(`create web -t ${template} --start`);
    await booted('web');
    const { addresses } = await show('web');
    assert.equal(addresses.length, 2);
    for (const address of addresses) {
      const greeting = `timeout 20 bash -c 'exec 3<>/dev/tcp/${address}/22; head -c 7 <&3'`;
      assert.equal(await machine.ask(greeting), 'SSH-2.0', `the host at ${address}`);
      assert.equal(await machine.ask(`veld exec demo -- ${greeting}`), 'SSH-2.0', `demo at ${address}`);
    }
    // Out: QEMU's user network leads 10.0.2.2 to this machine's loopback.
    const server = createServer((socket) => socket.end('outside')).listen(0, '127.0.0.1');
    try {
      await until('the server', () => server.listening);
      const { port } = server.address() as AddressInfo;
      assert.equal(await machine.ask(`veld exec demo -- timeout 20 bash -c 'cat </dev/tcp/10.0.2.2/${port}'`), 'outside');
    } finally {
      server.close();
    }
  });

  test('AppArmor stops nothing in a VE', async () => {
    assert.equal(await machine.ask(`journalctl -k -b --no-pager | grep -c 'apparmor="DENIED"'`, { allow: true }), '0');
  });

  test('reboot inside, with the daemon and without', async () => {
    const demo = await show('demo');
    for (const daemon of [true, false]) {
      const old = await init(demo);
      if (!daemon) await machine.run('systemctl stop veldd');
      const [pid = ''] = old.split(' ');
      await machine.run(daemon ? 'veld exec demo -- systemctl reboot' : `kill -39 ${pid}`, { allow: true }); // SIGRTMIN+5: reboot.target
      await until('a new init', async () => {
        const now = await machine.ask(`cat /run/veld/ves/${demo.number}/init`, { allow: true });
        return now !== '' && now !== old;
      }, 120_000, 500);
      if (!daemon) await machine.run('systemctl start veldd');
      await booted('demo');
    }
  });

  test('restart and kill -9 of the daemon leave VEs alone', async () => {
    const both = async (): Promise<string[]> => Promise.all(['demo', 'web'].map(async (ve) => init(await show(ve))));
    const inits = await both();
    await machine.run('systemctl restart veldd');
    assert.deepEqual(await both(), inits);
    const killed = await machine.ask('systemctl show -P MainPID veldd');
    await machine.run(`kill -9 ${killed}`);
    await until('systemd to start it again', async () => {
      const state = await machine.ask('systemctl show -P ActiveState -P MainPID veldd | tr "\\n" " "');
      return state.includes('active') && !state.includes('activating') && !state.includes(killed);
    }, 90_000, 500);
    assert.deepEqual(await both(), inits);
    assert.deepEqual((await json<VeView[]>('list')).map(({ status }) => status), ['running', 'running']);
    assert.equal(await veld('exec demo -- systemctl is-system-running'), 'running');
  });

  test('what systemd does to its units takes nothing from VEs', async () => {
    await veld('set demo memory.limit=300M pids.limit=300');
    const demo = await show('demo');
    const state = async (): Promise<string> => machine.ask(`cd ${GROUP}; cat cgroup.subtree_control ${demo.number}/memory.max ${demo.number}/pids.max /run/veld/ves/${demo.number}/init`);
    const as = await state();
    for (const command of ['daemon-reload', 'daemon-reexec', 'set-property --runtime veld-main-ves.service CPUWeight=90', `${subgroups ? 'restart' : 'try-restart'} veld-main-ves`, 'daemon-reload']) {
      // Before 254 the group's process cannot start again beside VEs; these go on all the same.
      await machine.run(`systemctl ${command}`, { allow: command.includes('restart') && !subgroups });
      assert.equal(await state(), as, command);
    }
    if (subgroups) assert.equal(await machine.ask('systemctl is-active veld-main-ves'), 'active');
    await machine.run('systemctl restart veldd');
    assert.equal(await state(), as, 'after a restart of the daemon');
    await veld('set demo memory.limit=unlimited pids.limit=unlimited');
  });

  test('stop and destroy leave nothing', async () => {
    const web = await show('web');
    await veld('stop web');
    assert.equal((await show('web')).status, 'stopped');
    await veld('destroy web --yes');
    assert.equal(await machine.ask(`find ${GROUP} /run/veld /var/lib/veld/ves -name '${web.number}' -o -name '${web.uuid}*' | head; ip -o link | grep -- '-${web.number}@'`, { allow: true }), '');
    assert.match(await machine.ask('veld show web', { allow: true }), /^$/);
  });

  test('the host boots again: VEs are shut down in order, and boot.start brings back its own', async () => {
    await veld(`create other -t ${template} --start`);
    await booted('other');
    await veld('set demo boot.start=on');
    await veld(`exec demo -- systemd-run --quiet --unit=witness -p 'ExecStop=/bin/sh -c "echo in order >/root/stopped"' sleep infinity`);
    const since = Date.now();
    await machine.shutDown();
    assert.ok(Date.now() - since < 80_000, 'the host waited for processes of VEs');
    await machine.start();
    await until('demo to come back', async () => (await show('demo')).status === 'running', 120_000, 1000);
    await booted('demo');
    assert.equal(await veld('exec demo -- cat /root/stopped'), 'in order');
    const other = await show('other');
    assert.equal(other.status, 'stopped');
    await veld('destroy other --yes');
  });

  test('power cuts in the middle of creates: each VE is wholly there or gone', async () => {
    for (const [round, delay] of [4000, 9000].entries()) {
      await machine.run(`for i in 1 2 3 4 5 6; do setsid -f veld create cut${round}$i -t ${template} --start >/dev/null 2>&1 </dev/null; done`);
      await sleep(delay);
      await machine.powerCut();
      await machine.start();
      await until('the daemon', async () => (await machine.run('veld list', { allow: true })).code === 0, 120_000, 1000);
      const ves = await json<VeView[]>('list');
      const folders = (await machine.ask('ls /var/lib/veld/ves')).split('\n').filter(Boolean).sort();
      assert.deepEqual(folders, (await Promise.all(ves.map(async ({ name }) => (await show(name)).uuid))).sort());
      await until('demo to come back', async () => (await show('demo')).status === 'running', 120_000, 1000);
      await booted('demo');
      const [left] = ves.filter(({ name }) => name.startsWith('cut'));
      if (left) {
        await veld(`start ${left.name}`);
        await booted(left.name);
      }
      for (const { name } of ves) if (name.startsWith('cut')) await veld(`destroy ${name} --yes --force`);
      assert.equal(await machine.ask(`ls -d ${GROUP}/[0-9]* /run/veld/ves/* | wc -l`), '2');
    }
  });

  test('quickstart --remove leaves VEs for later and nothing else', async () => {
    const uuid = (await show('demo')).uuid;
    await machine.run(`cd ${PROGRAM} && ./quickstart --remove --yes`, { timeout: 300_000 });
    // (veld.slice itself is systemd's own, above those of all installations.)
    assert.equal(await machine.ask('find /sys/fs/cgroup/veld* -mindepth 1 -type d; ls -d /run/veld /etc/systemd/system/veld* 2>/dev/null; find /usr/local -name "*veld*"; nft list tables | grep veld; ip -o link | grep vmain; ip route | grep "proto 118"; grep veld /proc/mounts | grep -v /opt/veld; '
      + 'pgrep -fa "veldd|lxcfs|conmon"', { allow: true }), '');
    assert.equal(await machine.ask(`ls /var/lib/veld/ves`), uuid);
    assert.equal(await machine.ask('systemctl is-system-running'), 'running');
  });

  async function doctor(): Promise<DoctorCheck[]> {
    return (await json<{ checks: DoctorCheck[] }>('doctor')).checks;
  }
}
