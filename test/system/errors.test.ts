/** What goes wrong is told with its own code, HTTP status and exit status, and nothing is left half made. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { test } from 'node:test';
import { TEMPLATE } from '../lib/cache.ts';
import type { ApiError } from '../lib/http.ts';
import { fileInstance, startInstance } from '../lib/instance.ts';
import { assertSame } from '../lib/same.ts';
import { until } from '../lib/wait.ts';
import type { OperationRecord } from '../../src/store/types.ts';
import { namesOf } from '../../src/network/names.ts';
import { ERRORS, HTTP_STATUS } from '../../src/lib/errors.ts';
import type { ErrorBody, ErrorCode } from '../../src/lib/errors.ts';

const veld = await fileInstance();
await veld.api.operate('POST', '/v1/ves', { name: 'still', template: TEMPLATE });
await veld.createRunning('busy');
await veld.booted('busy');

const create = (more: object): object => ({ name: 'fresh', template: TEMPLATE, ...more });

interface Case {
  what: string;
  code: ErrorCode;
  /** Written out, not taken from the table: programs match on them. */
  exit: number;
  status: number;
  cli: string[];
  api: [method: string, path: string, body?: () => object];
}

const CASES: Case[] = [
  { what: 'unknown property', code: 'property.unknown', exit: 12, status: 400,
    cli: ['create', 'fresh', '-t', TEMPLATE, '--set', 'memory.colour=red'], api: ['POST', '/v1/ves', () => create({ properties: { 'memory.colour': 'red' } })] },
  { what: 'bad unit', code: 'property.invalid', exit: 12, status: 400,
    cli: ['create', 'fresh', '-t', TEMPLATE, '--set', 'memory.limit=12parsecs'], api: ['POST', '/v1/ves', () => create({ properties: { 'memory.limit': '12parsecs' } })] },
  { what: 'impossible value', code: 'property.invalid', exit: 12, status: 400,
    cli: ['set', 'still', 'cpu.weight=0'], api: ['PATCH', '/v1/ves/still/properties', () => ({ changes: { 'cpu.weight': 0 } })] },
  { what: 'one bad value among good ones changes none', code: 'property.invalid', exit: 12, status: 400,
    cli: ['set', 'still', 'cpu.weight=7', 'pids.limit=-3'], api: ['PATCH', '/v1/ves/still/properties', () => ({ changes: { 'cpu.weight': 7, 'pids.limit': -3 } })] },
  { what: 'bad name', code: 'name.invalid', exit: 12, status: 400,
    cli: ['create', '9lives', '-t', TEMPLATE], api: ['POST', '/v1/ves', () => create({ name: '../etc' })] },
  { what: 'missing template', code: 'template.not_found', exit: 15, status: 404,
    cli: ['create', 'fresh', '-t', 'slackware'], api: ['POST', '/v1/ves', () => create({ template: 'slackware' })] },
  { what: 'name taken', code: 've.name_taken', exit: 5, status: 409,
    cli: ['create', 'still', '-t', TEMPLATE], api: ['POST', '/v1/ves', () => create({ name: 'still' })] },
  { what: 'new name taken', code: 've.name_taken', exit: 5, status: 409,
    cli: ['rename', 'still', 'busy'], api: ['POST', '/v1/ves/still/rename', () => ({ name: 'busy' })] },
  { what: 'no such VE', code: 've.not_found', exit: 4, status: 404,
    cli: ['start', 'nobody'], api: ['POST', '/v1/ves/nobody/start'] },
  { what: 'running already', code: 've.running', exit: 7, status: 409,
    cli: ['start', 'busy'], api: ['POST', '/v1/ves/busy/start'] },
  { what: 'destroy of a running VE', code: 've.running', exit: 7, status: 409,
    cli: ['destroy', '--yes', 'busy'], api: ['DELETE', '/v1/ves/busy'] },
  { what: 'not running', code: 've.not_running', exit: 8, status: 409,
    cli: ['stop', 'still'], api: ['POST', '/v1/ves/still/stop'] },
  { what: 'exec in a stopped VE', code: 've.not_running', exit: 8, status: 409,
    cli: ['exec', 'still', '--', 'true'], api: ['POST', '/v1/ves/still/exec', () => ({ command: ['true'] })] },
  { what: 'a template in use', code: 'template.in_use', exit: 16, status: 409,
    cli: ['template', 'delete', TEMPLATE], api: ['DELETE', `/v1/templates/${TEMPLATE}`] },
];

