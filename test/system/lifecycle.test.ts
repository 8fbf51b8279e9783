/** The life of a VE through both doors: every verb, on a real VE of a real distribution. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { listen } from '../lib/events.ts';
import { fileInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { ask, askFrom, askUntil, serveGreeting } from '../lib/tcp.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { until } from '../lib/wait.ts';
import type { OperationRecord } from '../../src/store/types.ts';
import type { VeDetail, VeView } from '../../src/ve/types.ts';

const veld = await fileInstance();

const ok = async (...args: string[]): Promise<string> => {
  const result = await veld.cli(...args);
  assert.equal(result.code, 0, `veld ${args.join(' ')}: ${result.stderr}`);
  return result.stdout;
};

describe('one VE, from create to destroy, by the command line', () => {
  let empty: string[];

  test('create makes a stopped VE with an address of each pool, and nothing of it is on the host yet', async () => {
    empty = veld.traces();
    const ve = await veld.json<VeDetail>('create', 'web', '--template', TEMPLATE, '--set', 'memory.limit=512M', '--set', 'description=a web server');
    assert.equal(ve.name, 'web');
    assert.equal(ve.status, 'stopped');
    assert.equal(ve.number, 101);
    assert.equal(ve.addresses.length, 2);
    for (const pool of veld.settings.network.pools) {
      const prefix = pool.replace(/(0|:)\/\d+$/, '');
      assert.ok(ve.addresses.some((address) => address.startsWith(prefix)), `${ve.addresses.join()} in ${pool}`);
    }
    assertSame(veld.traces(), empty, 'traces on the host');
    assert.match(await ok('list'), /^web +101 +stopped/m);
    assert.match(await ok('show', 'web'), /a web server/);
    assert.equal((await veld.show('101')).uuid, ve.uuid);
    assert.equal((await veld.show(ve.uuid)).properties['memory.limit'], 512 << 20);
  });

  test('creating copies nothing of the template', async () => {
    const { uuid } = await veld.show('web');
    assert.ok(upperFiles(uuid) < 25, 'files in the fresh upper');
  });

  test('a new VE has its identity before it boots first', async () => {
    const { uuid, uidBase } = await veld.show('web');
    const file = join(veld.settings.stateDir, 'ves', uuid, 'upper/etc/machine-id');
    assert.equal(readFileSync(file, 'utf8'), `${uuid.replaceAll('-', '')}\n`);
    assert.equal(statSync(file).uid, uidBase);
  });

  test('start boots systemd to running, with no failed unit', async () => {
    await ok('start', 'web');
    assert.equal((await veld.show('web')).status, 'running');
    assert.equal(await veld.booted('web'), 'running');
    const result = await veld.cli('exec', 'web', '--', 'systemctl', 'is-system-running');
    assert.deepEqual([result.code, result.stdout], [0, 'running\n']);
    const failed = await veld.exec('web', 'systemctl', '--failed', '--no-legend', '--plain');
    assert.equal(failed.stdout, '');
  });

  test('its processes are mapped into its own range of uids', async () => {
    const ve = await veld.show('web');
    assert.equal(/^Uid:\s+(\d+)/m.exec(readFileSync(`/proc/${ve.pid}/status`, 'utf8'))?.[1], String(ve.uidBase));
    assert.ok(ve.uidBase >= 65_536);
  });

  test('stop asks the system to shut down, and it does', async () => {
    await veld.exec('web', 'sh', '-c', 'printf "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStop=/usr/bin/touch /root/stopped-in-order\\n" > /etc/systemd/system/witness.service && systemctl start witness');
    await ok('stop', 'web');
    const ve = await veld.show('web');
    assert.equal(ve.status, 'stopped');
    assert.equal(ve.pid, null);
    assert.equal(ve.lastExit?.code, 130);
    assertSame(veld.traces(), empty, 'a stopped VE leaves nothing on the host');
    await ok('start', 'web');
    assert.equal((await veld.exec('web', 'cat', '/root/stopped-in-order')).exitCode, 0, 'units were stopped in order, and files stay');
  });

  test('restart gives another init', async () => {
    const { pid } = await veld.show('web');
    await ok('restart', 'web');
    const after = await veld.show('web');
    assert.equal(after.status, 'running');
    assert.notEqual(after.pid, pid);
  });

  test('stop --force ends it at once', async () => {
    const since = Date.now();
    await ok('stop', '--force', 'web');
    assert.ok(Date.now() - since < 5000);
    assert.equal((await veld.show('web')).status, 'stopped');
    assert.equal((await veld.show('web')).lastExit?.code, 137);
  });

  test('destroy leaves nothing', async () => {
    const { uuid } = await veld.show('web');
    await ok('destroy', '--yes', 'web');
    assert.deepEqual(await veld.list(), []);
    assertSame(veld.traces(), empty, 'traces on the host');
    assert.deepEqual(filesNamed(veld.settings.stateDir, uuid), []);
    assert.deepEqual(['ves', 'exits', 'events', 'crun'].flatMap((folder) => filesNamed(join(veld.settings.runDir, folder), '101')), []);
  });
});

describe('a running VE', () => {
  let ve: VeDetail;
  before(async () => {
    ve = await veld.createRunning('app');
    assert.equal(await veld.booted('app'), 'running');
  });

  test('freeze holds every process, thaw lets them go on', async () => {
    await veld.exec('app', 'systemd-run', '--quiet', '--unit=ticker', 'sh', '-c', 'while :; do :; done');
    const used = async (): Promise<number> => (await veld.show('app')).usage?.cpuSeconds ?? NaN;
    const before = await used();
    await until('it to use the CPU', async () => await used() > before + 0.05);
    await ok('freeze', 'app');
    assert.equal((await veld.show('app')).status, 'frozen');
    const frozen = await used();
    await new Promise((resolve) => { setTimeout(resolve, 300); });
    assert.equal(await used(), frozen);
    assert.equal((await veld.cli('exec', 'app', 'true')).code, 9);
    assert.equal((await veld.cli('stop', 'app')).code, 9);
    await ok('thaw', 'app');
    await until('it to go on', async () => await used() > frozen + 0.05);
    assert.equal((await veld.show('app')).status, 'running');
    await veld.exec('app', 'systemctl', 'stop', 'ticker');
  });

  test('a live property holds at once', async () => {
    await ok('set', 'app', 'memory.limit=300M', 'pids.limit=777');
    const detail = await veld.show('app');
    assert.equal(detail.properties['memory.limit'], 300 << 20);
    assert.equal(controlOf(ve.pid, 'memory', ['memory.limit_in_bytes', 'memory.max']), String(300 << 20));
    assert.equal(controlOf(ve.pid, 'pids', ['pids.max']), '777');
    await ok('set', 'app', '--unset', 'memory.limit');
    assert.equal((await veld.show('app')).properties['memory.limit'], null);
    assert.notEqual(controlOf(ve.pid, 'memory', ['memory.limit_in_bytes', 'memory.max']), String(300 << 20));
  });

  test('a memory limit is seen in /proc/meminfo', async (t) => {
    const doctor = await veld.api.call<{ checks: { id: string; status: string; message: string }[] }>('GET', '/v1/doctor');
    const lxcfs = doctor.checks.find((check) => check.id.includes('lxcfs'));
    if (lxcfs?.status !== 'ok') {
      t.skip(`doctor: ${lxcfs?.message}`);
      return;
    }
    await ok('set', 'app', 'memory.limit=256M');
    assert.match((await veld.exec('app', 'cat', '/proc/meminfo')).stdout, /^MemTotal: +262144 kB/m);
    await ok('set', 'app', '--unset', 'memory.limit');
  });

  test('a property that needs a restart is refused live, waits with --next-start, and holds after a restart', async () => {
    const refused = await veld.cli('--json', 'set', 'app', 'hostname=harbour');
    assert.equal(refused.code, 13);
    assert.equal((JSON.parse(refused.stderr) as { code: string }).code, 'property.not_live');
    assert.equal((await veld.show('app')).properties.hostname, null);
    await ok('set', '--next-start', 'app', 'hostname=harbour');
    assert.deepEqual((await veld.show('app')).pending, ['hostname']);
    assert.equal((await veld.exec('app', 'uname', '-n')).stdout, 'app\n');
    await ok('restart', 'app');
    assert.deepEqual((await veld.show('app')).pending, []);
    assert.equal((await veld.exec('app', 'uname', '-n')).stdout, 'harbour\n');
    await ok('set', '--next-start', 'app', '--unset', 'hostname');
  });

  test('rename: the number and the VE stay, the host name follows at the next start', async () => {
    const { pid } = await veld.show('app');
    await ok('rename', 'app', 'shop');
    const renamed = await veld.show('shop');
    assert.deepEqual([renamed.uuid, renamed.number, renamed.pid], [ve.uuid, ve.number, pid]);
    assert.equal((await veld.cli('show', 'app')).code, 4);
    await ok('restart', 'shop');
    assert.equal(await veld.booted('shop'), 'running');
    assert.equal((await veld.exec('shop', 'uname', '-n')).stdout, 'shop\n');
    assert.match((await veld.exec('shop', 'cat', '/etc/hosts')).stdout, /\bshop\b/);
    await ok('rename', 'shop', 'app');
  });

  test('logs hold the console of its boots', async () => {
    const text = await ok('logs', 'app');
    assert.match(text, /Welcome to|Reached target|Started/);
    assert.equal((await ok('logs', '--tail', '2', 'app')).trimEnd().split('\n').length, 2);
  });

  test('reboot inside boots it again; poweroff inside ends it, and says so', async () => {
    const listener = await listen(veld.api);
    const { pid } = await veld.show('app');
    await veld.exec('app', 'systemctl', 'reboot');
    await listener.next('ve.rebooted');
    const again = await until('another init', async () => {
      const now = await veld.show('app');
      return now.pid !== null && now.pid !== pid ? now : undefined;
    });
    assert.equal(again.status, 'running');
    assert.equal(await veld.booted('app'), 'running');
    await veld.exec('app', 'systemctl', 'poweroff');
    await listener.next('ve.stopped');
    const ended = await until('stopped', async () => {
      const now = await veld.show('app');
      return now.status === 'stopped' ? now : undefined;
    });
    assert.equal(ended.lastExit?.code, 130);
    listener.close();
    await ok('start', 'app');
  });

  test('events tell of every change, in order', async () => {
    const listener = await listen(veld.api);
    await veld.createRunning('brief');
    await veld.api.operate('POST', '/v1/ves/brief/stop', { force: true });
    await veld.api.operate('DELETE', '/v1/ves/brief');
    await listener.next('ve.destroyed');
    const types = listener.events.map((event) => event.type).filter((type) => type.startsWith('ve.'));
    for (const type of ['ve.created', 've.started', 've.stopped', 've.destroyed']) assert.ok(types.includes(type), `${type} in ${types.join()}`);
    assert.ok(types.indexOf('ve.started') < types.indexOf('ve.stopped') && types.indexOf('ve.stopped') < types.indexOf('ve.destroyed'));
    const sequence = listener.events.map((event) => event.seq);
    assert.deepEqual(sequence, sequence.toSorted((a, b) => a - b));
    listener.close();
  });

  test('doctor finds no failure', async () => {
    const result = await veld.cli('--json', 'doctor');
    const failed = (JSON.parse(result.stdout) as { checks: { status: string }[] }).checks.filter((check) => check.status === 'fail');
    assert.deepEqual(failed, []);
    assert.equal(result.code, 0);
  });
});

describe('the network of VEs', () => {
  let one: VeDetail;
  before(async () => {
    [one] = await Promise.all([veld.createRunning('net1'), veld.createRunning('net2')]);
    await Promise.all([veld.booted('net1'), veld.booted('net2')]);
    await serveGreeting(veld, 'net1', 4000);
  });
  const addresses = (): { v4: string; v6: string } => ({
    v4: one.addresses.find((a) => !a.includes(':'))!, v6: one.addresses.find((a) => a.includes(':'))!,
  });

  test('the host reaches a server in the VE over IPv4 and IPv6', async () => {
    assert.equal(await askUntil(addresses().v4, 4000), 'greetings from net1\n');
    assert.equal(await askUntil(addresses().v6, 4000), 'greetings from net1\n');
  });

  test('a second VE reaches it over IPv4 and IPv6', async () => {
    assert.equal(await askFrom(veld, 'net2', addresses().v4, 4000), 'greetings from net1\n');
    assert.equal(await askFrom(veld, 'net2', addresses().v6, 4000), 'greetings from net1\n');
  });

  test('an address moves live', async () => {
    const moved = addresses().v4.replace(/\d+$/, '77');
    await veld.api.operate('PATCH', '/v1/ves/net1/properties', { changes: { 'network.addresses': [moved, addresses().v6] } });
    assert.equal(await askUntil(moved, 4000), 'greetings from net1\n');
    assert.equal(await askUntil(addresses().v6, 4000), 'greetings from net1\n');
    await assert.rejects(ask(addresses().v4, 4000, 500));
    assert.equal(await askFrom(veld, 'net2', moved, 4000), 'greetings from net1\n');
  });

  test('traffic is counted', async () => {
    const { traffic } = await veld.show('net1');
    assert.ok(traffic && traffic.rxPackets > 0 && traffic.txBytes > 0, JSON.stringify(traffic));
  });
});

describe('the API as a machine sees it', () => {
  test('version, properties, OpenAPI, metrics', async () => {
    const version = await veld.api.call<{ name: string; instance: string }>('GET', '/v1');
    assert.deepEqual([version.name, version.instance], ['veld', veld.name]);
    const document = await veld.api.call<{ paths: Record<string, unknown> }>('GET', '/v1/openapi.json');
    assert.ok('/v1/ves/{ve}/start' in document.paths);
    assert.ok(Array.isArray(await veld.api.call('GET', '/v1/properties')));
    assert.match(String((await veld.api.raw('GET', '/metrics')).body), /^# (HELP|TYPE) veld_/m);
  });

  test('a request that starts an operation answers 202 with its record, which can be followed', async () => {
    const answer = await veld.api.raw('POST', '/v1/ves', { name: 'later', template: TEMPLATE });
    assert.equal(answer.status, 202);
    const record = answer.body as OperationRecord;
    const ended = await until('its end', async () => {
      const now = await veld.api.call<OperationRecord>('GET', `/v1/operations/${record.id}`);
      return now.state === 'running' ? undefined : now;
    });
    assert.equal(ended.state, 'succeeded');
    assert.equal((ended.result as VeView).name, 'later');
    assert.equal((await veld.api.operate('DELETE', '/v1/ves/later')).state, 'succeeded');
  });
});

/** Paths below a folder whose last part has this in it. By find(1): it follows no link, and templates are full of links to /run. */
function filesNamed(folder: string, name: string): string[] {
  return spawnSync('find', [folder, '-name', `*${name}*`], { encoding: 'utf8' }).stdout.split('\n').filter((path) => path !== '');
}

function upperFiles(uuid: string): number {
  const folders = filesNamed(veld.settings.stateDir, uuid);
  assert.ok(folders.length > 0, 'the volume is somewhere below the state folder');
  return spawnSync('find', folders, { encoding: 'utf8' }).stdout.split('\n').length;
}

/** Value of a control file of the group that holds the VE: two levels above init's own (init.scope in it). */
function controlOf(pid: number | null, controller: string, names: readonly string[]): string | undefined {
  const groups = readFileSync(`/proc/${pid}/cgroup`, 'utf8').trim().split('\n').map((line) => line.split(':'));
  const v1 = groups.find((group) => group[1]?.split(',').includes(controller));
  const path = v1?.[2] ?? groups.find((group) => group[0] === '0')?.[2]?.replace(/\/init\.scope$/, '') ?? '';
  for (const root of v1 ? [`/sys/fs/cgroup/${controller}`] : ['/sys/fs/cgroup']) {
    for (const name of names) if (existsSync(join(root, path, name))) return readFileSync(join(root, path, name), 'utf8').trim();
  }
  return undefined;
}
