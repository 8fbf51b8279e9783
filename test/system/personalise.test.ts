/** What is laid into a new VE for its users: accounts, keys, passwords, language, time zone, data for cloud-init; whichever way the VE comes to run. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestName, guestTemplate } from '../lib/cache.ts';
import { fileInstance, startInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';
import type { TemplateView, VeDetail } from '../../src/ve/types.ts';

const bare = (): ReturnType<typeof startInstance> => startInstance({ noTemplate: true });
/** cloud-init takes a template of its own, and boots that wait for it. */
const FULL = process.env.VELD_TEST_FULL !== undefined;
const inFull = { skip: FULL ? false : 'only in ./check full' };
const CLOUD = { suite: 'debian-12', include: ['cloud-init', 'sudo'] };
const templates = [await guestTemplate({ suite: 'debian-12', init: 'busybox' }, bare), await guestTemplate({ suite: 'debian-12', init: 'sysvinit' }, bare), ...FULL ? [await guestTemplate(CLOUD, bare)] : []];
const veld = await fileInstance({ templates, settings: (settings) => { settings.deploy = { warm: true, spares: 1 }; } });
const { ok, refused } = wordsWith(veld);
const cloud = guestName(CLOUD);

const key = join(veld.dir, 'key');
assert.equal(spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'alice@test', '-f', key]).status, 0, 'there is no ssh on this machine');
const PASSWORD = 'correct horse 7';
writeFileSync(join(veld.dir, 'password'), `${PASSWORD}\nnot this\n`, { mode: 0o600 });

const said = async (ve: string, ...command: string[]): Promise<string> => {
  const { stdout, stderr, exitCode } = await veld.exec(ve, ...command);
  assert.equal(exitCode, 0, `${command.join(' ')}: ${stdout}${stderr}`);
  return stdout.trim();
};
const sh = (ve: string, script: string): Promise<string> => said(ve, 'sh', '-c', script);

/** A login over the network, by the key and nothing else. */
async function login(ve: string, user: string, command: string): Promise<string> {
  const address = (await veld.show(ve)).addresses.find((one) => !one.includes(':'))!;
  const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'BatchMode=yes', 'IdentitiesOnly=yes', 'ConnectTimeout=5'].flatMap((option) => ['-o', option]);
  return until(`${user} to log in to ${ve}`, () => {
    const { status, stdout } = spawnSync('ssh', ['-F', 'none', '-i', key, ...options, `${user}@${address}`, command], { encoding: 'utf8', timeout: 20_000 });
    return status === 0 ? stdout.trim() : undefined;
  }, 30_000, 300);
}

/** crypt(3) of the VE's own libc, by its own su. Root is never asked for a password: a user is. */
async function passwordWorks(ve: string, user: string): Promise<void> {
  const field = await sh(ve, `grep ^${user}: /etc/shadow | cut -d: -f2`);
  const [, id, salt] = field.split('$');
  assert.equal(id, '6');
  const { stdout } = spawnSync('openssl', ['passwd', '-6', '-salt', salt!, '-stdin'], { input: `${PASSWORD}\n`, encoding: 'utf8' });
  assert.equal(stdout.trim(), field);
}

/** All about the account alice. */
async function checkAlice(ve: string): Promise<void> {
  assert.match(await said(ve, 'id', 'alice'), /^uid=1000\(alice\) gid=1000\(alice\) groups=1000\(alice\),.*27\(sudo\)/);
  assert.equal(await sh(ve, 'stat -c "%a %U:%G" /etc/passwd /etc/shadow /home/alice /home/alice/.ssh /home/alice/.ssh/authorized_keys /home/alice/.profile /root /etc'),
    '644 root:root\n640 root:shadow\n700 alice:alice\n700 alice:alice\n600 alice:alice\n644 alice:alice\n700 root:root\n755 root:root');
  await passwordWorks(ve, 'alice');
  assert.equal(await sh(ve, 'pwck -r -q && grpck -r && echo fine'), 'fine');
  assert.equal(await login(ve, 'alice', 'whoami; pwd'), 'alice\n/home/alice');
}

