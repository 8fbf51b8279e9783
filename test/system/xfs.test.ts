/** A state folder on XFS, where overlayfs copies ACLs from a layer to an upper as they are on the disk. */
import assert from 'node:assert/strict';
import { cpSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { storageConformance } from '../../src/storage/conformance.ts';
import { createVolumes } from '../../src/storage/volumes.ts';
import { fingerprintOf } from '../../src/templates/tree.ts';
import type { TemplateView } from '../../src/ve/types.ts';
import { mountXfs, whyNoXfs } from '../lib/disk-image.ts';
import { fileInstance, startInstance } from '../lib/instance.ts';
import type { Instance } from '../lib/instance.ts';
import { until } from '../lib/wait.ts';

/** The journal goes to the disk; and a file of another user's. */
const KEEP_JOURNAL = 'mkdir -p /var/log/journal && systemd-tmpfiles --create --prefix /var/log/journal && journalctl --flush; touch /root/file && chown 33:33 /root/file';

const missing = whyNoXfs();
if (missing === undefined) testAll(await fileInstance({ mountState: (stateDir) => mountXfs(`${stateDir}.img`, stateDir), settings: (settings) => { settings.deploy.warm = true; } }));
else test('a state folder on XFS', { skip: missing }, () => {});

function testAll(veld: Instance): void {
  const template = (): Promise<TemplateView> => veld.api.call<TemplateView>('GET', '/v1/templates/test');
  const ok = async (...args: string[]): Promise<void> => {
    const { code, stderr } = await veld.cli(...args);
    assert.equal(code, 0, `veld ${args.join(' ')}: ${stderr}`);
  };
  const said = async (ve: string, command: string): Promise<string> => {
    const { stdout, stderr, exitCode } = await veld.exec(ve, 'sh', '-c', command);
    assert.equal(exitCode, 0, `${command}: ${stderr}`);
    return stdout.trim();
  };
  /** All is up, and the journal, whose files have ACLs, is on the disk and takes lines. */
  const works = async (ve: string): Promise<void> => {
    assert.equal(await said(ve, 'systemctl is-system-running'), 'running', ve);
    const line = `line-of-${ve}-${Date.now()}`;
    assert.match(await said(ve, `logger ${line}; journalctl --sync; journalctl --quiet --directory=/var/log/journal --grep ${line}`), new RegExp(line));
  };

  const other = join(veld.settings.stateDir, 'conformance');
  mkdirSync(other);
  storageConformance('on XFS', (stateDir) => createVolumes({ stateDir }), other);

  test('a template has the fingerprint here that it had where it was built', async () => {
    const [layer = ''] = readdirSync(join(veld.settings.stateDir, 'layers'));
    assert.equal(await fingerprintOf(join(veld.settings.stateDir, 'layers', layer, 'fs')), (await template()).fingerprint);
  });

  test('a VE boots, and leaves its template warm', async () => {
    await veld.createRunning('web');
    assert.equal(await veld.booted('web'), 'running');
    await said('web', KEEP_JOURNAL);
    await works('web');
    await until('the template to be warm', async () => (await template()).warm, 60_000);
  });

  test('a deploy from the warm image works', async () => {
    assert.equal((await veld.createRunning('deployed')).deployed, 'warm');
    assert.equal(await said('deployed', 'systemctl is-system-running'), 'running');
  });

  test('a running VE is cloned, and so is its clone', async () => {
    await ok('clone', '--live', 'web', 'twin');
    await works('twin');
    await ok('clone', '--live', 'twin', 'third');
    for (const ve of ['web', 'twin', 'third']) await works(ve);
    assert.equal(await said('third', 'stat -c %u:%g /root/file; find / -xdev \\( -nouser -o -nogroup \\) | head -1'), '33:33');
  });

  test('snapshots, roll-back, suspend and a boot work', async () => {
    await ok('snapshot', 'create', '--live', 'twin', 'one');
    await said('twin', 'echo later >/root/file');
    await ok('snapshot', 'restore', 'twin', 'one');
    assert.equal(await said('twin', 'cat /root/file'), '');
    await ok('suspend', 'twin');
    await ok('resume', 'twin');
    await works('twin');
    await ok('restart', 'twin');
    assert.equal(await veld.booted('twin'), 'running');
    await works('twin');
  });
  test('a VE comes here in a file from another file system, and is cloned', async () => {
    const file = join(veld.dir, 'mover.checkpoint');
    const from = await startInstance();
    try {
      await from.createRunning('mover');
      await from.booted('mover');
      await from.exec('mover', 'sh', '-c', KEEP_JOURNAL);
      const { code, stderr } = await from.cli('checkpoint', 'mover', '--file', file);
      assert.equal(code, 0, stderr);
      // As from an installation that this one trusts.
      cpSync(join(from.settings.stateDir, 'checkpoint.key'), join(veld.settings.stateDir, 'checkpoint.key'));
    } finally {
      await from.destroy();
    }
    await ok('restore', '--file', file, '--address', `${veld.settings.network.pools[0]!.split('.').slice(0, 3).join('.')}.200`);
    await works('mover');
    await ok('clone', '--live', 'mover', 'moved');
    await works('moved');
    assert.equal(await said('moved', 'stat -c %u:%g /root/file; find / -xdev \\( -nouser -o -nogroup \\) | head -1'), '33:33');
  });
}
