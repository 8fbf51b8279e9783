/** Published ports of real VEs, with a client outside the host. The maps themselves: src/network/publish.test.ts. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { createServer } from 'node:net';
import { test } from 'node:test';
import { ERRORS } from '../../src/lib/errors.ts';
import { fileInstance } from '../lib/instance.ts';
import { outsideOf } from '../lib/outside.ts';
import { askFrom, serveGreeting } from '../lib/tcp.ts';
import { until } from '../lib/wait.ts';

const veld = await fileInstance();
const outside = await outsideOf(veld);

/** What the VE says to a client outside, or the error. */
const greeting = (port: number, host = outside.host4): Promise<string> => outside.ask<string>('connect', host, port);
const greeted = (port: number, host?: string): Promise<unknown> => until(`an answer on port ${port}`, async () => (await greeting(port, host)) === 'greetings from web', 15_000, 50);

await veld.createRunning('other');
const created = await veld.cli('create', 'web', '--template', 'test', '--start', '--publish', '8080:80', '-p', '8000-8001:80-81/tcp');
assert.equal(created.code, 0, created.stderr);
await veld.booted('web');
await serveGreeting(veld, 'web', 80);

test('clients outside, the host, other VEs and the VE itself reach it', async () => {
  await greeted(8080);
  await greeted(8080, outside.host6);
  await greeted(8000);
  for (const ve of ['other', 'web']) assert.equal(await askFrom(veld, ve, outside.host4, 8080), 'greetings from web\n', ve);
  const host = spawnSync('bash', ['-c', `exec 3<>/dev/tcp/${outside.host4}/8080 && cat <&3`], { encoding: 'utf8', timeout: 5000 });
  assert.equal(host.stdout, 'greetings from web\n');
});

test('a port that is taken is refused: by another VE, also one that is stopped, or by a program', async () => {
  const refused = async (...words: string[]): Promise<string> => {
    const { code, stderr } = await veld.cli(...words);
    assert.equal(code, ERRORS['port.taken'].exit, `${words.join(' ')}: ${stderr}`);
    return stderr;
  };
  assert.match(await refused('publish', 'other', '8080:80'), /the VE web has published 8080:80\/tcp/);
  assert.match(await refused('create', 'third', '--template', 'test', '-p', '7999-8000:1-2'), /web has published 8000-8001:80-81\/tcp/);
  assert.equal((await veld.list()).length, 2);
  const server = createServer().listen(0, '0.0.0.0');
  try {
    await until('the listener', () => server.listening);
    const { port } = server.address() as { port: number };
    assert.match(await refused('set', 'other', `network.publish=${port}:80`), /a program of the host listens on 0\.0\.0\.0/);
  } finally {
    server.close();
  }
  assert.deepEqual((await veld.show('other')).properties['network.publish'], []);
});

test('publish and unpublish hold at once', async () => {
  assert.equal((await veld.cli('publish', 'web', '8090:80')).stdout, 'web publishes 8080:80/tcp, 8000-8001:80-81/tcp, 8090:80/tcp\n');
  await greeted(8090);
  assert.equal((await veld.cli('unpublish', 'web', '8090:80', '8000-8001:80-81')).code, 0);
  assert.equal(await greeting(8090), 'ECONNREFUSED');
  assert.equal(await greeting(8000), 'ECONNREFUSED');
  await greeted(8080);
  assert.equal((await veld.cli('unpublish', 'web', '8090:80')).code, ERRORS['property.invalid'].exit);
  assert.equal((await veld.cli('publish', 'web', '80')).code, ERRORS['property.invalid'].exit);
});

test('it lasts while the daemon is dead, and the next one has it too', async () => {
  await veld.kill9();
  await greeted(8080);
  await veld.start();
  await greeted(8080);
});

test('its port follows a VE to other addresses', async () => {
  const { addresses } = await veld.show('web');
  const moved = addresses.map((address) => (address.includes(':') ? address.replace(/[^:]*$/, '77') : address.replace(/\d+$/, '77')));
  assert.equal((await veld.cli('set', 'web', `network.addresses=${moved.join(',')}`)).code, 0);
  await greeted(8080);
  await greeted(8080, outside.host6);
});

test('the table that somebody removed comes back with all that was in it', async () => {
  assert.equal(spawnSync('nft', ['delete', 'table', 'inet', `veld_${veld.name}`]).status, 0);
  await greeted(8080);
  await until('the daemon to say so', () => /parts of the network of VEs were gone/.test(veld.daemonLog()));
});

test('a stopped VE refuses, keeps its port, and has it again when it starts', async () => {
  assert.equal((await veld.cli('stop', 'web')).code, 0);
  assert.equal(await greeting(8080), 'ECONNREFUSED');
  assert.equal((await veld.cli('publish', 'other', '8080:80')).code, ERRORS['port.taken'].exit);
  assert.equal((await veld.cli('start', 'web')).code, 0);
  await veld.booted('web');
  await serveGreeting(veld, 'web', 80);
  await greeted(8080);
});

test('a destroyed VE gives its port back, and leaves nothing', async () => {
  assert.equal((await veld.cli('destroy', 'web', '--force', '--yes')).code, 0);
  assert.equal(await greeting(8080), 'ECONNREFUSED');
  assert.doesNotMatch(spawnSync('nft', ['list', 'table', 'inet', `veld_${veld.name}`], { encoding: 'utf8' }).stdout, /8080/);
  assert.equal((await veld.cli('publish', 'other', '8080:80')).code, 0);
});