const alice = ['--user', 'alice', '--ssh-key', `${key}.pub`, '--password-file', join(veld.dir, 'password'), '--sudo'];
const template = () => veld.api.call<TemplateView>('GET', '/v1/templates/test');
const spareThere = () => until('a spare', async () => (await template()).spares === 1, 120_000);
const names = async () => (await veld.list()).map(({ name }) => name);

test('made without being started, it is all there at the first start', async () => {
  await ok('create', 'still', '-t', 'test', ...alice, '--locale', 'C.UTF-8', '--timezone', 'Europe/Berlin');
  assert.equal((await veld.show('still')).status, 'stopped');
  await ok('start', 'still');
  await veld.booted('still');
  await checkAlice('still');
  assert.match(await said('still', 'date', '-d', '2026-07-01 12:00 UTC', '+%H %Z'), /^14 CEST$/);
  assert.equal(await login('still', 'alice', 'date -d "2026-01-01 12:00 UTC" "+%H %Z"; echo $LANG'), '13 CET\nC.UTF-8');
  assert.equal(await sh('still', 'systemctl show-environment | grep ^LANG='), 'LANG=C.UTF-8');
  await ok('destroy', '--force', 'still');
});

test('a boot: language and time zone are those of all programs', async () => {
  await ok('create', 'cold', '-t', 'test', '--start', ...alice, '--locale', 'C.UTF-8', '--timezone', 'America/New_York');
  assert.equal((await veld.show('cold')).deployed, 'cold');
  await veld.booted('cold');
  await checkAlice('cold');
  assert.equal(await said('cold', 'date', '-d', '2026-07-01 12:00 UTC', '+%H %Z'), '08 EDT');
  assert.equal(await login('cold', 'alice', 'locale | head -n 1'), 'LANG=C.UTF-8');
  assert.doesNotMatch(JSON.stringify(await veld.json('show', 'cold')), /ssh-ed25519|alice|\$6\$/, 'nothing of it is kept');
});

test('a spare: accounts are there before its address, as fast as ever', async () => {
  await spareThere();
  await ok('create', 'quick', '-t', 'test', '--start', ...alice);
  assert.equal((await veld.show('quick')).deployed, 'warm');
  await checkAlice('quick');
  assert.equal(await login('quick', 'alice', 'hostname'), 'quick');
  await veld.exec('quick', 'systemctl', 'reboot');
  await until('it to come back', async () => (await veld.exec('quick', 'systemctl', 'is-system-running')).stdout.trim() === 'running', 60_000, 300);
  await checkAlice('quick');
});

test('a warm image: where the spare fails, the next way has it all, too', async () => {
  await spareThere();
  await veld.restart({ VELD_FAULT: 'fail:deploy.personal' });
  await spareThere();
  await ok('create', 'warm', '-t', 'test', '--start', ...alice);
  assert.match(veld.daemonLog(), /a spare VE could not be used/);
  await veld.restart();
  assert.equal((await veld.show('warm')).deployed, 'warm');
  await checkAlice('warm');
  await ok('create', 'own', '-t', 'test', '--start', '--ssh-key', readFileSync(`${key}.pub`, 'utf8').trim());
  assert.equal(await login('own', 'root', 'whoami; stat -c %a /root /root/.ssh'), 'root\n700\n700');
  await ok('destroy', '--force', 'own');
});

