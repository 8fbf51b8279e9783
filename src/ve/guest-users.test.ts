import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { findUser, parseLocale } from './guest-users.ts';

const PASSWD = 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33::/var/www:/usr/sbin/nologin\n1000:x:5:5::/home/odd:/bin/sh\nbroken:x:notanumber:0::/:/bin/sh\nbig:x:99999:0::/:/bin/sh\n';
const GROUP = 'adm:x:4:www-data,root\nssl:x:101:www-data\nodd:x:notanumber:www-data\n';

test('a user is found by name, with its groups', () => {
  assert.deepEqual(findUser('www-data', PASSWD, GROUP), { name: 'www-data', uid: 33, gid: 33, groups: [4, 101], home: '/var/www', shell: '/usr/sbin/nologin' });
});

test('a name wins over a number that looks the same', () => {
  assert.equal(findUser('1000', PASSWD, GROUP).uid, 5);
  assert.equal(findUser('33', PASSWD, GROUP).name, 'www-data');
});

test('ids outside of the range of a VE, and unknown users, are refused', () => {
  assert.throws(() => findUser('big', PASSWD, GROUP), { code: 'request.invalid' });
  assert.throws(() => findUser('broken', PASSWD, GROUP), { code: 'request.invalid' });
  assert.throws(() => findUser('nobody-here', PASSWD, GROUP), { code: 'request.invalid' });
  assert.throws(() => findUser('99999', PASSWD, GROUP), { code: 'request.invalid' });
});

test('root works in a VE without account files', () => {
  assert.equal(findUser('root', '', '').uid, 0);
  assert.equal(findUser('1234', '', '').uid, 1234);
});

test('no content of the account files breaks it or leads out of the range', () => {
  fc.assert(fc.property(fc.string({ unit: 'binary', maxLength: 400 }), fc.string({ unit: 'binary', maxLength: 400 }), (passwd, group) => {
    const user = findUser('0', `x:x:0:0::/:/bin/sh\n${passwd}`, group);
    assert.ok(user.uid <= 65535 && user.gid <= 65535 && user.groups.every((g) => g <= 65535));
  }));
});

test('of a locale file only names of the locale with plain values count', () => {
  assert.deepEqual(parseLocale('# a comment\nLANG="de_DE.UTF-8"\n LC_TIME=C \nLANGUAGE=de:en\r\nPATH=/evil\nLD_PRELOAD=x\nLC_ALL=$(id)\nLC_X=\'a"\n'),
    { LANG: 'de_DE.UTF-8', LC_TIME: 'C', LANGUAGE: 'de:en' });
});
