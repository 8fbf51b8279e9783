import assert from 'node:assert/strict';
import { connect } from 'node:net';
import { once } from 'node:events';
import { after, before, test } from 'node:test';
import { Type, type TSchema } from '@fastify/type-provider-typebox';
import { Compile } from 'typebox/compile';
import { ERRORS, VeldError, type ErrorBody, type ErrorCode } from '../lib/errors.ts';
import * as schemas from './schemas.ts';
import { ImagesSchema, SourceSchema } from './images.ts';
import { ImageServerSchema, PublishedSchema } from './published.ts';
import { BuildLogSchema, RecipeSchema } from './recipes.ts';
import { CapacitySchema, PresetSchema, withPreset } from './planning.ts';
import { VeStatsSchema } from './stats.ts';
import { openBench, type Bench } from './testing.ts';
import type { OperationRecord } from '../store/types.ts';

let bench: Bench;
before(async () => { bench = await openBench({ peerCredentials: () => ({ pid: 7, uid: 8, gid: 9 }) }); });
after(() => bench.close());

interface Inject { method: 'GET' | 'POST' | 'PATCH' | 'DELETE'; url: string; payload?: unknown; headers?: Record<string, string> }
async function ask({ payload, ...rest }: Inject): Promise<{ status: number; headers: Record<string, unknown>; body: Record<string, unknown> & { error?: ErrorBody } }> {
  const text = payload === undefined ? undefined : typeof payload === 'string' ? payload : JSON.stringify(payload);
  const answer = await bench.api.inject({ ...rest, ...text !== undefined && { payload: text, headers: { 'content-type': 'application/json', ...rest.headers } } });
  return { status: answer.statusCode, headers: answer.headers, body: JSON.parse(answer.body) as Record<string, unknown> };
}

test('every error of the table leaves with the status of its kind and in one shape', async () => {
  for (const code of Object.keys(ERRORS) as ErrorCode[]) {
    const error = new VeldError(code, `because of ${code}`, { details: { a: 1 } });
    bench.failNext(error);
    const { status, body } = await ask({ method: 'GET', url: '/v1/ves' });
    assert.equal(status, error.http, code);
    assert.equal(body.error?.code, code);
    assert.equal(body.error?.message, `because of ${code}`);
    assert.equal(body.error?.hint, ERRORS[code].hint);
    assert.equal(body.error?.details?.a, 1);
  }
});

test('an unexpected error fails one request, tells nothing of the inside, and is logged with its stack and request id', async () => {
  bench.failNext(new TypeError('secret inside'));
  const { status, body, headers } = await ask({ method: 'GET', url: '/v1/ves' });
  assert.equal(status, 500);
  assert.equal(body.error?.code, 'internal');
  assert.doesNotMatch(JSON.stringify(body), /secret inside/);
  assert.equal(body.error?.details?.requestId, headers['x-request-id']);
  const line = bench.lines.filter((each) => each.level === 'error').at(-1);
  assert.match(JSON.stringify(line), /secret inside.*app\.test/);
  assert.equal(line?.requestId, headers['x-request-id']);
  assert.equal((await ask({ method: 'GET', url: '/v1' })).status, 200);
});

test('a name that cannot be one is refused by the rules of names', async () => {
  bench.addVe('named', 'running');
  for (const name of ['a\n', 'UX BAD', '', '../x', 'ä']) {
    const { status, body } = await ask({ method: 'POST', url: '/v1/ves', payload: { name, template: 't' } });
    assert.deepEqual([status, body.error?.code], [400, 'name.invalid'], JSON.stringify(name));
  }
});

