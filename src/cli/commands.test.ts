/** Every command as its user meets it: the real program in a process of its own, against a server that answers in the API's shapes. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ERRORS, VeldError } from '../lib/errors.ts';
import { COMMANDS, loadAllCommands } from './table.ts';
import { operation, operationRecord, runVeld, startTestDaemon, ve } from './test-daemon.ts';

const web = ve();

test('list shows a table without colours when standard output is no terminal', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves': () => [web, ve({ name: 'db', number: 7, status: 'stopped', startedAt: null, addresses: [] })] });
  const { status, stdout, stderr } = await daemon.veld(['list']);
  assert.equal(stderr, '');
  assert.equal(status, 0);
  assert.match(stdout, /^NAME {2}NUMBER {2}STATUS +UP {2}ADDRESSES {20}TEMPLATE\nweb {6}101 {2}running {2}1 min \d+ s {2}10\.187\.0\.2 fd5e:1d00:187::2 {2}debian-12\ndb {9}7 {2}stopped/);
  assert.equal((await daemon.veld(['list', '-q'])).stdout, 'web\ndb\n');
  assert.deepEqual(JSON.parse((await daemon.veld(['list', '--json', '--quiet'])).stdout), ['web', 'db']);
  assert.deepEqual((JSON.parse((await daemon.veld(['--json', 'list'])).stdout) as { name: string }[]).map((each) => each.name), ['web', 'db']);
});

test('show tells facts, all properties with -p, and escapes the name in the path', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves/web': () => web });
  const { stdout, status } = await daemon.veld(['show', 'web']);
  assert.equal(status, 0);
  assert.match(stdout, /^Status: +running$/m);
  assert.match(stdout, /^Memory: +50 MiB of 1G/m);
  assert.match(stdout, /^memory\.limit {2}1G/m);
  assert.match((await daemon.veld(['show', '-p', 'web'])).stdout, /^cpu\.weight=100$/m);
  assert.equal((await daemon.veld(['show', '../ves'])).status, 2); // the test's server knows no such route
  assert.equal(daemon.asked.at(-1)?.url, '/v1/ves/..%2Fves');
});

test('create sends what the options say, waits, and tells number and addresses', async (t) => {
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves': operation([{ state: 'running', percent: 10, endedAt: null }, { kind: 'create' }]), 'GET /v1/ves/web': () => web,
  });
  const words = ['create', 'web', '--template', 'debian-12', '--start', '--set', 'memory.limit=1G', '--set', 'description=a=b', '-a', '10.187.0.9', '--address', 'fd00::1', '--hostname', 'w'];
  const { stdout, stderr, status } = await daemon.veld(words);
  assert.deepEqual([stderr, status], ['', 0]);
  assert.equal(stdout, 'web created and started: number 101, 10.187.0.2, fd5e:1d00:187::2\n');
  assert.match(daemon.asked[0]!.url, /wait=/);
  assert.deepEqual(daemon.asked[0]!.body, {
    name: 'web', template: 'debian-12', start: true,
    properties: { 'memory.limit': '1G', 'description': 'a=b', 'network.addresses': ['10.187.0.9', 'fd00::1'], 'hostname': 'w' },
  });
  await daemon.veld(['create', 'web', '-t', 'debian-12', '-u', 'www-data', '-e', 'A=1', '-e', 'B=', '-C', '/srv', '--no-wait', '--', 'python3', '-m', 'http.server', '--start']);
  assert.deepEqual(daemon.asked.at(-1)!.body, {
    name: 'web', template: 'debian-12', start: false,
    properties: { 'boot.command': ['python3', '-m', 'http.server', '--start'], 'boot.user': 'www-data', 'boot.env': ['A=1', 'B='], 'boot.cwd': '/srv' },
  });
  const quick = await daemon.veld(['create', 'web', '-t', 'debian-12', '--no-wait']);
  assert.equal(quick.stdout, 'op1\n');
  assert.doesNotMatch(daemon.asked.at(-1)!.url, /wait=/);
});

test('create reads keys, passwords and data where it is asked, and sends no password', async (t) => {
  const daemon = await startTestDaemon(t, { 'POST /v1/ves': operation([{ kind: 'create' }]) });
  const dir = mkdtempSync(join(tmpdir(), 'veld-create-'));
  t.after(() => rmSync(dir, { recursive: true }));
  const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl';
  const file = (name: string, content: string): string => {
    writeFileSync(join(dir, name), content);
    return join(dir, name);
  };
  const sent = async (...words: string[]): Promise<unknown> => {
    const { status, stderr } = await daemon.veld(['create', 'web', '-t', 'x', '--no-wait', ...words], { input: 'from standard input\n' });
    assert.deepEqual([stderr, status], ['', 0]);
    return (daemon.asked.at(-1)!.body as { personal?: unknown }).personal;
  };
  assert.deepEqual(await sent('--user', 'alice', '--ssh-key', `${key} a`, '--ssh-key', file('keys', `# mine\n\n${key} b\n ${key} c\n`), '--sudo', '--locale', 'C.UTF-8', '--timezone', 'UTC', '--user-data', file('data', '#cloud-config\n')),
    { users: [{ name: 'alice', sshKeys: [`${key} a`, `${key} b`, `${key} c`], sudo: true }], locale: 'C.UTF-8', timezone: 'UTC', cloudInit: { userData: '#cloud-config\n' } });
  assert.deepEqual(await sent('--ssh-key', key), { root: { sshKeys: [key] } });
  assert.equal(await sent(), undefined);
  for (const [from, password] of [[file('password', 'secret 1\nmore\n'), 'secret 1'], ['-', 'from standard input']] as const) {
    const { root } = await sent('--password-file', from) as { root: { passwordHash: string } };
    const [, , salt] = root.passwordHash.split('$');
    assert.equal(spawnSync('openssl', ['passwd', '-6', '-salt', salt!, password], { encoding: 'utf8' }).stdout.trim(), root.passwordHash);
  }
  const asked = daemon.asked.length;
  const wrong: [words: string[], said: RegExp][] = [
    [['--sudo'], /goes with --user/], [['--ssh-key', join(dir, 'absent')], /could not be read: ENOENT/], [['--ssh-key', file('empty', '# none\n')], /no key in/], [['--ssh-key', dir], /is a folder/],
    [['--ssh-key', file('private', '-----BEGIN OPENSSH PRIVATE KEY-----\n')], /private key/], [['--ssh-key', 'ssh-ed25519 AAAA'], /Key 1 of root is damaged/], [['--password-file', file('none', '\nx\n')], /is empty/],
    [['--password-file', file('long', 'x'.repeat(300))], /longer than 256/], [['--user-data', file('large', 'x'.repeat(70_000))], /larger than 64 KiB/], [['--user', 'Alice'], /cannot be the name/],
    [['--ssh-key', key, '--user-data', join(dir, 'data'), '--', 'true'], /nobody logs in: --ssh-key, --user-data/],
  ];
  for (const [words, said] of wrong) assert.match((await daemon.veld(['create', 'web', '-t', 'x', ...words])).stderr, said, words.join(' ').slice(0, 80));
  assert.equal(daemon.asked.length, asked);
});

test('several VEs are started side by side; a failure is told with its VE and decides the status', async (t) => {
  const daemon = await startTestDaemon(t, {
    'POST /v1/ves/web/start': operation([{ state: 'running', endedAt: null }, {}]),
    'POST /v1/ves/db/start': () => new VeldError('ve.not_found', 'There is no VE db.'),
    'POST /v1/ves/mail/start': operation([{ state: 'failed', error: { code: 've.init_died', message: 'Init died.', hint: 'Look.' } }]),
  });
  const { stdout, stderr, status } = await daemon.veld(['start', 'web', 'db', 'mail']);
  assert.equal(stdout, 'web started\n');
  assert.match(stderr, /^veld: db: There is no VE db\.\nHint: .*\nveld: mail: Init died\.\nHint: Look\.\n$/);
  assert.equal(status, ERRORS['ve.not_found'].exit);
  const json = await daemon.veld(['start', '--json', 'web', 'mail']);
  assert.deepEqual((JSON.parse(json.stdout) as { state: string }[]).map((record) => record.state), ['succeeded', 'failed']);
  assert.equal((JSON.parse(json.stderr) as { code: string }).code, 've.init_died');
  assert.equal(json.status, ERRORS['ve.init_died'].exit);
});

test('start --wait asks the system inside until it is up, and names a degraded one', async (t) => {
  const answers = [{ exitCode: 1, stdout: '', stderr: 'Failed to connect to bus' }, { exitCode: 1, stdout: 'degraded\n', stderr: '' }];
  const daemon = await startTestDaemon(t, { 'POST /v1/ves/web/start': operation([{}]), 'POST /v1/ves/web/exec': () => answers.shift() });
  const { stdout, stderr, status } = await daemon.veld(['start', '--wait', 'web']);
  assert.deepEqual([stdout, status], ['web started\n', 0]);
  assert.match(stderr, /web is up, but units have failed/);
  assert.equal(answers.length, 0);
});

test('start --wait gives up after its timeout', async (t) => {
  const daemon = await startTestDaemon(t, { 'POST /v1/ves/web/start': operation([{}]), 'POST /v1/ves/web/exec': () => ({ exitCode: 1, stdout: 'starting\n', stderr: '' }) });
  const { stderr, status } = await daemon.veld(['start', '--wait', '--timeout', '1s', 'web']);
  assert.equal(status, ERRORS.timeout.exit);
  assert.match(stderr, /did not come up within 1 s; it is starting/);
});

test('publish and unpublish change a list, and know what is not in it', async (t) => {
  const daemon = await startTestDaemon(t, {
    'GET /v1/ves/web': () => ({ properties: { 'network.publish': ['8080:80/tcp', '53:53/udp'] } }),
    'PATCH /v1/ves/web/properties': operation([{}]),
  });
  const cases: [words: string[], list: string[] | null, said: string][] = [
    [['publish', 'web', '8443:443', '8080:80'], ['8080:80/tcp', '53:53/udp', '8443:443/tcp'], 'web publishes 8080:80/tcp, 53:53/udp, 8443:443/tcp\n'],
    [['unpublish', 'web', '8080:80'], ['53:53/udp'], 'web publishes 53:53/udp\n'],
    [['unpublish', 'web', '53:53/udp', '8080:80/tcp'], null, 'web publishes nothing\n'],
    [['unpublish', 'web', '--all'], null, 'web publishes nothing\n'],
  ];
  for (const [words, list, said] of cases) {
    const { stdout, stderr } = await daemon.veld(words);
    assert.deepEqual([stdout, stderr], [said, ''], words.join(' '));
    assert.deepEqual(daemon.asked.at(-1)?.body, { changes: { 'network.publish': list } });
  }
  const asked = daemon.asked.length;
  for (const [words, status, message] of [
    [['publish', 'web', '80'], ERRORS['property.invalid'].exit, /'80' is not of the form/],
    [['unpublish', 'web', '53:53/tcp'], ERRORS['property.invalid'].exit, /does not publish '53:53\/tcp'[^]*It publishes 8080:80\/tcp/],
    [['unpublish', 'web'], ERRORS.usage.exit, /name ports, or --all/],
    [['unpublish', 'web', '--all', '8080:80'], ERRORS.usage.exit, /name ports, or --all/],
  ] as const) {
    const result = await daemon.veld([...words]);
    assert.equal(result.status, status, words.join(' '));
    assert.match(result.stderr, message);
  }
  assert.ok(daemon.asked.slice(asked).every(({ method }) => method === 'GET'));
});

test('verbs ask for their routes with their options', async (t) => {
  const cases: [words: string[], request: string, body: unknown, said: string][] = [
    [['stop', 'web', '--force', '--timeout', '2m'], 'POST /v1/ves/web/stop', { force: true, timeout: 120 }, 'web stopped\n'],
    [['restart', 'web'], 'POST /v1/ves/web/restart', {}, 'web restarted\n'],
    [['freeze', 'web'], 'POST /v1/ves/web/freeze', {}, 'web frozen\n'],
    [['thaw', 'web'], 'POST /v1/ves/web/thaw', {}, 'web thawed\n'],
    [['destroy', 'web'], 'DELETE /v1/ves/web', undefined, 'web destroyed\n'],
    [['rename', 'web', 'shop'], 'POST /v1/ves/web/rename', { name: 'shop' }, 'web is now shop\n'],
    [['set', 'web', 'memory.limit=1G', 'cpu.weight=200', '--unset', 'pids.limit', '--next-start'], 'PATCH /v1/ves/web/properties',
      { changes: { 'memory.limit': '1G', 'cpu.weight': '200', 'pids.limit': null }, nextStart: true }, 'web changed: memory.limit=1G cpu.weight=200 pids.limit unset\n'],
    [['template', 'build', 'noble', '-n', 'shop', '-i', 'nginx,curl', '-i', 'vim'], 'POST /v1/templates/build', { suite: 'noble', name: 'shop', include: ['nginx', 'curl', 'vim'] }, 'template shop built\n'],
    [['template', 'build', 'noble'], 'POST /v1/templates/build', { suite: 'noble', include: [] }, 'template noble built\n'],
    [['template', 'build', 'lamp', '--replace'], 'POST /v1/templates/recipe', { recipe: 'lamp', replace: true }, 'template lamp built\n'],
    [['template', 'build', '/tmp/../tmp/shop.yaml', '-n', 'shop'], 'POST /v1/templates/recipe', { recipe: '/tmp/shop.yaml', name: 'shop' }, 'template shop built\n'],
    [['template', 'import', '/tmp/../tmp/a.tar', 'alpine'], 'POST /v1/templates/import', { file: '/tmp/a.tar', name: 'alpine' }, 'template alpine imported\n'],
    [['template', 'delete', 'alpine'], 'DELETE /v1/templates/alpine', undefined, 'template alpine deleted\n'],
  ];
  const daemon = await startTestDaemon(t, { 'GET /v1/recipes': () => [{ name: 'lamp', description: 'A shop', from: 'debian-12', file: '/l.yaml', shipped: true, error: null }], ...Object.fromEntries(cases.map(([, request]) => [request, operation([{}])])) });
  for (const [words, request, body, said] of cases) {
    const { stdout, stderr, status } = await daemon.veld(words);
    assert.deepEqual({ stdout, stderr, status }, { stdout: said, stderr: '', status: 0 }, words.join(' '));
    const asked = daemon.asked.at(-1)!;
    assert.equal(`${asked.method} ${asked.url.split('?')[0]}`, request);
    assert.deepEqual(asked.body, body);
  }
  assert.match((await daemon.veld(['template', 'recipes'])).stdout, /^lamp +Veld +debian-12 +A shop$/m);
  assert.equal((await daemon.veld(['template', 'recipes', '-q'])).stdout, 'lamp\n');
  assert.equal((await daemon.veld(['template', 'build', 'noble', '--replace'])).status, 2);
  await daemon.veld(['destroy', '--force', '--yes', 'web']);
  assert.match(daemon.asked.at(-1)!.url, /force=1/);
});

test('templates and operations are listed and shown', async (t) => {
  const template = { fingerprint: 'cd'.repeat(32), name: 'debian-12', os: 'debian', release: '12', architecture: 'amd64', layers: [{ id: 'l1', uidBase: 0 }], size: 300 << 20,
    createdAt: '2026-11-23T12:00:00Z', source: { suite: 'bookworm', include: ['a', 'b'] }, uses: 2 };
  const running = operationRecord({ id: 'op2', state: 'running', percent: 40, message: 'unpacking', endedAt: null, ve: web.uuid });
  const daemon = await startTestDaemon(t, {
    'GET /v1/templates': () => [template], 'GET /v1/templates/debian-12': () => template, 'GET /v1/ves': () => [web],
    'GET /v1/operations': () => [running, operationRecord({})], 'GET /v1/operations/op2': () => running, 'DELETE /v1/operations/op2': () => running,
  });
  assert.match((await daemon.veld(['template', 'list'])).stdout, /debian-12 {2}debian 12 {2}amd64 {9}300 MiB {4}2/);
  assert.match((await daemon.veld(['template', 'show', 'debian-12'])).stdout, /^Source include: +a, b$/m);
  assert.match((await daemon.veld(['operation', 'list'])).stdout, /op2 {2}start {2}web {2}running .* 40 % unpacking\n/);
  assert.doesNotMatch((await daemon.veld(['operation', 'list', '-r'])).stdout, /op1/);
  assert.match((await daemon.veld(['operation', 'show', 'op2'])).stdout, /^Progress: +40 % {2}unpacking$/m);
  assert.equal((await daemon.veld(['operation', 'cancel', 'op2'])).stdout, 'op2 is being cancelled\n');
});

test('doctor ends with 1 when a check fails, and when there is no daemon', async (t) => {
  const check = { id: 'a', title: 'Kernel', status: 'ok', message: '6.18' };
  const checks = [check];
  const daemon = await startTestDaemon(t, { 'GET /v1/doctor': () => ({ checks }) });
  assert.deepEqual(await daemon.veld(['doctor']), { status: 0, signal: null, stdout: 'ok    Kernel: 6.18\n', stderr: '' });
  checks.push({ id: 'b', title: 'lxcfs', status: 'fail', message: 'is not there', remedy: 'Install it.' } as typeof check);
  const failing = await daemon.veld(['doctor', '-q']);
  assert.deepEqual([failing.status, failing.stdout], [1, 'FAIL  lxcfs: is not there\n      Remedy: Install it.\n']);
  const lonely = await runVeld(['doctor', '--json', '--socket', '/nonexistent/veld.sock']);
  assert.equal(lonely.status, 1);
  assert.equal((JSON.parse(lonely.stdout) as { checks: { id: string }[] }).checks[0]?.id, 'daemon');
});

test('logs come whole, from the end, and as JSON lines', async (t) => {
  const daemon = await startTestDaemon(t, {
    'GET /v1/ves/web/logs': (_, reply) => { reply.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ log: 'one\n\x1b]0;t\x07two\n' })); },
  });
  assert.equal((await daemon.veld(['logs', 'web'])).stdout, 'one\n\x1b]0;t\x07two\n'); // not a terminal: as it is
  assert.equal((await daemon.veld(['logs', '--json', 'web', '--tail', '2'])).stdout, '{"line":"one"}\n{"line":"\\u001b]0;t\\u0007two"}\n');
  assert.match(daemon.asked.at(-1)!.url, /tail=2/);
});

test('logs --follow prints each line as it comes, and tells why they end', async (t) => {
  let gone = false;
  const daemon = await startTestDaemon(t, {
    'GET /v1/ves/web/logs': (_, reply) => {
      reply.writeHead(200, { 'content-type': 'application/x-ndjson' });
      reply.end('{"line":"T1 one"}\n{"line":"T2 two"}\n');
    },
    'GET /v1/ves/web': () => (gone ? new VeldError('ve.not_found', 'There is no VE web.') : web),
  });
  const cut = await daemon.veld(['logs', '-f', '-n', '5', 'web']);
  assert.deepEqual([cut.stdout, cut.status], ['T1 one\nT2 two\n', ERRORS['daemon.unreachable'].exit]);
  assert.equal(daemon.asked[0]!.url, '/v1/ves/web/logs?tail=5&follow=1');
  gone = true;
  const ended = await daemon.veld(['logs', '-f', 'web', '--json']);
  assert.deepEqual([ended.stdout, ended.status], ['{"line":"T1 one"}\n{"line":"T2 two"}\n', ERRORS['ve.not_found'].exit]);
});

test('events of one VE are picked, and a broken connection is an error', async (t) => {
  const daemon = await startTestDaemon(t, {
    'GET /v1/ves': () => [web], 'GET /v1/ves/web': () => web,
    'EVENTS /v1/events': () => [{ seq: 1, time: '2026-11-23T12:00:00Z', type: 've.started', ve: 'other' }, { seq: 2, time: '2026-11-23T12:00:00Z', type: 've.stopped', ve: web.uuid, data: { reason: 'poweroff' } }, null],
  });
  const { stdout, status } = await daemon.veld(['events', '--json', '--ve', 'web']);
  assert.deepEqual(stdout.trim().split('\n').map((line) => (JSON.parse(line) as { seq: number }).seq), [2]);
  assert.equal(status, ERRORS['daemon.unreachable'].exit);
});

test('version works without a daemon, and --version asks none', async () => {
  const { VERSION: version } = await import('../lib/version.ts');
  assert.equal((await runVeld(['--version'])).stdout, `veld ${version}\n`);
  const both = await runVeld(['version', '--json', '--socket', '/nonexistent/s']);
  assert.deepEqual([JSON.parse(both.stdout), both.status], [{ client: version, daemon: null, instance: null }, 0]);
});

test('wrong usage is told with its help and ends with 2', async () => {
  const cases: [words: string[], message: RegExp][] = [
    [['delete', 'web'], /^veld: There is no command 'delete'\.\nHint: Use `veld destroy`\.\n$/],
    [['strat'], /Did you mean .*`veld start`/],
    [['template', 'make'], /There is no command 'template make'/],
    [['--jsn', 'list'], /Unknown option '--jsn' before a command/],
    [['start'], /start: missing required argument 've'\.\nHint: See `veld help start`/],
    [['rename', 'a', 'b', 'c'], /too many arguments/],
    [['create', 'web'], /required option '-t, --template <template>' not specified/],
    [['stop', '--timeout', 'soon', 'web'], /stop: 'soon' is not a duration such as 30s or 5m\./],
    [['migrate', 'web', 'node2', '--bandwidth', '50Mbit'], /migrate: '50Mbit' is not a number of bytes per second such as 50M/],
    [['evacuate', 'node2', '--bandwidth', '1K'], /evacuate: '1K' is not a number of bytes per second/],
    [['evacuate', 'node2', '--copy'], /evacuate: unknown option '--copy'/],
    [['migrate', 'web', 'node2', '--as', 'web2'], /Only a copy gets another name/],
    [['migrate', '--take-back', 'web', '--copy'], /nothing to take back/],
    [['set', 'web'], /nothing to change/],
    [['set', 'web', 'memory.limit'], /'memory.limit' is not of the form NAME=VALUE/],
    [['exec', 'web'], /exec: missing command/],
    [['list', '--quite'], /unknown option '--quite' \(Did you mean --quiet\?\)/],
    [['help', 'nothing'], /There is no command 'nothing'/],
  ];
  await Promise.all(cases.map(async ([words, message]) => {
    const { status, stderr, stdout } = await runVeld(words);
    assert.match(stderr, message);
    assert.deepEqual([status, stdout], [2, ''], words.join(' '));
  }));
  const json = await runVeld(['start', '--json']);
  assert.equal((JSON.parse(json.stderr) as { code: string }).code, 'usage');
});

test('an unreachable daemon, and a socket that the settings name', async (t) => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-'));
  t.after(() => rmSync(folder, { recursive: true }));
  // A daemon may run on this machine: the settings name a socket that nobody listens on.
  writeFileSync(join(folder, 'settings.json'), JSON.stringify({ socket: '/nonexistent/veld.sock' }));
  const { status, stderr } = await runVeld(['list'], { env: { VELD_SETTINGS: join(folder, 'settings.json') } });
  assert.equal(status, ERRORS['daemon.unreachable'].exit);
  assert.match(stderr, /^veld: The daemon cannot be reached at \/nonexistent\/veld\.sock/);
});

test('every command has help made from its description', async () => {
  const commands = await loadAllCommands();
  assert.deepEqual(commands.map((command) => command.name), Object.keys(COMMANDS));
  const overview = (await runVeld(['help'])).stdout;
  for (const command of commands) {
    assert.ok(overview.includes(`  ${command.name} `), command.name);
    assert.ok(command.examples?.length, `${command.name} has no example`);
    for (const [line] of command.examples) assert.ok(line.startsWith(command.name), `example '${line}' of ${command.name}`);
    assert.doesNotMatch(command.summary, /\.$/);
  }
  const { stdout } = await runVeld(['stop', '--help']);
  assert.match(stdout, /^Usage: veld stop \[options\] <ve\.\.\.>\n/);
  assert.match(stdout, /^ {2}-f, --force +Kill all its processes at once$/m);
  assert.match(stdout, /^ {2}8 +ve\.not_running$/m);
  assert.equal((await runVeld(['help', 'stop'])).stdout, stdout);
  assert.match((await runVeld(['help', 'properties'])).stdout, /^memory\.limit\n {4}/m);
  assert.match((await runVeld(['template'])).stdout, /template build/);
});

test('what cannot be meant is refused before the daemon is asked', async (t) => {
  const daemon = await startTestDaemon(t, {});
  const cases: [words: string[], said: RegExp][] = [
    [['create', 'web', '-t', 'x', 'python3'], /too many arguments/],
    [['create', 'web', '-t', 'x', '--env', 'A=1'], /--env and --cwd go with a command/],
    [['create', 'web', '-t', 'x', '--set', 'boot.command=a', '--', 'b'], /boot\.command is given twice/],
    [['create', 'web', '-t', 'x', '--wait'], /--wait goes with --start/],
    [['create', 'web', '-t', 'x', '--start', '--timeout', '5s'], /--timeout goes with --wait/],
    [['create', 'web', '-t', 'x', '--set', 'hostname=a', '--hostname', 'b'], /hostname is given twice/],
    [['start', 'web', '--timeout', '5s'], /--timeout goes with --wait/],
    [['set', 'web', 'cpu.weight=1', 'cpu.weight=2'], /cpu\.weight is given twice/],
    [['set', 'web', 'cpu.weight=1', '-u', 'cpu.weight'], /cpu\.weight is given twice/],
    [['exec', '-u', 'a:b', 'web', 'id'], /"a:b" is neither the name of a user nor a uid/],
    [['exec', '-e', '1A=x', 'web', 'id'], /'1A' cannot be the name of a variable/],
    [['exec', '-C', 'srv', 'web', 'id'], /"srv" is not an absolute path/],
    [['operation', 'list', '-n', '0'], /'0' is not a number of at least 1/],
    [['--socket', '', 'list'], /--socket needs a path/],
  ];
  for (const [words, said] of cases) {
    const { status, stderr } = await daemon.veld(words);
    assert.match(stderr, said, words.join(' '));
    assert.equal(status, 2);
  }
  assert.equal(daemon.asked.length, 0);
});

test('a VE that is named twice is worked on once', async (t) => {
  const daemon = await startTestDaemon(t, { 'DELETE /v1/ves/web': operation([{}]) });
  const { stdout, stderr, status } = await daemon.veld(['destroy', 'web', 'web']);
  assert.deepEqual({ stdout, stderr, status }, { stdout: 'web destroyed\n', stderr: '', status: 0 });
  assert.equal(daemon.asked.length, 1);
});

test('an operation that has ended cannot be cancelled', async (t) => {
  const daemon = await startTestDaemon(t, {
    'DELETE /v1/operations/op1': () => operationRecord({ state: 'succeeded' }), 'DELETE /v1/operations/op2': () => operationRecord({ state: 'running' }),
  });
  const late = await daemon.veld(['operation', 'cancel', 'op1']);
  assert.match(late.stderr, /op1 has ended already: succeeded/);
  assert.equal(late.status, ERRORS['operation.committed'].exit);
  assert.equal((await daemon.veld(['operation', 'cancel', 'op2'])).stdout, 'op2 is being cancelled\n');
});

test('output that cannot be written is a failure', async (t) => {
  const daemon = await startTestDaemon(t, { 'GET /v1/ves': () => [web] });
  const child = spawn(process.execPath, [join(import.meta.dirname, 'main.ts'), '--socket', daemon.socket, 'list'], { stdio: ['ignore', openSync('/dev/full', 'w'), 'pipe'] });
  let stderr = '';
  child.stderr!.on('data', (chunk: Buffer) => { stderr += chunk.toString(); });
  const [status] = await once(child, 'close') as [number];
  assert.match(stderr, /standard output cannot be written: ENOSPC/);
  assert.equal(status, 1);
});

test('help speaks JSON, too', async () => {
  const names = (JSON.parse((await runVeld(['help', '--json'])).stdout) as { name: string }[]).map(({ name }) => name);
  assert.deepEqual(names, Object.keys(COMMANDS));
  assert.equal((JSON.parse((await runVeld(['create', '--help', '--json'])).stdout) as { name: string }).name, 'create');
  assert.equal((JSON.parse((await runVeld(['help', 'properties', 'cpu.limit', '--json'])).stdout) as { name: string }).name, 'cpu.limit');
});
