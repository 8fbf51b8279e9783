/** Second part of ./quickstart, under the pinned Node: engine, lxcfs, bundle, daemon, template, and the VE `demo`. */
import { chmodSync, mkdirSync } from 'node:fs';
import { createClient } from '../../src/client/client.ts';
import type { Client } from '../../src/client/client.ts';
import { buildEngine } from '../../src/kernel/engine-build.ts';
import { currentEngine, engineManifest } from '../../src/kernel/engine.ts';
import { installRoot } from '../../src/kernel/install-root.ts';
import { buildLxcfs, currentLxcfs } from '../../src/kernel/lxcfs-build.ts';
import { debianMirror } from '../../src/kernel/package-sources.ts';
import type { ReleaseInfo } from '../../src/kernel/mmdebstrap.ts';
import { VeldError, toVeldError } from '../../src/lib/errors.ts';
import { run } from '../../src/lib/run.ts';
import { loadSettings, type Settings } from '../../src/lib/settings.ts';
import { findSuite } from '../../src/templates/suites.ts';
import type { TemplateRecord } from '../../src/store/types.ts';
import type { VeDetail, VeView } from '../../src/ve/types.ts';
import { installFiles } from './files.ts';
import { createProgress, type Progress } from './progress.ts';
import { readRecord, writeRecord } from './record.ts';
import { build, isBuildNeeded, isDaemonUp, isSystemd, makeGroup, makeLinks, startDaemon, stopDaemon, writeUnits } from './service.ts';

/** The VE that quickstart makes. */
const DEMO = 'demo';
/** Longest wait for the system inside, in milliseconds. */
const BOOT_PATIENCE = 90_000;

/** All steps. @throws VeldError of the first that failed */
async function quickstart(settings: Settings): Promise<void> {
  const root = installRoot();
  const progress = createProgress(15);
  const policy = expiredPolicy();
  mkdirSync(settings.stateDir, { recursive: true, mode: 0o700 });
  chmodSync(settings.stateDir, 0o700);

  // The engine is needed when a VE starts, not before: it is built beside the daemon's start and the template.
  const engine = engineStep(settings, policy, progress);
  engine.catch(() => {}); // awaited below
  const client = await daemonStep(root, settings, policy, progress);
  const template = await templateStep(settings, client, progress);
  await engine;
  const ve = await demoStep(client, template, progress);
  await upStep(client, progress);
  finish(settings, ve, progress);
}

/** `VELD_EXPIRED_RELEASE`, by default `record`: a first look at Veld shall not fail because a mirror is late. */
function expiredPolicy(): 'refuse' | 'record' {
  const value = process.env.VELD_EXPIRED_RELEASE ?? 'record';
  if (value !== 'refuse' && value !== 'record') throw new VeldError('usage', `VELD_EXPIRED_RELEASE is ${JSON.stringify(value)}, and must be record or refuse.`);
  return value;
}

async function engineStep(settings: Settings, policy: 'refuse' | 'record', progress: Progress): Promise<void> {
  const step = progress.step(20, 'Engine');
  let manifest;
  try {
    manifest = engineManifest(settings.stateDir, currentEngine(settings.stateDir).fingerprint);
  } catch (error) {
    if (toVeldError(error).code !== 'engine.missing') throw error;
    ({ manifest } = await buildEngine({
      stateDir: settings.stateDir, mirror: debianMirror(settings.engine.mirror), suites: settings.engine.suites, expiredRelease: policy,
      progress: (percent, message) => step.at(percent / 100, message),
    }));
    warnIfExpired(manifest.releases, progress);
  }
  step.done(`criu ${manifest.criu}, crun ${version(manifest.packages.crun)}, conmon ${version(manifest.packages.conmon)} of Debian ${manifest.suite}, self-tested`);
}

function warnIfExpired(releases: readonly ReleaseInfo[], progress: Progress): void {
  for (const { suite, validUntil, expired } of releases) {
    if (!expired) continue;
    progress.loud(`The mirror's Release file of ${suite} is past its Valid-Until (${validUntil?.slice(0, 10)}): the mirror is not kept up to date.
      Its signature was checked; it was used all the same, and \`veld doctor\` will say so. VELD_EXPIRED_RELEASE=refuse forbids that.`);
  }
}

async function lxcfsReady(settings: Settings, policy: 'refuse' | 'record', progress: Progress): Promise<void> {
  const step = progress.step(5, 'lxcfs');
  let lxcfs = currentLxcfs(settings.stateDir);
  if (lxcfs === undefined) {
    step.at(0.1, 'building');
    lxcfs = await buildLxcfs({
      stateDir: settings.stateDir, mirror: debianMirror(settings.engine.mirror), engineSuite: settings.engine.suites.at(-1) ?? 'testing', expiredRelease: policy,
    });
    warnIfExpired(lxcfs.manifest.releases, progress);
  }
  step.done(`${lxcfs.manifest.version} of Debian ${lxcfs.manifest.suite}`);
}

/** Bundle, group, links, units; then the daemon, which starts lxcfs, so that must be there first. */
async function daemonStep(root: string, settings: Settings, policy: 'refuse' | 'record', progress: Progress): Promise<Client> {
  const lxcfs = lxcfsReady(settings, policy, progress);
  lxcfs.catch(() => {}); // awaited below
  const step = progress.step(10, 'Daemon');
  const made = readRecord(settings.stateDir);
  const rebuilt = isBuildNeeded(root);
  if (rebuilt) {
    step.at(0.1, 'bundling');
    await build(root);
  }
  await makeGroup(settings.socketGroup, made);
  if (settings.instance === 'main') {
    for (const link of makeLinks(root, made)) progress.loud(`${link} is not Veld's own and stays; use ${root}/bin instead.`);
    for (const file of await installFiles(root, made)) progress.loud(`${file} is not Veld's own and stays.`);
  }
  const changed = isSystemd() && writeUnits(root, settings, made);
  if (changed) await run('systemctl', ['daemon-reload']);
  writeRecord(settings.stateDir, made);
  await lxcfs;
  const up = await isDaemonUp(settings);
  if (up && !rebuilt && !changed) {
    step.done('runs');
  } else {
    step.at(0.5, up ? 'starting it anew; VEs go on' : 'starting');
    if (up) await stopDaemon(settings);
    await startDaemon(root, settings);
    step.done(`started, ${settings.socket}`);
  }
  return createClient(settings.socket);
}

