import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import fc from 'fast-check';
import { VeldError } from '../../lib/errors.ts';
import { member, pax } from './test-tar.ts';
import { TarFilter, trailer, type FilterRules } from './tar-filter.ts';

const FROM_VE: FilterRules = { strip: true, devices: false };
const ZEROS = Buffer.alloc(1024);
const ROOT = member({ name: 'd/', type: '5', mode: 0o755 });

/** What comes out of it, fed in chunks of `size` bytes. */
function pass(stream: Buffer, rules: FilterRules = FROM_VE, size = 700): Buffer {
  const filter = new TarFilter(rules);
  const out: Buffer[] = [];
  for (let at = 0; at < stream.length; at += size) out.push(...filter.write(stream.subarray(at, at + size)));
  filter.end();
  return Buffer.concat(out);
}

function list(tar: Buffer): string {
  return spawnSync('tar', ['--list', '--verbose', '--numeric-owner', '--file=-'], { input: Buffer.concat([tar, trailer(true)]), encoding: 'utf8' }).stdout;
}

test('an honest tree passes unchanged but for its end, whatever the chunks', () => {
  const tree = Buffer.concat([ROOT, member({ name: 'd/a', content: 'hello' }), pax({ path: `d/${'x'.repeat(200)}`, 'SCHILY.xattr.user.note': 'hi' }), member({ name: 'd/x', content: 'long' }),
    member({ name: 'd/l', type: '2', link: '../../etc/passwd' }), member({ name: 'd/h', type: '1', link: 'd/a' }), member({ name: 'd/p', type: '6' })]);
  for (const size of [1, 511, 512, 513, 100_000]) assert.deepEqual(pass(Buffer.concat([tree, ZEROS, Buffer.alloc(7000)]), FROM_VE, size), tree);
  assert.match(list(tree), /d\/h link to d\/a[\s\S]* end\n$/);
});

test('what would give power on this side is taken away from files', () => {
  const tree = Buffer.concat([ROOT, member({ name: 'd/su', mode: 0o6755, content: 'x' }), pax({ 'SCHILY.xattr.security.capability': 'c'.repeat(20), 'SCHILY.xattr.user.keep': 'me' }),
    member({ name: 'd/cap', mode: 0o755 }), member({ name: 'd/shared', type: '5', mode: 0o3777 }), ZEROS]);
  const passed = pass(tree);
  assert.match(list(passed), /-rwxr-xr-x \S+ +1 .* d\/su\n/);
  assert.match(list(passed), /drwxrwsrwt .* d\/shared/);
  assert.equal(passed.includes('security.capability'), false);
  assert.equal(passed.includes('user.keep'), true);
  assert.match(list(pass(tree, { strip: false, devices: false })), /-rwsr-sr-x .* d\/su\n/);
});

const HOSTILE: [what: string, stream: Buffer[], says: RegExp][] = [
  ['a path with ..', [ROOT, member({ name: 'd/../../etc/evil' })], /outside/],
  ['an absolute path', [ROOT, member({ name: '/etc/evil' })], /outside/],
  ['another root', [ROOT, member({ name: 'e/evil' })], /outside/],
  ['another root first', [member({ name: 'end' })], /outside/],
  ['something below a root that is a link', [member({ name: 'd', type: '2', link: '/etc' }), member({ name: 'd/evil' })], /more than the one file/],
  ['a second file', [member({ name: 'd' }), member({ name: 'd' })], /more than the one file/],
  ['a hard link to outside', [ROOT, member({ name: 'd/h', type: '1', link: '/etc/shadow' })], /outside/],
  ['a hard link with ..', [ROOT, member({ name: 'd/h', type: '1', link: 'd/../../x' })], /outside/],
  ['a path in an extended header', [ROOT, pax({ path: '../evil' }), member({ name: 'd/ok' })], /outside/],
  ['of two paths the first', [ROOT, pax({ path: 'd/ok', 'GNU.sparse.name': '/evil' }), member({ name: 'd/ok' })], /outside/],
  ['a link in an extended header', [ROOT, pax({ linkpath: '/etc/shadow' }), member({ name: 'd/h', type: '1', link: 'd/ok' })], /outside/],
  ['a long name of GNU', [ROOT, member({ name: '././@LongLink', type: 'L', content: '/evil\0' }), member({ name: 'd/ok' })], /outside/],
  ['a block device', [ROOT, member({ name: 'd/sda', type: '4' })], /device node/],
  ['a character device', [ROOT, member({ name: 'd/mem', type: '3' })], /device node/],
  ['a global header', [ROOT, pax({ path: '/evil' }, 'g')], /type "g"/],
  ['an old sparse file', [ROOT, member({ name: 'd/s', type: 'S' })], /type "S"/],
  ['a volume', [member({ name: 'x', type: 'V' })], /type "V"/],
  ['a folder with content', [ROOT, member({ name: 'd/x', type: '5', content: 'x'.repeat(600) })], /with content/],
  ['a wrong checksum', [ROOT, Buffer.alloc(512, 'x')], /checksum|broken/],
  ['entries behind the end', [ROOT, Buffer.alloc(512), member({ name: 'd/x' })], /behind its end/],
  ['no end', [ROOT, member({ name: 'd/x' })], /cut off/],
  ['half a file', [ROOT, member({ name: 'd/x', content: 'x'.repeat(2000) }).subarray(0, 1024)], /cut off/],
  ['nothing', [ZEROS], /cut off/],
];

for (const [what, stream, says] of HOSTILE) {
  test(`refused: ${what}`, () => {
    // Where the end is not the matter, there is one.
    const whole = /no end|half|nothing/.test(what) ? stream : [...stream, ZEROS];
    assert.throws(() => pass(Buffer.concat(whole)), (error) => error instanceof VeldError && error.code === 'path.refused' && says.test(error.message));
  });
}

test('any bytes: an answer or a refusal, never another error', () => {
  const block = fc.oneof(fc.constant(ROOT), fc.constant(Buffer.alloc(512)), fc.uint8Array({ minLength: 512, maxLength: 512 }).map((bytes) => Buffer.from(bytes)),
    fc.record({ name: fc.string({ maxLength: 90 }), type: fc.constantFrom('0', '1', '5', 'x', 'L', 'K'), content: fc.string({ maxLength: 600 }) }).map(member));
  fc.assert(fc.property(fc.array(block, { maxLength: 6 }), (blocks) => {
    try {
      pass(Buffer.concat(blocks));
    } catch (error) {
      assert.ok(error instanceof VeldError && error.code === 'path.refused', String(error));
    }
  }), { numRuns: 500 });
});
