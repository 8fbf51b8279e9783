/** ./quickstart --remove: takes away what quickstart and the daemon made on this machine, and no more. */
import { existsSync, lstatSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseArgs } from 'node:util';
import { createClient } from '../../src/client/client.ts';
import { installRoot } from '../../src/kernel/install-root.ts';
import { restoreHostLimits } from '../../src/kernel/host-limits.ts';
import { endReplacedLxcfs, stopLxcfs } from '../../src/kernel/lxcfs.ts';
import { mountsBelow } from '../../src/kernel/mounts.ts';
import { VeldError, toVeldError } from '../../src/lib/errors.ts';
import { readIfExists } from '../../src/lib/files.ts';
import { run } from '../../src/lib/run.ts';
import { DEFAULT_SETTINGS_FILE, loadSettings, type Settings } from '../../src/lib/settings.ts';
import { createNetwork } from '../../src/network/network.ts';
import { createNameService } from '../../src/network/resolver.ts';
import { createResources } from '../../src/resources/resources.ts';
import type { PoolView, VeView } from '../../src/ve/types.ts';
import { removeFiles } from './files.ts';
import { PACKAGES_FILE, readRecord, writeRecord } from './record.ts';
import { isDaemonUp, removeUnits, startDaemon, stopDaemon } from './service.ts';

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function remove(settings: Settings, purge: boolean, yes: boolean): Promise<void> {
  const made = readRecord(settings.stateDir);
  const packages = readIfExists(PACKAGES_FILE)?.split('\n').filter((name) => /^[a-z0-9][a-z0-9.+-]+$/.test(name)) ?? [];
  say(`This stops all VEs of the installation ${settings.instance} and its daemon${purge ? `, and DESTROYS the VEs, templates and everything in ${settings.stateDir}` : ''}.`);
  if (!purge) say(`The VEs and all else in ${settings.stateDir} stay.`);
  if (!yes && !(await confirmed(purge ? 'Type "purge" to go on: ' : 'Go on? [y/N] ', purge ? /^purge$/ : /^y(es)?$/i))) throw new VeldError('operation.cancelled', 'Nothing was removed.');

  const pools = await stopVes(settings, purge);
  await stopDaemon(settings);
  say('The daemon is stopped.');
  for (const path of pools) await run('/bin/umount', ['--', path], { allow: true });
  await stopLxcfs(settings.runDir);
  await createNameService({ settings, records: () => [], groups: () => [] }).stop();
  endReplacedLxcfs(settings.runDir);
  // Whatever the daemon had put on the host under the installation's name.
  await createNetwork(settings).teardown();
  await createResources({ instance: settings.instance, runDir: settings.runDir }).teardown();
  restoreHostLimits(settings.runDir);
  await removeUnits(made);
  for (const link of made.links) {
    if (lstatSync(link, { throwIfNoEntry: false })?.isSymbolicLink() && readlinkSync(link).startsWith(`${installRoot()}/`)) rmSync(link);
  }
  removeFiles(made);
  rmSync(settings.runDir, { recursive: true, force: true });
  if (made.group !== null) await run('/usr/sbin/groupdel', ['--', made.group], { allow: true });
  if (purge) {
    rmSync(settings.stateDir, { recursive: true, force: true });
    rmSync(settings.log.file, { force: true });
    rmSync(dirname(settings.log.file), { recursive: true, force: true });
    // A settings file elsewhere was named by hand, and is its user's.
    if (!process.env.VELD_SETTINGS) rmSync(DEFAULT_SETTINGS_FILE, { force: true });
  } else {
    writeRecord(settings.stateDir, { links: [], files: [], folders: [], units: [], group: null });
  }
  say(purge ? 'Everything of this installation is gone.' : `What stays is in ${settings.stateDir}; ./quickstart brings it back.`);
  if (settings.instance === 'main') await removePackages(packages);
}

/** Ask on the terminal; without one the answer is no. */
async function confirmed(question: string, answer: RegExp): Promise<boolean> {
  if (!process.stdin.isTTY) {
    say('There is no terminal to ask on: add --yes.');
    return false;
  }
  const lines = createInterface({ input: process.stdin, output: process.stdout });
  try {
    return answer.test((await lines.question(question)).trim());
  } finally {
    lines.close();
  }
}

/** @returns where images of pools, and of VEs on them, are mounted; these stay */
async function stopVes(settings: Settings, purge: boolean): Promise<string[]> {
  if (!existsSync(settings.stateDir)) return [];
  // Only the daemon knows how to end a VE: one that is down is started for it.
  if (!(await isDaemonUp(settings))) await startDaemon(installRoot(), settings);
  const client = createClient(settings.socket);
  const ves = await client.request<VeView[]>('GET', '/v1/ves');
  await Promise.all(ves.map(async ({ name, status }) => {
    if (purge) await client.operation('DELETE', `/v1/ves/${name}?force=true`);
    else if (status !== 'stopped' && status !== 'failed') await client.operation('POST', `/v1/ves/${name}/stop`, {});
    else return;
    say(`${name} is ${purge ? 'destroyed' : 'stopped'}.`);
  }));
  const pools = (await client.request<PoolView[]>('GET', '/v1/pools')).filter(({ createdAt }) => createdAt !== null);
  for (const { name } of purge ? pools : []) await client.operation('DELETE', `/v1/pools/${name}`);
  // Of a pool in a folder only images of VEs are Veld's: the folder may be a mount of the administrator's.
  return purge ? [] : pools.filter(({ room }) => room !== null).flatMap(({ path, image, driver }) => (image !== null ? [path] : driver === 'image' ? mountsBelow(join(path, 'disks')) : []));
}

/** Remove the packages that quickstart installed, unless something that came later needs them. */
async function removePackages(packages: string[]): Promise<void> {
  const there = packages.filter((name) => existsSync(`/var/lib/dpkg/info/${name}.list`) || isInstalled(name));
  if (there.length > 0) {
    const { stdout } = await run('/usr/bin/apt-get', ['-s', 'remove', ...there], { allow: true });
    const others = [...stdout.matchAll(/^Remv (\S+)/gm)].map(([, name = '']) => name.split(':')[0] ?? '').filter((name) => !packages.includes(name));
    if (others.length > 0) {
      say(`The packages that quickstart installed stay, since ${others.slice(0, 5).join(', ')} need them: ${there.join(' ')}`);
      return;
    }
    await run('/usr/bin/apt-get', ['remove', '-y', '-qq', ...there], { env: { DEBIAN_FRONTEND: 'noninteractive' } });
    say(`Removed the packages that quickstart had installed: ${there.join(' ')}`);
  }
  rmSync(PACKAGES_FILE, { force: true });
}

/** Packages of several architectures have their list under NAME:ARCH. */
function isInstalled(name: string): boolean {
  return new RegExp(`^Package: ${name.replaceAll(/[.+]/g, '\\$&')}\\nStatus: install ok installed$`, 'm').test(readFileSync('/var/lib/dpkg/status', 'utf8'));
}

const { values } = parseArgs({ options: { remove: { type: 'boolean' }, purge: { type: 'boolean' }, yes: { type: 'boolean', short: 'y' } } });
try {
  await remove(loadSettings(), Boolean(values.purge), Boolean(values.yes));
} catch (thrown) {
  const error = toVeldError(thrown);
  process.stderr.write(`quickstart: ${error.message}\nHint: ${error.hint}\n`);
  process.exit(error.exit);
}