async function templateStep(settings: Settings, client: Client, progress: Progress): Promise<string> {
  const step = progress.step(40, 'Template');
  const { name, codename } = findSuite('host', undefined, settings.engine.mirror);
  const templates = await client.request<TemplateRecord[]>('GET', '/v1/templates');
  if (!templates.some((template) => template.name === name)) {
    await client.operation('POST', '/v1/templates/build', { suite: codename, include: [] }, (record) => step.at(record.percent / 100, record.message || 'building'));
  }
  step.done(name);
  return name;
}

async function demoStep(client: Client, template: string, progress: Progress): Promise<VeDetail> {
  const step = progress.step(5, `VE ${DEMO}`);
  const ves = await client.request<VeView[]>('GET', '/v1/ves');
  const there = ves.find((ve) => ve.name === DEMO);
  const follow = (record: { percent: number; message: string }): void => step.at(record.percent / 100, record.message || 'working');
  if (!there) await client.operation('POST', '/v1/ves', { name: DEMO, template, start: true }, follow);
  else if (there.status === 'stopped' || there.status === 'failed') await client.operation('POST', `/v1/ves/${DEMO}/start`, {}, follow);
  const ve = await client.request<VeDetail>('GET', `/v1/ves/${DEMO}`);
  step.done(there && there.status === 'running' ? 'runs' : 'started');
  return ve;
}

/** Wait until the init inside says `running`. */
async function upStep(client: Client, progress: Progress): Promise<void> {
  const step = progress.step(5, 'System inside');
  const ask = (...command: string[]): Promise<{ exitCode: number; stdout: string }> => client.request('POST', `/v1/ves/${DEMO}/exec`, { command });
  let state = '';
  for (const end = Date.now() + BOOT_PATIENCE; Date.now() < end; await new Promise((resolve) => { setTimeout(resolve, 50); })) {
    // Before the system bus is there the answer is empty or `offline`.
    state = (await ask('systemctl', 'is-system-running')).stdout.trim();
    if (['running', 'degraded', 'maintenance'].includes(state)) break;
    step.at(0.2, state || 'starting');
  }
  if (state !== 'running') {
    const failed = (await ask('systemctl', '--failed', '--no-legend', '--plain')).stdout.trim();
    throw new VeldError('ve.start_failed', `The system in ${DEMO} is ${state || 'silent'}${failed ? `:\n${failed}` : ''}.`, { hint: `veld exec ${DEMO} -- systemctl --failed; veld logs ${DEMO}` });
  }
  step.done('running');
}

function finish(settings: Settings, ve: VeDetail, progress: Progress): void {
  const took = Date.now() / 1000 - Number(process.env.VELD_QUICKSTART_STARTED ?? Date.now() / 1000);
  const longest = progress.timings().filter(({ seconds }) => seconds > 1).map(({ name, seconds }) => `${name} ${seconds.toFixed(0)} s`).join(', ');
  const veld = settings.instance === 'main' ? 'veld' : `${process.env.VELD_SETTINGS ? `VELD_SETTINGS=${process.env.VELD_SETTINGS} ` : ''}${installRoot()}/bin/veld`;
  const template = ve.template.name ?? ve.template.fingerprint.slice(0, 12);
  const next: [string, string][] = [
    [`enter ${DEMO}`, 'a shell in it'], ['list', 'all VEs'], [`create web -t ${template} --start`, 'another one'],
    [`set ${DEMO} memory.limit=512M`, 'a limit, at once'], ['help', 'everything else'],
  ];
  const width = Math.max(...next.map(([command]) => veld.length + 1 + command.length));
  process.stdout.write(`[100 %] Done in ${Math.max(0, took).toFixed(0)} s${longest ? ` (${longest})` : ''}

${DEMO} runs ${template} at ${ve.addresses.join(' and ') || 'no address'}

${next.map(([command, does]) => `  ${`${veld} ${command}`.padEnd(width)}  ${does}`).join('\n')}
`);
}

/** Upstream's version of a Debian version. */
function version(debian: string | undefined): string {
  return debian?.replace(/^\d+:/, '').replace(/[-+].*$/, '') ?? 'unknown';
}

/** What the daemon itself finds wrong with the machine: often the cause of what failed here. */
async function complaints(settings: Settings): Promise<string> {
  try {
    const { checks } = await createClient(settings.socket).request<{ checks: { status: string; title: string; message: string }[] }>('GET', '/v1/doctor');
    return checks.filter(({ status }) => status === 'fail').map(({ title, message }) => `\nveld doctor: ${title}: ${message}`).join('');
  } catch {
    return ''; // no daemon, no complaints
  }
}

process.stdout.on('error', () => {}); // a reader like `head` may leave early: the work goes on
try {
  await quickstart(loadSettings());
} catch (thrown) {
  const error = toVeldError(thrown);
  const more = error.code.startsWith('settings.') ? '' : await complaints(loadSettings());
  process.stderr.write(`quickstart: ${error.message}${more}\nHint: ${error.hint}\n`);
  process.exit(error.exit);
}