test('what is wrong is refused in words, and nothing is made', async () => {
  const before = [await names(), veld.outline().length];
  const create = (...words: string[]) => ['create', 'bad', '-t', 'test', '--start', ...words];
  writeFileSync(join(veld.dir, 'big'), `#cloud-config\n${'#'.repeat(70_000)}`);
  writeFileSync(join(veld.dir, 'first.yaml'), '#cloud-config\n{}\n');
  await refused(81, /Key 1 of alice is damaged/, ...create('--user', 'alice', '--ssh-key', 'ssh-ed25519 AAAAC3Nza alice'));
  await refused(2, /private key/, ...create('--ssh-key', key));
  await refused(81, /a user www-data already/, ...create('--user', 'www-data'));
  await refused(81, /a group sudo already/, ...create('--user', 'sudo'));
  await refused(81, /cannot be the name/, ...create('--user', 'a:b'));
  await refused(81, /no time zone Mars\/Base/, ...create('--timezone', 'Mars/Base'));
  await refused(81, /not the name of a time zone/, ...create('--timezone', '../../etc/shadow'));
  await refused(81, /no locale xx_XX/, ...create('--locale', 'xx_XX.UTF-8'));
  await refused(2, /larger than 64 KiB/, ...create('--user-data', join(veld.dir, 'big')));
  await refused(82, /no cloud-init/, ...create('--user-data', join(veld.dir, 'first.yaml')));
  await refused(2, /goes with --user/, ...create('--sudo'));
  await refused(2, /nobody logs in/, ...create('--timezone', 'UTC', '--', 'true'));
  const body = { name: 'bad', template: 'test', personal: { users: [{ name: 'alice', passwordHash: 'secret' }] } };
  assert.equal((await veld.api.raw('POST', '/v1/ves', body)).status, 400);
  const long = { name: 'bad', template: 'test', personal: { cloudInit: { userData: `#cloud-config\n${'#'.repeat(70_000)}` } } };
  assert.match(JSON.stringify((await veld.api.raw('POST', '/v1/ves', long)).body), /larger than 65536 bytes/);
  await spareThere();
  assert.deepEqual((await names()), before[0]);
});

