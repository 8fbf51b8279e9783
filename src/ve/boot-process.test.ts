import assert from 'node:assert/strict';
import { test } from 'node:test';
import { resolveProperties } from '../spec/properties.ts';
import { bootProcess } from './boot-process.ts';
import { findUser } from './guest-users.ts';

interface Process { args: string[]; cwd: string; user: { uid: number; gid: number; additionalGids?: number[] }; env: string[]; capabilities: Record<string, string[]> }

const PASSWD = 'root:x:0:0:root:/root:/bin/bash\nwww-data:x:33:33:www-data:/var/www:/usr/sbin/nologin\n';

test('without a command the init of the template is booted, as root', () => {
  const made = bootProcess('u', resolveProperties({ 'boot.env': ['A=1'], 'boot.user': '33' }), findUser('root', '', '')) as Process;
  assert.deepEqual([made.args, made.cwd, made.user], [['/sbin/init'], '/', { uid: 0, gid: 0 }]);
  assert.ok(made.env.includes('container=lxc') && made.env.includes('container_uuid=u') && !made.env.includes('A=1'));
  assert.ok(made.capabilities.effective!.includes('CAP_NET_ADMIN'));
});

test('a command runs under Veld\'s init, as its user, without capabilities unless that is root', () => {
  const properties = resolveProperties({ 'boot.command': ['server', '--port', '80'], 'boot.cwd': '/srv', 'boot.env': ['A=1', 'HOME=/elsewhere', 'A=2', 'B=x=y', 'EMPTY='] });
  const made = bootProcess('u', properties, findUser('www-data', PASSWD, 'web:x:44:www-data\n')) as Process;
  assert.deepEqual(made.args, ['/run/veld/init', '--', 'server', '--port', '80']);
  assert.deepEqual([made.cwd, made.user], ['/srv', { uid: 33, gid: 33, additionalGids: [44] }]);
  for (const line of ['A=2', 'B=x=y', 'EMPTY=', 'HOME=/elsewhere', 'USER=www-data']) assert.ok(made.env.includes(line), line);
  assert.equal(made.env.filter((line) => /^(A|HOME)=/.test(line)).length, 2, 'each name once');
  assert.deepEqual([made.capabilities.effective, made.capabilities.permitted], [[], []]);
  const root = bootProcess('u', properties, findUser('root', PASSWD, '')) as Process;
  assert.ok(root.capabilities.effective!.length > 0);
});