test('requests that are not valid are refused, and the field is named', async () => {
  bench.addVe('valid', 'running');
  const cases: [Inject, RegExp][] = [
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a', template: 't', colour: 1 } }, /in the body colour is not known/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a' } }, /template is missing/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 5, template: 't' } }, /name must be string/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a', template: 't', start: 'true' } }, /start must be boolean/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a'.repeat(201), template: 't' } }, /name/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a', template: 't', properties: { 'Bad Name': 1 } } }, /properties\.Bad Name is not known/],
    [{ method: 'POST', url: '/v1/ves', payload: [] }, /must be object/],
    [{ method: 'POST', url: '/v1/ves', payload: 'null' }, /must be object/],
    [{ method: 'POST', url: '/v1/ves', payload: '{"name": ' }, /not valid/],
    [{ method: 'POST', url: '/v1/ves', payload: '{"name":"a","template":"t","__proto__":{"x":1}}' }, /not valid/],
    [{ method: 'POST', url: '/v1/ves', payload: '{"name":"a","template":"t","constructor":{"prototype":{"x":1}}}' }, /not valid/],
    [{ method: 'POST', url: '/v1/ves', payload: '{"name":"a","template":"t","properties":{"__proto__":{"x":1}}}' }, /not valid/],
    [{ method: 'POST', url: '/v1/ves', payload: { name: 'a', template: 'x'.repeat(2 << 20) } }, /too large/],
    [{ method: 'POST', url: '/v1/ves', payload: 'name=a', headers: { 'content-type': 'application/x-www-form-urlencoded' } }, /Media Type/i],
    [{ method: 'POST', url: '/v1/ves?wait=perhaps', payload: { name: 'a', template: 't' } }, /in the query wait/],
    [{ method: 'POST', url: '/v1/ves?colour=1', payload: { name: 'a', template: 't' } }, /in the query colour/],
    [{ method: 'GET', url: '/v1/ves/..%2f..%2fetc' }, /in the path ve/],
    [{ method: 'GET', url: '/v1/ves/%00' }, /in the path ve/],
    [{ method: 'GET', url: '/v1/ves/%ff' }, /not valid/],
    [{ method: 'GET', url: `/v1/ves/${'a'.repeat(3000)}` }, /^.{1,400}$/],
    [{ method: 'GET', url: '/v1/ves/valid/logs?tail=-1' }, /tail/],
    [{ method: 'POST', url: '/v1/ves/valid/exec', payload: { command: [] } }, /command/],
    [{ method: 'POST', url: '/v1/ves/valid/exec', payload: { command: ['a\0b'] } }, /command\.0/],
    [{ method: 'POST', url: '/v1/ves/valid/exec', payload: { command: ['a'], env: { 'A=B': 'c' } } }, /env\.A=B/],
    [{ method: 'POST', url: '/v1/ves/valid/exec', payload: { command: ['a'], cwd: 'relative' } }, /cwd/],
    [{ method: 'POST', url: '/v1/ves/valid/exec', payload: { command: ['a'], user: '-x' } }, /user/],
    [{ method: 'POST', url: '/v1/ves/valid/sessions', payload: { command: ['a'], tty: { columns: 0, rows: 1, term: 'x' } } }, /tty/],
    [{ method: 'POST', url: '/v1/templates/build', payload: { suite: 'x', include: ['--option'] } }, /include\.0/],
    [{ method: 'POST', url: '/v1/templates/import', payload: { file: 'etc/passwd', name: 'x' } }, /file/],
    [{ method: 'POST', url: '/v1/ves/valid/start', payload: { force: true } }, /force is not known/],
    ...['50M', 0, 65_535, 1e6 + 0.5, -1].map((bandwidth): [Inject, RegExp] => [{ method: 'POST', url: '/v1/ves/valid/migrate', payload: { node: 'b', bandwidth } }, /bandwidth/]),
    [{ method: 'GET', url: '/v1/ves/valid/stats?history=1y' }, /history/],
    [{ method: 'GET', url: '/v1/events' }, /WebSocket/],
    [{ method: 'GET', url: `/v1/sessions/${'a'.repeat(43)}` }, /WebSocket/],
  ];
  for (const [request, message] of cases) {
    const { status, body } = await ask(request);
    const what = JSON.stringify(request).slice(0, 200);
    assert.equal(status, 400, what);
    assert.equal(body.error?.code, 'request.invalid', what);
    assert.match(body.error?.message ?? '', message, what);
  }
  assert.equal(({} as Record<string, unknown>).x, undefined);
});