test('no key, hash or password is in a log, in the store, or in what was audited', async () => {
  const secrets = [PASSWORD, readFileSync(`${key}.pub`, 'utf8').split(' ')[1]!, (await sh('warm', 'grep ^alice: /etc/shadow')).split(':')[1]!];
  await veld.stop();
  const store = readdirSync(veld.settings.stateDir).filter((name) => name.startsWith('veld.db')).map((name) => readFileSync(join(veld.settings.stateDir, name), 'latin1'));
  assert.ok(store.length > 0);
  for (const secret of secrets) for (const text of [veld.daemonLog(), ...store]) assert.ok(!text.includes(secret), secret.slice(0, 8));
  assert.match(veld.daemonLog(), /"personal":\{"users":\[\{"name":"alice","keys":1,"hash":true,"sudo":true/);
  await veld.start();
});

test('a system of busybox, and one of sysvinit', async () => {
  await ok('create', 'box', '-t', 'debian-12-busybox', '--start', '--user', 'alice', '--ssh-key', `${key}.pub`, '--password-file', join(veld.dir, 'password'), '--timezone', 'Europe/Berlin');
  assert.match(await said('box', 'id', 'alice'), /^uid=1000\(alice\) gid=1000\(alice\)/);
  assert.equal(await sh('box', 'su alice -c "id -un; cd; pwd"; date -d @1782907200 "+%H %Z"'), 'alice\n/home/alice\n14 CEST');
  await passwordWorks('box', 'alice');
  await ok('create', 'old', '-t', 'debian-12-sysvinit', '--start', ...alice, '--timezone', 'Asia/Tokyo', '--locale', 'C.UTF-8');
  await checkAlice('old');
  assert.equal(await login('old', 'alice', 'date -d "2026-07-01 12:00 UTC" "+%H %Z"; echo $LANG'), '21 JST\nC.UTF-8');
  for (const ve of ['box', 'old']) await ok('destroy', '--force', ve);
});

test('a clone has what its model has', async () => {
  await veld.api.operate('POST', '/v1/ves/warm/clone', { name: 'twin', live: true });
  assert.equal(await login('twin', 'alice', 'hostname'), 'twin');
  await ok('destroy', '--force', 'twin');
});

const ran = (ve: string): Promise<string> => sh(ve, 'cat /root/ran');

test('cloud-init does what it is told, once, and leaves name, keys and network as they are', inFull, async () => {
  writeFileSync(join(veld.dir, 'user.yaml'), ['#cloud-config', 'write_files:', '  - {path: /root/written, content: "by cloud-init\\n"}', 'runcmd:', '  - [sh, -c, "echo once >>/root/ran"]', ''].join('\n'));
  await ok('create', 'sky', '-t', cloud, '--start', ...alice, '--user-data', join(veld.dir, 'user.yaml'));
  const made = await veld.json<VeDetail>('show', 'sky');
  assert.equal(made.deployed, 'cold');
  const keys = await sh('sky', 'cat /etc/ssh/ssh_host_*.pub');
  assert.match(await sh('sky', 'cloud-init status --wait --long || true; cat /run/cloud-init/result.json'), /"errors": \[\]/);
  assert.equal(await sh('sky', 'cat /root/written'), 'by cloud-init');
  assert.equal(await ran('sky'), 'once');
  assert.match(await sh('sky', 'cat /run/cloud-init/result.json; cat /var/lib/cloud/data/instance-id'), new RegExp(`NoCloud[^]*${made.uuid}`));
  assert.equal(await sh('sky', 'hostname; cat /etc/hostname'), 'sky\nsky');
  assert.ok((await sh('sky', 'cat /etc/ssh/ssh_host_*.pub')).includes(keys.split('\n')[0]!));
  assert.doesNotMatch(await sh('sky', 'cat /etc/network/interfaces /etc/netplan/* /etc/systemd/network/* 2>/dev/null || true'), /cloud-init/);
  assert.equal(await sh('sky', 'stat -c %a /var/lib/cloud/seed/nocloud/user-data'), '600');
  assert.match(await said('sky', 'id', 'alice'), /27\(sudo\)/);
  assert.equal(await veld.booted('sky'), 'running');
  await ok('restart', 'sky');
  await veld.booted('sky');
  await sh('sky', 'cloud-init status --wait || true');
  assert.equal(await ran('sky'), 'once');
});

test('a cloud image without data boots without waiting, comes out of warm images, and may do without a password what it may', inFull, async () => {
  await ok('create', 'plain', '-t', cloud, '--start', '--user', 'bob', '--ssh-key', `${key}.pub`, '--sudo');
  assert.equal(await veld.booted('plain'), 'running');
  assert.match(await sh('plain', 'cloud-init status --wait >/dev/null || true; cat /run/cloud-init/result.json'), /"errors": \[\][^]*|NoCloud/);
  assert.match(await sh('plain', 'cat /run/cloud-init/result.json'), /NoCloud/);
  assert.equal(await login('plain', 'bob', 'sudo -n whoami'), 'root');
  await until('a spare', async () => (await veld.api.call<TemplateView>('GET', `/v1/templates/${cloud}`)).spares === 1, 120_000);
  await ok('create', 'plain2', '-t', cloud, '--start', '--user', 'bob', '--ssh-key', `${key}.pub`, '--sudo');
  assert.equal((await veld.show('plain2')).deployed, 'warm');
  const keys = await sh('plain2', 'cat /etc/ssh/ssh_host_ed25519_key.pub');
  assert.equal(await login('plain2', 'bob', 'sudo -n whoami; hostname'), 'root\nplain2');
  await ok('restart', 'plain2');
  await veld.booted('plain2');
  await sh('plain2', 'cloud-init status --wait || true');
  assert.equal(await sh('plain2', 'cat /etc/ssh/ssh_host_ed25519_key.pub; hostname'), `${keys}\nplain2`);
  assert.equal(await login('plain2', 'bob', 'whoami'), 'bob');
});
