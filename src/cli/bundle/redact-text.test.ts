import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LAST_WORDS } from '../../lib/last-words.ts';
import { redactText } from './redact-text.ts';

test('what looks like a secret goes, in the forms in which it comes', () => {
  const forms = [
    'password=HIDDEN', 'DB_PASSWORD=HIDDEN', '"password": "HIDDEN"', '"password":"a \\" HIDDEN"', '{\\"apiKey\\":\\"HIDDEN\\"}', "token: 'HIDDEN'", 'mysql --password HIDDEN', '--token=HIDDEN',
    'https://user:HIDDEN@mirror.example/debian', 'Authorization: Bearer HIDDEN1234', '"authorization":"Basic SElEREVO HIDDEN"', 'curl -H Bearer HIDDENabc', 'Cookie: a=1; session=HIDDEN', 'client_secret : HIDDEN',
    '-----BEGIN OPENSSH PRIVATE KEY-----\nHIDDEN\n-----END OPENSSH PRIVATE KEY-----', 'aws_access_key_id=HIDDEN', 'cookie=HIDDEN;',
    `The init died with status 1; ${LAST_WORDS} login: HIDDEN / more HIDDEN`, `{"message":"died; ${LAST_WORDS} a \\"b\\" HIDDEN"}`,
  ];
  for (const form of forms) {
    const text = redactText(`before ${form}\nafter`);
    assert.doesNotMatch(text, /HIDDEN/, form);
    assert.match(text, /^before [^]*\nafter$/, form);
  }
});

test('JSON stays JSON', () => {
  const text = JSON.stringify({ password: 'HIDDEN', line: JSON.stringify({ token: 'HIDDEN', next: 1 }), url: 'http://a:HIDDEN@b/', message: `died; ${LAST_WORDS} "HIDDEN"`, key: '-----BEGIN PRIVATE KEY-----\nHIDDEN' });
  const value = JSON.parse(redactText(text)) as Record<string, string>;
  assert.deepEqual(JSON.parse(value.line!), { token: '[redacted]', next: 1 });
  assert.doesNotMatch(JSON.stringify(value), /HIDDEN/);
});

test('a key whose end was cut off goes to the end', () => {
  assert.equal(redactText('before -----BEGIN PRIVATE KEY-----\nHIDDEN\nHIDDEN'), 'before [redacted]');
});

test('what says something about the machine stays', () => {
  const facts = [
    'inet 10.187.0.2/32 scope global eth0', '"memory.limit": 1073741824', 'https://mirror.example.org/debian trixie InRelease', 'tokens_per_second', 'CONFIG_KEYS=y', 'net.ipv4.ip_forward = 1',
    'meta nftrace set 1 tcp dport { 22, 80 } accept', 'link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff', 'basic target reached', 'basic.target', '[  OK  ] Reached target basic.target - Basic System.',
  ];
  for (const fact of facts) assert.equal(redactText(fact), fact);
});

test('a megabyte of anything takes no longer than a moment', () => {
  const began = performance.now();
  for (const piece of ['password', 'a-b.c_d', '\\"', 'token: "', '-----BEGIN PRIVATE KEY', '--pass ', 'x://y:', ':', 'a', ' ', '\\', '"', '-----BEGIN ']) redactText(piece.repeat(Math.ceil((1 << 20) / piece.length)));
  assert.ok(performance.now() - began < 60_000, 'minutes mean that some pattern is not linear');
});
