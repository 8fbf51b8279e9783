import { test } from 'node:test';
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { keyFault, looksLikeKey } from './ssh-keys.ts';

/** `string` of RFC 4251. */
const text = (data: string | Uint8Array): Buffer => {
  const content = Buffer.from(data as string);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(content.length);
  return Buffer.concat([length, content]);
};
const secret = Buffer.from((generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' }) as { x: string }).x, 'base64url');
const blob = Buffer.concat([text('ssh-ed25519'), text(secret)]).toString('base64');
const key = `ssh-ed25519 ${blob} alice@example.org`;

test('a key is one with and without a comment', () => {
  for (const line of [key, `ssh-ed25519 ${blob}`, `ssh-ed25519 ${blob} Alice of R\u00e9union`]) assert.equal(keyFault(line), undefined, line);
  assert.ok(looksLikeKey(key) && looksLikeKey('sk-ssh-ed25519@openssh.com AAAA') && !looksLikeKey('/root/.ssh/id_ed25519.pub') && !looksLikeKey('ssh-keys.pub'));
});

test('what is none is told apart', () => {
  const faults: [string, RegExp][] = [
    ['', /not of the form/], ['ssh-ed25519', /not of the form/], ['hello world', /of the type "hello"/], ['ssh-dss AAAA', /of the type/],
    [`ssh-ed25519 ${blob.slice(0, 40)}`, /damaged/], [`ssh-ed25519 ${blob.slice(0, 40)}!`, /base64/], [`ssh-rsa ${blob}`, /another type/], ['ssh-ed25519 AAAA', /damaged/],
    [`command="sh" ${key}`, /of the type/], [`${key}\nssh-ed25519 ${blob}`, /line break/], [`${key}\u0000`, /control/], [`ssh-ed25519-cert-v01@openssh.com ${blob}`, /of the type/],
    ['-----BEGIN OPENSSH PRIVATE KEY-----', /private key/], [`${key}${'a'.repeat(9000)}`, /longer/],
  ];
  for (const [line, fault] of faults) assert.match(keyFault(line) ?? '', fault, line.slice(0, 80));
});
