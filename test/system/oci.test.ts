/** Application images: pulled from a layout, and VEs that run their command. */
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { makeLayout } from '../../src/templates/oci/testing.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { TEMPLATE } from '../lib/cache.ts';
import { fileInstance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';
import { wordsWith } from '../lib/words.ts';

const veld = await fileInstance();
const { ok, refused, said } = wordsWith(veld);
const empty = veld.traces();
const layout = join(veld.dir, 'layout');

test('an image is pulled, and a VE of it runs its command, as its user, in its folder, with its environment', async () => {
  const { layers: [layer] } = await veld.json<TemplateView>('template', 'show', TEMPLATE);
  const system = join(veld.settings.stateDir, 'layers', layer!.id, 'fs');
  // A shell and what it needs; the second layer takes away what the first has.
  makeLayout(layout, `cd ${system}; mkdir -p "$1/srv" "$2/srv" "$1/tmp"; chmod 1777 "$1/tmp"; cp -a --parents bin sbin lib lib64 usr/bin/dash usr/bin/sh usr/bin/sleep usr/bin/cat usr/bin/id usr/lib64 usr/lib/*/ld-linux-*.so.* usr/lib/*/libc.so.6 usr/lib/*/libselinux.so.1 usr/lib/*/libpcre2-8.so.0* etc/passwd etc/group "$1"
    echo old >"$1/srv/old"; : >"$2/srv/.wh.old"; echo new >"$2/srv/new"`, ['--config.entrypoint', '/bin/sh', '--config.entrypoint', '-c', '--config.cmd', 'echo "$GREETING from $(pwd) as $(id -u)"; exec sleep 1000', '--config.env', 'GREETING=hello', '--config.env', 'PATH=/usr/bin:/bin', '--config.workingdir', '/srv', '--config.user', 'www-data:www-data']);
  await refused(2, /is no image/, 'template', 'pull', 'oci:layout');
  assert.match(await ok('template', 'pull', `oci:${layout}:app`, '--name', 'greeter'), /template greeter is here/);
  assert.deepEqual(readdirSync(join(veld.settings.stateDir, 'cache')).filter((name) => name.startsWith('oci')), []);
  await refused(16, /There is a template named greeter already/, 'template', 'pull', `oci:${layout}:app`, '--name', 'greeter');
  await ok('create', 'one', '--template', 'greeter', '--start');
  await until('its words', async () => (await veld.cli('logs', 'one')).stdout.includes('hello from /srv as 33'), 20_000);
  assert.equal((await veld.show('one')).status, 'running');
  assert.equal(await said('one', 'cat /srv/new; echo /srv/*'), 'new\n/srv/new');
  assert.equal((await veld.json<{ properties: Record<string, unknown> }>('show', 'one')).properties['boot.user'], 'www-data');
});

test('what is asked for goes before the image; a clone keeps what it is', async () => {
  await ok('create', 'two', '--template', 'greeter', '--start', '-e', 'GREETING=bye', '-e', 'PATH=/usr/bin', '--', '/bin/sh', '-c', 'echo "$GREETING, $(pwd)"; exec sleep 1000');
  await until('its words', async () => (await veld.cli('logs', 'two')).stdout.includes('bye, /srv'), 20_000);
  await ok('stop', 'two');
  await ok('clone', 'two', 'three');
  await ok('start', 'three');
  await until('its words', async () => (await veld.cli('logs', 'three')).stdout.includes('bye, /srv'), 20_000);
  await ok('destroy', '--force', 'one', 'two', 'three');
  assert.deepEqual(veld.traces(), empty);
});

test('a daemon that dies in between leaves nothing half done', async () => {
  await ok('template', 'delete', 'greeter');
  const before = readdirSync(join(veld.settings.stateDir, 'layers')).toSorted();
  for (const point of ['oci.brought', 'oci.unpacked']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    assert.notEqual((await veld.cliAcross(['template', 'pull', `oci:${layout}:app`])).code, 0);
    await until('what was half made to go', () => JSON.stringify(readdirSync(join(veld.settings.stateDir, 'layers')).toSorted()) === JSON.stringify(before), 20_000, 100);
  }
  assert.match(await ok('template', 'pull', `oci:${layout}:app`), /template layout-app is here/);
  assert.deepEqual(readdirSync(join(veld.settings.stateDir, 'cache')).filter((name) => name.startsWith('oci')), []);
});