test('unknown routes and bytes that are no HTTP get answers in the same shape', async () => {
  for (const request of [{ method: 'GET', url: '/' }, { method: 'DELETE', url: '/v1/ves' }, { method: 'GET', url: '/v1/ves/a/b/c' }] as const) {
    const { status, body } = await ask(request);
    assert.equal(status, 404);
    assert.equal(body.error?.code, 'route.not_found');
  }
  const socket = connect(bench.socket);
  socket.end('nonsense\r\n\r\n');
  const [data] = await once(socket, 'data') as [Buffer];
  assert.match(data.toString(), /^HTTP\/1\.1 400 .*"code":"request\.invalid"/s);
});

test('the document lists exactly the routes, each with a summary, an answer and its errors', async () => {
  const { body } = await ask({ method: 'GET', url: '/v1/openapi.json' });
  const paths = body.paths as Record<string, Record<string, { summary?: string; tags?: string[]; responses: Record<string, Record<string, unknown>> }>>;
  const documented = Object.entries(paths).flatMap(([path, verbs]) => Object.keys(verbs).map((verb) => `${verb.toUpperCase()} ${path.replaceAll(/\{(\w+)\}/g, ':$1')}`));
  const registered: string[] = [];
  // The router's own tree, one line a node: name and methods, indented by depth.
  const stack: string[] = [];
  for (const line of bench.api.printRoutes({ commonPrefix: false }).split('\n')) {
    const match = /^([ │├└─]*)(\S.*?) \(([A-Z, ]+)\)/u.exec(line);
    if (!match) continue;
    const depth = match[1]!.length / 4;
    stack.splice(depth - 1);
    stack[depth - 1] = match[2]!;
    for (const verb of match[3]!.split(', ')) if (verb !== 'HEAD' && verb !== 'OPTIONS') registered.push(`${verb} ${stack.join('')}`);
  }
  assert.ok(registered.length >= 28, `found ${registered.length}`);
  assert.deepEqual(documented.sort(), registered.map((route) => route.replace(/(.)\/$/, '$1')).sort());
  for (const [path, verbs] of Object.entries(paths)) {
    for (const [verb, { summary, tags, responses }] of Object.entries(verbs)) {
      const what = `${verb} ${path}`;
      assert.ok(summary, `${what} has no summary`);
      assert.equal(tags?.length, 1, what);
      assert.ok(Object.keys(responses).some((status) => Number(status) < 300), `${what} has no good answer`);
      for (const status of ['400', '500', '503']) assert.ok(responses[status], `${what} does not declare ${status}`);
      if (path.includes('{ve}')) assert.match(responses['404']?.description as string, /ve\.not_found/);
    }
  }
  const names = Object.keys((body.components as { schemas: object }).schemas);
  for (const name of ['Ve', 'VeDetail', 'Operation', 'ErrorBody', 'Template', 'CreateRequest']) assert.ok(names.includes(name), name);
});

