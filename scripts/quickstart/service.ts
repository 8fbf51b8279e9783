/** The daemon as a service of the machine: its bundle, group, links, units, start and stop. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, lstatSync, mkdirSync, openSync, readFileSync, readdirSync, readlinkSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { createClient } from '../../src/client/client.ts';
import { isAlive } from '../../src/kernel/process.ts';
import { VeldError } from '../../src/lib/errors.ts';
import { readIfExists, writeFileAtomic } from '../../src/lib/files.ts';
import { run } from '../../src/lib/run.ts';
import { DEFAULT_SETTINGS_FILE, type Settings } from '../../src/lib/settings.ts';
import type { MadeByQuickstart } from './record.ts';

const UNIT_FOLDER = '/etc/systemd/system';

/** Whether systemd is pid 1, sd_booted(3). */
export function isSystemd(): boolean {
  return existsSync('/run/systemd/system');
}

/** Name of the daemon's unit. */
export function daemonUnit(settings: Settings): string {
  return settings.instance === 'main' ? 'veldd.service' : `veldd-${settings.instance}.service`;
}

/** Whether the bundle lacks, or is older than what it was made of. */
export function isBuildNeeded(root: string): boolean {
  const bundles = ['veld.cjs', 'veldd.cjs'].map((name) => statSync(join(root, 'dist', name), { throwIfNoEntry: false })?.mtimeMs ?? 0);
  const oldest = Math.min(...bundles);
  const sources = (readdirSync(join(root, 'src'), { recursive: true }) as string[]).filter((name) => name.endsWith('.ts') && !name.endsWith('.test.ts'));
  return [...sources.map((name) => join(root, 'src', name)), join(root, 'package.json'), join(root, 'rolldown.config.ts')].some((path) => statSync(path).mtimeMs > oldest);
}

/** Bundle daemon and command line. */
export async function build(root: string): Promise<void> {
  await run(process.execPath, [join(root, 'node_modules/rolldown/bin/cli.mjs'), '-c', 'rolldown.config.ts'], { cwd: root });
}

/** Make the group whose members may use the socket, when it is missing. */
export async function makeGroup(name: string, made: MadeByQuickstart): Promise<void> {
  if (new RegExp(`^${name}:`, 'm').test(readFileSync('/etc/group', 'utf8'))) return;
  await run('/usr/sbin/groupadd', ['--system', '--', name]);
  made.group = name;
}

/** Make `veld` and `veldd` known to the shell. A program of that name that is not ours stays. @returns what could not be linked */
export function makeLinks(root: string, made: MadeByQuickstart): string[] {
  const refused: string[] = [];
  for (const name of ['veld', 'veldd']) {
    const [link, target] = [join('/usr/local/bin', name), join(root, 'bin', name)];
    const stat = lstatSync(link, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink() && readlinkSync(link) === target) continue;
    // One that quickstart made from another folder of Veld (an upgrade), or to nowhere: that folder was moved.
    if (stat?.isSymbolicLink() && (made.links.includes(link) || !existsSync(link))) rmSync(link);
    else if (stat) {
      refused.push(link);
      continue;
    }
    mkdirSync('/usr/local/bin', { recursive: true });
    symlinkSync(target, link);
    if (!made.links.includes(link)) made.links.push(link);
  }
  return refused;
}

/** Write the units. @returns whether one changed */
export function writeUnits(root: string, settings: Settings, made: MadeByQuickstart): boolean {
  const values: Record<string, string> = {
    ROOT: root, INSTANCE: settings.instance, SETTINGS: process.env.VELD_SETTINGS ?? DEFAULT_SETTINGS_FILE,
    STATE: settings.stateDir, RUN: settings.runDir,
  };
  const units: [string, string][] = [
    ['veldd.service', daemonUnit(settings)], ['veld-ves.service', `veld-${settings.instance}-ves.service`], ['veld.slice', `veld-${settings.instance}.slice`],
    ['veld-shutdown.service', `veld-${settings.instance}-shutdown.service`],
  ];
  let changed = false;
  for (const [source, name] of units) {
    const text = readFileSync(join(root, 'share/systemd', source), 'utf8').replaceAll(/@([A-Z]+)@/g, (all, key: string) => values[key] ?? all);
    const file = join(UNIT_FOLDER, name);
    if (!made.units.includes(name)) made.units.push(name);
    if (readIfExists(file) === text) continue;
    writeFileAtomic(file, text, 0o644);
    changed = true;
  }
  return changed;
}

