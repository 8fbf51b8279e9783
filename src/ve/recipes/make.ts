/** What a recipe asks for is done in a VE that stands on the base, and the tree of that VE becomes the template's: src/templates/recipes/ says what may be asked. */
import { VeldError } from '../../lib/errors.ts';
import { faultPoint } from '../../lib/faults.ts';
import { run } from '../../lib/run.ts';
import type { Task } from '../../ops/types.ts';
import type { VeRecord } from '../../store/types.ts';
import type { LoadedRecipe } from '../../templates/recipes/catalogue.ts';
import { unpackTree } from '../../templates/recipes/unpack-tree.ts';
import type { VeContext } from '../context.ts';
import { readFromVe } from '../copy.ts';
import { resolversOf } from '../identity-files.ts';
import type { BuildLog } from './log.ts';
import { ADD_USER, FINISH, INSTALL, PREPARE, PUT_FILE, SET_SERVICES, WAIT_UNTIL_UP } from './scripts.ts';
import { runStep, statusOf, type Bench, type Step } from './step.ts';

/** How long a step of Veld's own may take, and a boot with all that it starts, in milliseconds. */
const PATIENCE = 300_000;
/** Where the parts of this are, in percent of the whole build. */
const FROM = 62;
const TO = 80;

const sh = (script: string, ...parameters: string[]): string[] => ['/bin/sh', '-c', script, 'veld', ...parameters];
const firstLine = (text: string): string => text.trim().split('\n')[0]!.slice(0, 100);

/**
 * Do all that the recipe says, and clean up. Nothing but the VE's first process runs in it then.
 * @param packages to be installed by the VE's own apt: those of a suite are there already
 * @param name of the file, for log and errors
 * @throws VeldError `template.build_failed`, `operation.cancelled`
 */
export async function makeTree(bench: Bench, { recipe, sources }: LoadedRecipe, name: string, packages: readonly string[], task: Task): Promise<void> {
  const at = (line: number, what: string): string => `${name}:${line}: ${firstLine(what)}`;
  const own = (title: string, command: string[], more: Partial<Step> = {}): Step => ({ title, command, patience: PATIENCE, ...more });
  const { enable, disable } = recipe.services;
  const line = recipe.limits.time * 1000;
  const steps: Step[] = [
    own('prepare', sh(PREPARE), { input: resolversOf(bench.context, bench.ve) }),
    ...packages.length > 0 ? [own(`install ${packages.join(' ')}`, sh(INSTALL, ...packages), { patience: line, env: { apt: await aptOptions() } })] : [],
    ...recipe.users.map((user) => own(at(user.line, `user ${user.name}`), sh(ADD_USER, user.name, String(user.uid ?? ''), user.shell ?? '', user.home ?? '', user.system ? '1' : '', user.groups.join(',')), { input: user.keys.map((key) => `${key}\n`).join('') })),
    ...recipe.files.map((file) => own(at(file.line, `file ${file.path}`), sh(PUT_FILE, file.path, file.mode, file.owner), { input: file.content ?? sources.get(file.source!)! })),
    ...recipe.run.map((each) => own(at(each.line, each.command), ['/bin/sh', '-ec', each.command], { patience: line })),
    ...enable.length > 0 ? [own(`enable ${enable.join(' ')}`, sh(SET_SERVICES, 'enable', ...enable))] : [],
    ...disable.length > 0 ? [own(`disable ${disable.join(' ')}`, sh(SET_SERVICES, 'disable', ...disable))] : [],
    own('clean up', sh(FINISH)),
  ];
  for (const [i, step] of steps.entries()) {
    task.progress(FROM + (TO - FROM) * i / steps.length, firstLine(step.title));
    await runStep(bench, step);
    faultPoint('recipe.step');
  }
}

/** What apt of the host knows of proxies, as options for that of the VE. One on the host itself is out of its reach. */
async function aptOptions(): Promise<string> {
  const { stdout } = await run('/usr/bin/apt-config', ['dump', '--format', '%f=%v%n'], { allow: true }).catch(() => ({ stdout: '' }));
  return stdout.split('\n').filter((option) => /^Acquire::https?::Proxy=https?:\/\/[\w.:@%/-]+$/i.test(option) && !/\/\/(127\.|localhost|\[)/.test(option)).map((option) => `-o ${option}`).join(' ');
}

/** Copy the tree of the VE into an empty folder, owners as the VE counts. @param most bytes @throws VeldError `template.build_failed`, `template.invalid`, `storage.failed`, `operation.cancelled` */
export async function takeTree({ context, ve, log, signal }: Bench, target: string, most: number, task: Task): Promise<void> {
  log.say('keep the tree');
  const session = await readFromVe(context, ve, { path: '/', as: 'tree' });
  let said = '';
  session.stderr?.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-2000); });
  session.stdin.end();
  const stop = (): void => session.kill('SIGKILL');
  signal.addEventListener('abort', stop, { once: true });
  try {
    const { entries, bytes } = await unpackTree(session.stdout, target, { most, signal, progress: (done) => task.progress(TO + 8 * Math.min(1, done / 2 ** 30), `keeping the tree: ${Math.round(done / 2 ** 20)} MiB`) });
    const code = await session.exit;
    // Mounts that are passed over anyway change all the time.
    const complaints = said.trim().split('\n').filter((one) => !/^tar: (\.\/(dev|proc|run|sys): file changed as we read it|Exiting with failure status.*)$/.test(one));
    if (code > 1 || (code === 1 && complaints.join('') !== '')) throw new VeldError('template.build_failed', `The tree could not be read as a whole: ${complaints.at(-1)?.replace(/\.$/, '') || `tar ended with status ${code}`}.`, { hint: 'Let nothing that the recipe begins go on by itself.' });
    log.say(`${entries} entries, ${Math.round(bytes / 2 ** 20)} MiB`);
  } catch (error) {
    stop();
    signal.throwIfAborted();
    throw error;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}

/**
 * Try the finished template in a VE of it that has booted.
 * @param booted it has an init, for whose work is waited
 * @throws VeldError `template.build_failed` with the first test that failed
 */
export async function testTree(bench: Bench, { recipe }: LoadedRecipe, name: string, booted: boolean, task: Task): Promise<void> {
  if (booted) {
    const waiting: Step = { title: 'wait until it is up', command: sh(WAIT_UNTIL_UP), patience: PATIENCE };
    const code = await statusOf(bench, waiting);
    if (code !== 0) task.warn(`When ${recipe.name} was tried, ${bench.log.last().join(' / ') || 'it did not come up as a whole'}.`);
  }
  for (const [i, test] of recipe.tests.entries()) {
    task.progress(93 + 4 * i / recipe.tests.length, `test: ${firstLine(test.command)}`);
    await runStep(bench, { title: `${name}:${test.line}: test: ${firstLine(test.command)}`, command: ['/bin/sh', '-ec', test.command], patience: recipe.limits.time * 1000 });
    faultPoint('recipe.test');
  }
}

/** @returns what the steps of a build need */
export function benchFor(context: VeContext, ve: VeRecord, log: BuildLog, task: Task): Bench {
  return { context, ve, log, signal: task.signal };
}