test('answers are what the document says', async () => {
  bench.addVe('shape', 'running');
  const started = await ask({ method: 'POST', url: '/v1/ves/shape/freeze' });
  const checks: [string, TSchema][] = [
    ['/v1', schemas.About], ['/v1/ves', Type.Array(schemas.Ve)], ['/v1/ves?details=true', Type.Array(schemas.VeDetails)], ['/v1/ves/shape', schemas.VeDetails], ['/v1/usage', schemas.UsageSampleSchema], ['/v1/ves/shape/processes', schemas.VeProcessesSchema], ['/v1/ves/shape/beancounters', schemas.BeancountersSchema], ['/v1/templates', Type.Array(schemas.Template)],
    ['/v1/templates/debian-12', schemas.Template], ['/v1/sources', Type.Array(SourceSchema)], ['/v1/images?words=noble', ImagesSchema], ['/v1/published', Type.Array(PublishedSchema)], ['/v1/image-server', ImageServerSchema], ['/v1/recipes', Type.Array(RecipeSchema)], ['/v1/templates/shop/log', BuildLogSchema], ['/v1/operations', Type.Array(schemas.Operation)], [`/v1/operations/${String(started.body.id)}`, schemas.Operation],
    ['/v1/properties', Type.Array(schemas.Property)], ['/v1/doctor', schemas.DoctorReportSchema], ['/v1/ves/shape/logs', schemas.ConsoleLog], ['/v1/capacity', CapacitySchema], ['/v1/presets', Type.Array(PresetSchema)], ['/v1/presets/small', PresetSchema], ['/v1/ves/shape/stats', VeStatsSchema], ['/v1/ves/shape/stats?history=1d', VeStatsSchema],
  ];
  for (const [url, schema] of checks) {
    const { status, body } = await ask({ method: 'GET', url });
    assert.equal(status, 200, url);
    const check = Compile(schema);
    assert.ok(check.Check(body), `${url}: ${JSON.stringify([...check.Errors(body)][0])}`);
  }
});

test('operations: 202 with the record, the request id in record and log, audit with the peer', async () => {
  const { status, headers, body } = await ask({ method: 'POST', url: '/v1/ves', payload: { name: 'web', template: 'debian-12', properties: { 'memory.limit': '1G' } } });
  assert.equal(status, 202);
  assert.equal(headers.location, `/v1/operations/${String(body.id)}`);
  assert.equal(body.requestId, headers['x-request-id']);
  const record = await bench.operations.wait(body.id as string);
  assert.equal(record.state, 'succeeded');
  // inject() has no connection, the socket has
  await bench.client.request('POST', '/v1/ves/web/start');
  const audit = bench.lines.filter((line) => line.audit === true).at(-1);
  assert.deepEqual(audit?.peer, { pid: 7, uid: 8, gid: 9 });
  assert.equal(audit?.route, '/v1/ves/:ve/start');
  assert.deepEqual(audit?.params, { ve: 'web' });
});