/** Whether the daemon answers. */
export async function isDaemonUp(settings: Settings): Promise<boolean> {
  try {
    await createClient(settings.socket).request('GET', '/v1');
    return true;
  } catch (error) {
    if (error instanceof VeldError && error.code === 'daemon.unreachable') return false;
    throw error;
  }
}

/**
 * Start the daemon: as a unit where systemd is pid 1, else in the background.
 * @throws VeldError `daemon.unreachable` with what it said, when it does not answer within 20 s
 */
export async function startDaemon(root: string, settings: Settings): Promise<void> {
  if (isSystemd()) {
    await run('systemctl', ['enable', '--quiet', '--now', `veld-${settings.instance}-ves.service`, `veld-${settings.instance}-shutdown.service`]);
    await run('systemctl', ['enable', '--quiet', daemonUnit(settings)]);
    await run('systemctl', ['restart', daemonUnit(settings)]);
    if (await isDaemonUp(settings)) return;
    throw new VeldError('daemon.unreachable', 'systemd started the daemon, and it does not answer.', { hint: `journalctl -u ${daemonUnit(settings)}` });
  }
  const output = join(dirname(settings.log.file), 'veldd.out');
  mkdirSync(dirname(output), { recursive: true, mode: 0o750 });
  const fd = openSync(output, 'w', 0o640);
  const child = spawn(join(root, 'bin/veldd'), [], {
    cwd: '/', detached: true, stdio: ['ignore', fd, fd],
    env: { PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C', ...(process.env.VELD_SETTINGS && { VELD_SETTINGS: process.env.VELD_SETTINGS }) },
  });
  closeSync(fd);
  const fate: { ended?: string } = {};
  child.on('error', (error) => { fate.ended = error.message; });
  child.on('exit', (code, signal) => { fate.ended = `it ended with ${signal ?? `status ${code}`}`; });
  for (const end = Date.now() + 20_000; Date.now() < end && fate.ended === undefined; await sleep(25)) {
    if (!(await isDaemonUp(settings))) continue;
    child.unref();
    return;
  }
  const said = readIfExists(output)?.trim().split('\n').slice(-4).join('\n') ?? '';
  throw new VeldError('daemon.unreachable', `The daemon did not start: ${fate.ended ?? 'it does not answer after 20 s'}.\n${said}`, { hint: `Read ${settings.log.file}.` });
}

/** Stop the daemon, and wait for its end. VEs go on. Nothing happens when it does not run. */
export async function stopDaemon(settings: Settings): Promise<void> {
  if (isSystemd() && existsSync(join(UNIT_FOLDER, daemonUnit(settings)))) {
    await run('systemctl', ['stop', daemonUnit(settings)]);
    return;
  }
  const [pid = 0, startTime = 0] = readIfExists(join(settings.runDir, 'veldd.pid'))?.split(' ').map(Number) ?? [];
  const daemon = { pid, startTime };
  if (pid === 0 || !isAlive(daemon)) return;
  process.kill(pid, 'SIGTERM');
  for (let i = 0; i < 600 && isAlive(daemon); i++) await sleep(25);
  if (isAlive(daemon)) throw new VeldError('timeout', `The daemon (pid ${pid}) did not end within 15 s.`);
}

/** Take units away again. */
export async function removeUnits(made: MadeByQuickstart): Promise<void> {
  if (made.units.length === 0) return;
  if (isSystemd()) await run('systemctl', ['disable', '--quiet', '--now', ...made.units.filter((name) => name.endsWith('.service'))], { allow: true });
  if (isSystemd()) await run('systemctl', ['stop', ...made.units], { allow: true }); // the slice, too, whose group would stay
  for (const name of made.units) rmSync(join(UNIT_FOLDER, name), { force: true });
  if (isSystemd()) await run('systemctl', ['daemon-reload'], { allow: true });
}
