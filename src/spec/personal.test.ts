import { test } from 'node:test';
import assert from 'node:assert/strict';
import { CLOUD_DATA_MAX, checkPersonal, mustBoot, outlineOf, type Personal } from './personal.ts';

const HASH = `$6$abcdefgh$${'a'.repeat(86)}`;
const KEY = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl alice';

test('what is right goes through', () => {
  checkPersonal({});
  checkPersonal({
    users: [{ name: 'alice', sshKeys: [KEY], passwordHash: HASH, sudo: true }, { name: '_b-2' }], root: { sshKeys: [KEY], passwordHash: `$y$j9T$${'a'.repeat(22)}$${'b'.repeat(43)}` },
    locale: 'de_DE.UTF-8@euro', timezone: 'America/Argentina/Buenos_Aires', cloudInit: { userData: '#cloud-config\n', vendorData: '#!/bin/sh\n', networkConfig: 'version: 2\n' },
  });
  for (const timezone of ['UTC', 'Etc/GMT+1', 'GMT-0']) checkPersonal({ timezone });
  for (const locale of ['C', 'C.UTF-8', 'POSIX', 'en_US.utf8']) checkPersonal({ locale });
});

test('what is wrong is told in words', () => {
  const wrong: [Personal, RegExp][] = [
    ...['Alice', '', '1a', 'a:b', 'a\nb', '-a', 'a'.repeat(33), 'a,b', 'a b', 'ALL'].map((name): [Personal, RegExp] => [{ users: [{ name }] }, /cannot be the name of a user/]),
    [{ users: [{ name: 'root' }] }, /root is there/i], [{ users: [{ name: 'a' }, { name: 'a' }] }, /twice/],
    [{ users: [{ name: 'a', sshKeys: [KEY, 'x'] }] }, /Key 2 of a is not of the form/], [{ root: { sshKeys: [`${KEY}\n${KEY}`] } }, /Key 1 of root holds a line break/],
    ...['secret', '$1$abcdefgh$aaaaaaaaaaaaaaaaaaaaaa', `${HASH}:0`, `${HASH}\n`, ''].map((passwordHash): [Personal, RegExp] => [{ root: { passwordHash } }, /strong/]),
    ...['../etc/passwd', '/etc', 'Europe/', 'a//b', 'Europe/Berlin\n', '', 'a/b/c/d', 'posix/../x'].map((timezone): [Personal, RegExp] => [{ timezone }, /time zone/]),
    ...['$(id)', 'a b', 'C.UTF-8\nPATH=/x', '', 'a"b'].map((locale): [Personal, RegExp] => [{ locale }, /locale/]),
    [{ cloudInit: { userData: `#cloud-config\n${'x'.repeat(CLOUD_DATA_MAX)}` } }, /larger than 65536 bytes/], [{ cloudInit: { userData: 'packages: [vim]\n' } }, /begins with nothing/],
    [{ cloudInit: { vendorData: '#!/bin/sh\n\0' } }, /NUL/], [{ cloudInit: { networkConfig: '\u00e9'.repeat(40_000) } }, /network configuration.*larger/],
  ];
  for (const [personal, message] of wrong) assert.throws(() => checkPersonal(personal), { code: 'personal.invalid', message }, JSON.stringify(personal).slice(0, 100));
});

test('only what programs read when they begin needs a boot', () => {
  assert.deepEqual([undefined, { users: [{ name: 'a' }] }, { root: {} }, { cloudInit: {} }].map((personal) => mustBoot(personal)), [false, false, false, false]);
  assert.deepEqual([{ locale: 'C' }, { timezone: 'UTC' }, { cloudInit: { vendorData: '' } }].map((personal) => mustBoot(personal)), [true, true, true]);
});

test('what logs hear of it has no secret', () => {
  const told = JSON.stringify(outlineOf({ users: [{ name: 'alice', sshKeys: [KEY], passwordHash: HASH }], root: { sshKeys: [KEY] }, cloudInit: { userData: '#cloud-config\npassword: x\n' } }));
  assert.equal(told, '{"users":[{"name":"alice","keys":1,"hash":true,"sudo":false}],"root":{"keys":1,"hash":false},"cloudInit":["userData"]}');
});
