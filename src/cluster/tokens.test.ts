import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { isProof, keyOf, makeToken, proofOf, tokenFromWord, tokenToWord } from './tokens.ts';

const hex = (length: number) => fc.stringMatching(new RegExp(`^[0-9a-f]{${length}}$`));

test('a token is one word, and comes back from it whole', () => {
  fc.assert(fc.property(hex(64), fc.stringMatching(/^[a-z0-9.-]{1,60}:[0-9]{1,5}$/), (fingerprint, address) => {
    const token = makeToken(address, fingerprint);
    const word = tokenToWord(token);
    assert.match(word, /^[A-Za-z0-9_-]+$/);
    assert.deepEqual(tokenFromWord(` ${word}\n`), token);
    assert.ok(token.secret.length >= 16);
  }), { numRuns: 50 });
});

test('a word that was changed anywhere, cut, or is something else is none', () => {
  const word = tokenToWord(makeToken('192.0.2.1:7430', 'ab'.repeat(32)));
  fc.assert(fc.property(fc.integer({ min: 0, max: word.length - 1 }), fc.stringMatching(/^[A-Za-z0-9_-]$/), (at, letter) => {
    const changed = word.slice(0, at) + letter + word.slice(at + 1);
    if (changed !== word) assert.throws(() => tokenFromWord(changed), { code: 'node.token_invalid' });
    assert.throws(() => tokenFromWord(word.slice(0, at)), { code: 'node.token_invalid' });
  }));
  fc.assert(fc.property(fc.string({ maxLength: 2000 }), (text) => assert.throws(() => tokenFromWord(text), { code: 'node.token_invalid' })));
});

test('a proof holds for one secret, both authorities and one connection', () => {
  const [one, other] = [makeToken('a:1', 'aa'.repeat(32)), makeToken('a:1', 'aa'.repeat(32))];
  const context = { asking: 'aa', asked: 'bb', channel: Buffer.from('x') };
  const proof = proofOf(keyOf(one.secret), context);
  assert.ok(isProof(proof, keyOf(one.secret), context));
  assert.equal(isProof(proof, keyOf(other.secret), context), false);
  for (const change of [{ asking: 'ac' }, { asked: 'ba' }, { asking: 'bb', asked: 'aa' }, { channel: Buffer.from('y') }]) assert.equal(isProof(proof, keyOf(one.secret), { ...context, ...change }), false);
  assert.equal(isProof('', keyOf(one.secret), context), false);
});
