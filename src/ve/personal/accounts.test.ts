import { test } from 'node:test';
import assert from 'node:assert/strict';
import { addAccount, homeOf, openForKeys, withPassword, type AccountFiles } from './accounts.ts';

const DEBIAN: AccountFiles = {
  passwd: 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n',
  shadow: 'root:*:19000:0:99999:7:::\nwww-data:*:19000:0:99999:7:::\nnobody:*:19000:0:99999:7:::\n',
  group: 'root:x:0:\nadm:x:4:\nsudo:x:27:\nwww-data:x:33:\nnogroup:x:65534:\n',
  gshadow: 'root:*::\nadm:*::\nsudo:*::\nwww-data:*::\nnogroup:*::\n',
};
const alice = { name: 'alice', groups: ['sudo', 'wheel', 'adm'], home: '/home/alice', shell: '/bin/bash' };
const files = (change: Partial<AccountFiles>): AccountFiles => ({ ...DEBIAN, ...change });

test('an account has a row in each file, a group of its own, and no password that anybody has', () => {
  const { files: after, uid, gid, groups } = addAccount(DEBIAN, alice, 20_000);
  assert.deepEqual([uid, gid, groups], [1000, 1000, ['sudo', 'adm']]);
  assert.equal(after.passwd, `${DEBIAN.passwd}alice:x:1000:1000::/home/alice:/bin/bash\n`);
  assert.equal(after.shadow, `${DEBIAN.shadow}alice:*:20000:0:99999:7:::\n`);
  assert.equal(after.group, 'root:x:0:\nadm:x:4:alice\nsudo:x:27:alice\nwww-data:x:33:\nnogroup:x:65534:\nalice:x:1000:\n');
  assert.equal(after.gshadow, 'root:*::\nadm:*::alice\nsudo:*::alice\nwww-data:*::\nnogroup:*::\nalice:!::\n');
});

test('a second one gets the next number that no user and no group has; members stay', () => {
  const one = addAccount(files({ passwd: `${DEBIAN.passwd}old:x:1000:1000::/:/bin/sh\n`, group: `${DEBIAN.group}olds:x:1001:old\n` }), alice, 1);
  assert.equal(one.uid, 1002);
  const two = addAccount(one.files, { ...alice, name: 'bob', passwordHash: '$6$x' }, 1);
  assert.equal(two.uid, 1003);
  assert.match(two.files.group, /^sudo:x:27:alice,bob$/m);
  assert.match(two.files.shadow!, /^bob:\$6\$x:1:/m);
});

test('names that are taken, by a user or a group, are refused, and so is a template without a free number', () => {
  assert.throws(() => addAccount(DEBIAN, { ...alice, name: 'www-data' }, 1), { code: 'personal.invalid', message: /a user www-data already/ });
  assert.throws(() => addAccount(DEBIAN, { ...alice, name: 'sudo' }, 1), { code: 'personal.invalid', message: /a group sudo already/ });
  const full = Array.from({ length: 59_000 }, (_, i) => `u${i}:x:${i + 1000}:0::/:/bin/sh\n`).join('');
  assert.throws(() => addAccount(files({ passwd: full }), alice, 1), { code: 'personal.invalid', message: /no user number free/ });
});

test('lines that are not understood stay, and those of NIS stay last', () => {
  const { files: after } = addAccount(files({ passwd: '# by hand\nroot:x:0:0:root:/root:/bin/sh\n\nodd\n+::::::\n', group: 'root:x:0\nsudo:x\nadm\n+:::', gshadow: undefined }), alice, 1);
  assert.equal(after.passwd, '# by hand\nroot:x:0:0:root:/root:/bin/sh\n\nodd\nalice:x:1000:1000::/home/alice:/bin/bash\n+::::::\n');
  assert.equal(after.group, 'root:x:0\nsudo:x\nadm\nalice:x:1000:\n+:::\n');
  assert.equal(after.gshadow, undefined);
});

test('without shadow(5) the password is in passwd(5)', () => {
  const none = files({ shadow: undefined, gshadow: undefined });
  assert.match(addAccount(none, alice, 1).files.passwd, /^alice:\*:1000:/m);
  assert.match(addAccount(none, { ...alice, passwordHash: '$6$h' }, 1).files.passwd, /^alice:\$6\$h:1000:/m);
  assert.match(withPassword(none, 'root', '$6$h', 1).passwd, /^root:\$6\$h:0:0:root/);
});

test('root gets a password, and its keys do also where it is locked', () => {
  assert.match(withPassword(DEBIAN, 'root', '$6$h', 20_000).shadow!, /^root:\$6\$h:20000:0:99999:7:::\nwww-data:\*:19000/);
  for (const field of ['!', '!!', '!*']) assert.match(openForKeys(files({ shadow: `root:${field}:1:::::\n` }), 'root').shadow!, /^root:\*:1:/);
  for (const field of ['!$6$locked', '$6$own', '', '*']) assert.equal(openForKeys(files({ shadow: `root:${field}:1:::::\n` }), 'root').shadow, `root:${field}:1:::::\n`);
  assert.deepEqual([homeOf(DEBIAN, 'root'), homeOf(DEBIAN, 'nobody'), homeOf(files({ passwd: 'root:x:0:0::/:/bin/sh\n' }), 'root'), homeOf(DEBIAN, 'none')], ['/root', '/nonexistent', undefined, undefined]);
});