test('?wait=1 streams each change; the last record has ended; failures become errors of the client', async () => {
  bench.addVe('slow', 'stopped');
  bench.work = async (task) => {
    for (const percent of [10, 50, 90]) {
      task.progress(percent, `at ${percent}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  };
  const seen: number[] = [];
  const record = await bench.client.operation('POST', '/v1/ves/slow/start', undefined, ({ percent }) => seen.push(percent));
  assert.equal(record.state, 'succeeded');
  for (const percent of [10, 50, 90, 100]) assert.ok(seen.includes(percent), `${percent} in ${seen.join()}`);
  bench.work = async () => { throw new VeldError('disk.full', 'No space left.'); };
  await assert.rejects(bench.client.operation('POST', '/v1/ves/slow/stop', {}), { code: 'disk.full' });
  await assert.rejects(bench.client.operation('POST', '/v1/ves/nobody/stop', {}), { code: 've.not_found' });
  bench.work = async () => {};
});

test('a preset stands below what is given beside it; unlimited is no unset', async () => {
  const planning = { preset: () => ({ properties: { 'cpu.limit': 50, 'pids.limit': null } }) } as never;
  assert.deepEqual(withPreset({ planning }, 'small', { 'cpu.limit': null }), { 'cpu.limit': null, 'pids.limit': 'unlimited' });
  await bench.client.operation('POST', '/v1/ves', { name: 'preset', template: 'debian-12', preset: 'small', properties: { 'cpu.limit': '75%' } });
  assert.deepEqual((await bench.client.request<{ set: object }>('GET', '/v1/ves/preset')).set, { 'cpu.limit': 75, 'pids.limit': null });
  await bench.client.operation('PATCH', '/v1/ves/preset/properties', { preset: 'small', changes: {} });
  assert.deepEqual((await bench.client.request<{ set: object }>('GET', '/v1/ves/preset')).set, { 'cpu.limit': 50, 'pids.limit': null });
  await assert.rejects(bench.client.operation('POST', '/v1/ves', { name: 'other', template: 'debian-12', preset: 'none' }), { code: 'preset.not_found' });
});

test('a client that goes away does not cancel its operation', async () => {
  bench.addVe('gone', 'stopped');
  const { promise, resolve } = Promise.withResolvers<void>();
  bench.work = () => promise;
  const socket = connect(bench.socket);
  socket.write('POST /v1/ves/gone/start?wait=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  const [data] = await once(socket, 'data') as [Buffer];
  assert.match(data.toString(), /200 OK/);
  socket.destroy();
  await new Promise((done) => setTimeout(done, 50));
  const [running] = bench.operations.list(1) as [OperationRecord];
  assert.equal(running.state, 'running');
  resolve();
  assert.equal((await bench.operations.wait(running.id)).state, 'succeeded');
  bench.work = async () => {};
});

test('cancel over the API', async () => {
  bench.addVe('stuck', 'stopped');
  bench.work = (task) => new Promise((_resolve, reject) => task.signal.addEventListener('abort', () => reject(task.signal.reason as Error)));
  const record = await bench.client.request<OperationRecord>('POST', '/v1/ves/stuck/start');
  await assert.rejects(bench.client.operation('DELETE', `/v1/operations/${record.id}`), { code: 'operation.cancelled' });
  bench.work = async () => {};
  assert.equal(bench.operations.get(record.id).state, 'cancelled');
});

test('metrics count requests by route and operations by end, and show VEs', async () => {
  bench.addVe('measured', 'running');
  await ask({ method: 'GET', url: '/v1/ves/measured' });
  const text = await bench.client.request<string>('GET', '/metrics');
  assert.match(text, /^veld_http_requests_total\{method="GET",route="\/v1\/ves\/:ve",status="200"\} \d+$/m);
  assert.match(text, /^veld_operations_total\{kind="start",state="succeeded"\} \d+$/m);
  assert.match(text, /^veld_ve_memory_bytes\{ve="measured",number="\d+"\} 2048$/m);
  assert.match(text, /^veld_ve_status\{ve="measured",number="\d+",status="running"\} 1$/m);
  assert.match(text, /^veld_ve_class_transmit_bytes_total\{ve="measured",number="\d+",class="outside"\} 20$/m);
  assert.match(text, /^veld_host_cpus 2$/m);
  assert.match(text, /^veld_promised_memory_bytes \d+$/m);
  assert.match(text, /^veld_ve_swap_bytes\{ve="measured",number="\d+"\} 1$/m);
  assert.match(text, /^veld_ve_limit_memory_bytes\{ve="measured",number="\d+"\} 1073741824$/m);
  assert.doesNotMatch(text, /^veld_ve_disk_reads_total\{/m, 'what is not counted is left out');
  assert.match(text, /^process_resident_memory_bytes \d+$/m);
  for (const line of text.trim().split('\n')) assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{(\w+="([^"\\\n]|\\.)*",?)+\})? -?[\d.e+-]+)$/);
});

test('a daemon that stops takes no new work, and still answers questions', async () => {
  let stopping = false;
  const other = await openBench({ stopping: () => stopping });
  try {
    other.addVe('a');
    stopping = true;
    await assert.rejects(other.client.request('POST', '/v1/ves/a/start'), { code: 'daemon.stopping' });
    assert.equal((await other.client.request<unknown[]>('GET', '/v1/ves')).length, 1);
  } finally {
    await other.close();
  }
  await assert.rejects(other.client.request('GET', '/v1'), { code: 'daemon.unreachable' });
});
