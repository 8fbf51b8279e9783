import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import * as fc from 'fast-check';
import { ERRORS, type ErrorBody } from '../lib/errors.ts';
import { openBench, type Bench } from './testing.ts';

let bench: Bench;
before(async () => {
  bench = await openBench();
  bench.addVe('web', 'running');
});
after(() => bench.close());

const POSTS: [method: 'POST' | 'PATCH' | 'DELETE', url: string, keys: string[]][] = [
  ['POST', '/v1/ves', ['name', 'template', 'properties', 'start']],
  ['POST', '/v1/ves/web/start', []],
  ['POST', '/v1/ves/web/stop', ['force', 'timeout']],
  ['POST', '/v1/ves/web/restart', ['force', 'timeout']],
  ['POST', '/v1/ves/web/rename', ['name']],
  ['PATCH', '/v1/ves/web/properties', ['changes', 'nextStart']],
  ['POST', '/v1/ves/nobody/exec', ['command', 'user', 'env', 'cwd', 'stdin']],
  ['POST', '/v1/ves/web/sessions', ['command', 'user', 'env', 'cwd', 'tty']],
  ['POST', '/v1/templates/build', ['suite', 'name', 'include', 'mirror']],
  ['POST', '/v1/templates/import', ['file', 'name']],
  ['DELETE', '/v1/templates/none', []],
  ['DELETE', '/v1/operations/none', []],
];

const hostileKey = fc.constantFrom('__proto__', 'constructor', 'prototype', 'toString', 'hasOwnProperty', '', '\0', 'memory.limit', 'a'.repeat(5000));
const plausible = fc.oneof(fc.constantFrom('web', 'new', 'debian-12', '/x', 'bookworm', '', '\n', '-x', '\ud800'), fc.string({ unit: 'binary' }), fc.boolean(), fc.integer(), fc.double(),
  fc.constant(null), fc.array(fc.string()), fc.dictionary(fc.oneof(hostileKey, fc.string()), fc.jsonValue()), fc.jsonValue());

function body(keys: readonly string[]): fc.Arbitrary<string> {
  const objects = fc.array(fc.tuple(keys.length > 0 ? fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...keys) }, hostileKey) : hostileKey, plausible), { maxLength: 5 })
    // by hand: JSON.stringify would not write a __proto__ that was assigned
    .map((pairs) => `{${pairs.map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value) ?? 'null'}`).join(',')}}`);
  return fc.oneof({ weight: 8, arbitrary: objects }, fc.json(), fc.string({ unit: 'binary' }));
}

test('no body breaks the daemon: each answer is a good one or a declared error, and the next request is served', async () => {
  const document = (await bench.api.inject({ method: 'GET', url: '/v1/openapi.json' })).json<{ paths: Record<string, Record<string, { responses: object }>> }>();
  const declared = (method: string, url: string): string[] => {
    const path = url.replace(/^\/v1\/ves\/\w+/, '/v1/ves/{ve}').replace(/^\/v1\/(templates|operations)\/none/, (_all, kind: string) => `/v1/${kind}/{${kind === 'templates' ? 'template' : 'id'}}`);
    return Object.keys(document.paths[path]![method.toLowerCase()]!.responses);
  };
  for (const [method, url, keys] of POSTS) {
    const statuses = declared(method, url);
    await fc.assert(fc.asyncProperty(body(keys), async (payload) => {
      const answer = await bench.api.inject({ method, url, payload, headers: { 'content-type': 'application/json' } });
      const { error } = answer.json<{ error?: ErrorBody }>();
      if (answer.statusCode >= 300) {
        assert.ok(error && error.code in ERRORS, answer.body);
        assert.notEqual(error.code, 'internal', answer.body);
      }
      assert.ok(statuses.includes(String(answer.statusCode)), `${method} ${url}: ${answer.statusCode} is not declared: ${answer.body}`);
      assert.ok(answer.statusCode < 500 || error?.code === 'daemon.overloaded', answer.body);
    }), { numRuns: 60 });
  }
  assert.equal((await bench.api.inject({ method: 'GET', url: '/v1' })).statusCode, 200);
  assert.deepEqual(Object.keys({}), []);
  assert.equal(({} as Record<string, unknown>).limit, undefined);
});

test('no path and no query breaks the daemon', async () => {
  await fc.assert(fc.asyncProperty(fc.constantFrom('/v1/ves/', '/v1/templates/', '/v1/operations/', '/v1/sessions/', '/v1/operations?limit=', '/v1/ves/web/logs?tail=', '/'),
    fc.oneof(fc.string({ unit: 'binary' }), fc.constantFrom('__proto__', 'constructor', '..', '%2e%2e%2f', '%00', '%', '?', 'web?x', 'x'.repeat(9000))), fc.boolean(), async (start, rest, encode) => {
      const url = start + (encode ? encodeURIComponent(rest.toWellFormed()) : rest.replaceAll(/[^!-~]/gu, ''));
      const answer = await bench.api.inject({ method: 'GET', url });
      assert.ok(answer.statusCode < 500, `${url}: ${answer.body}`);
      if (answer.statusCode >= 300) assert.ok(answer.json<{ error: ErrorBody }>().error.code in ERRORS);
    }), { numRuns: 300 });
});