for (const { what, code, exit, status, cli, api: [method, path, body] } of CASES) {
  test(`${what}: ${code}`, async () => {
    const before = await state();
    const answer = await veld.api.raw(method, path, body?.());
    // An operation that fails says so in its record.
    let error = (answer.body as { error?: ErrorBody }).error;
    if (answer.status === 202) {
      const { id } = answer.body as OperationRecord;
      const ended = await until('its end', async () => {
        const now = await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`);
        return now.state === 'running' ? undefined : now;
      });
      error = ended.error as ErrorBody | undefined;
    } else assert.equal(answer.status, status);
    assert.equal(error?.code, code);
    assert.ok(error.message.length > 10 && error.hint.length > 5, JSON.stringify(error));
    const result = await veld.cli('--json', ...cli);
    assert.equal(result.code, exit, result.stderr);
    assert.equal((JSON.parse(result.stderr) as ErrorBody).code, code);
    assert.equal(ERRORS[code].exit, exit);
    assert.equal(HTTP_STATUS[ERRORS[code].kind], status);
    assertSame(await state(), before, 'something was made or changed');
  });
}

test('a VE that is being stopped is busy', async () => {
  await veld.exec('busy', 'sh', '-c', 'printf "[Service]\\nType=oneshot\\nRemainAfterExit=yes\\nExecStop=/bin/sleep 3\\n" > /etc/systemd/system/slow.service && systemctl start slow');
  const stop = await veld.api.raw('POST', '/v1/ves/busy/stop');
  assert.equal(stop.status, 202);
  for (const [method, path, body] of [['POST', '/v1/ves/busy/restart'], ['DELETE', '/v1/ves/busy?force=true'],
    ['PATCH', '/v1/ves/busy/properties', { changes: { 'cpu.weight': 50 } }]] as const) {
    const answer = await veld.api.raw(method, path, body);
    assert.deepEqual([answer.status, (answer.body as { error: ErrorBody }).error?.code], [409, 've.busy'], path);
  }
  assert.equal((await veld.cli('freeze', 'busy')).code, 6);
  assert.equal((await veld.show('busy')).status, 'stopping');
  const { id } = stop.body as OperationRecord;
  await until('the stop to end', async () => (await veld.api.call<OperationRecord>('GET', `/v1/operations/${id}`)).state === 'succeeded');
  assert.equal((await veld.show('busy')).status, 'stopped');
  assert.equal((await veld.show('busy')).properties['cpu.weight'], 100);
  await veld.api.operate('POST', '/v1/ves/busy/start');
});

test('an address that another VE has: address.taken', async () => {
  const [address] = (await veld.show('still')).addresses;
  const before = await state();
  const result = await veld.cli('--json', 'create', 'fresh', '-t', TEMPLATE, '--address', address!);
  assert.equal(result.code, 19);
  assert.equal((JSON.parse(result.stderr) as ErrorBody).code, 'address.taken');
  assertSame(await state(), before, 'something was made or changed');
});

test('a pool without a free address: address.none_free, and nothing half made', async () => {
  // 4 addresses: network, host, one VE, broadcast.
  const small = await startInstance({ settings: (s) => { s.network.pools = [s.network.pools[0]!.replace('.0/24', '.0/30')]; } });
  try {
    await small.api.operate('POST', '/v1/ves', { name: 'first', template: TEMPLATE });
    const result = await small.cli('--json', 'create', 'second', '-t', TEMPLATE);
    assert.equal(result.code, 19);
    assert.equal((JSON.parse(result.stderr) as ErrorBody).code, 'address.none_free');
    assert.deepEqual((await small.list()).map((ve) => ve.name), ['first']);
    await small.api.operate('DELETE', '/v1/ves/first');
    await small.api.operate('POST', '/v1/ves', { name: 'second', template: TEMPLATE });
  } finally {
    assert.deepEqual(await small.destroy(), []);
  }
});

test('no daemon: exit status 3, and what to do', async () => {
  const away = await startInstance();
  try {
    await away.stop();
    const result = await away.cli('list');
    assert.equal(result.code, 3);
    assert.match(result.stderr, /systemctl start veldd|quickstart/);
  } finally {
    await away.destroy();
  }
});

test('a start whose link cannot be made fails, and leaves nothing', async (t) => {
  const { link } = await veld.show('still');
  const gateway = namesOf(veld.name).gatewayLink;
  const altname = (verb: string) => spawnSync('ip', ['link', 'property', verb, 'dev', gateway, 'altname', link]);
  const before = await state();
  // Another name of a link of ours: the script cannot see it in /sys/class/net, and the kernel refuses a link of that name.
  assert.equal(altname('add').status, 0);
  t.after(() => altname('del'));
  await assert.rejects(veld.api.operate('POST', '/v1/ves/still/start'), (error: ApiError) => error.code === 've.start_failed');
  assertSame(await state(), before, 'something was made or left');
  altname('del');
  await veld.api.operate('POST', '/v1/ves/still/start');
  await veld.api.operate('POST', '/v1/ves/still/stop', { force: true });
});

test('a second daemon of the same instance is refused, and the first goes on', async () => {
  await assert.rejects(veld.second(), /ended with 3/);
  assert.equal((await veld.list()).length > 0, true);
});

test('wrong usage: exit status 2', async () => {
  assert.equal((await veld.cli('create')).code, 2);
  assert.equal((await veld.cli('frobnicate')).code, 2);
  assert.equal((await veld.api.raw('POST', '/v1/ves', { name: 'x', template: TEMPLATE, colour: 'red' })).status, 400);
  assert.equal((await veld.api.raw('GET', '/v1/nothing')).status, 404);
});

/** All that a refused request could have changed: the VEs, what is on the host, what is in the folders. */
async function state(): Promise<string[]> {
  const ves = (await veld.list()).map(({ name, status, set, addresses, pid }) => ({ name, status, set, addresses, pid }));
  const folders = readdirSync(veld.settings.stateDir).filter((name) => !name.startsWith('veld.db'))
    .flatMap((name) => {
      try {
        return readdirSync(`${veld.settings.stateDir}/${name}`).map((entry) => `${name}/${entry}`);
      } catch {
        return [name];
      }
    }).filter((path) => !/^(logs|history|traffic)\//.test(path)); // those come with time
  return [...ves.map((ve) => JSON.stringify(ve)), ...folders, ...veld.outline()];
}
