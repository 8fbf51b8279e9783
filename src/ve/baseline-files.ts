/**
 * How `cpu.baseline` reaches the programs of a VE that do not have it from its init. (Init itself has it in its environment, which the inits but systemd hand on.) These
 * files change only when the daemon boots the VE, so that a VE that reboots itself finds what it was told the last time.
 */
import { baselineEnvironment, baselineOf } from '../kernel/baseline.ts';
import { openGuestRoot, type GuestRoot } from '../kernel/guest-tree.ts';
import type { ProcessId } from '../kernel/process.ts';
import type { Properties } from '../spec/types.ts';
import type { VeRecord } from '../store/types.ts';
import type { VeContext } from './context.ts';

/** systemd gives its services an environment of their own, and a user's manager, which has it from its service, to those of the user (systemd-system.conf(5)). */
const SYSTEMD = { folder: '/etc/systemd', drop: '/etc/systemd/system.conf.d', file: '/etc/systemd/system.conf.d/veld-baseline.conf' };
/** What sessions of ssh, login, su and cron begin with (pam_env(8)). It is the administrator's file, but for the lines between the marks. */
const SESSIONS = '/etc/environment';
const [BEGIN, END] = ['# Written by Veld for cpu.baseline of this VE: use `veld set` on the host.', '# (until here)'];
/** Largest of it that is changed, in bytes. */
const SESSIONS_MAX = 64 << 10;

/** What the programs of a VE are to be told at its next boot; null: nothing. */
export function baselineFor({ store, log }: VeContext, ve: VeRecord, { 'cpu.baseline': wanted }: Properties): string[] | null {
  if (wanted !== 'nodes') return baselineOf(wanted, []);
  const others = store.listNodes().filter(({ ended }) => !ended).map(({ name, facts }) => ({ name, processor: processorOf(facts) }));
  // A VE starts all the same: it cannot move there by mistake, since that node looks itself.
  const silent = others.filter(({ processor }) => processor === undefined).map(({ name }) => name);
  if (silent.length > 0) log.warn({ ve: ve.uuid, name: ve.name, nodes: silent }, 'nodes that have not told what their processors can do do not count for cpu.baseline');
  return baselineOf(wanted, others.flatMap(({ processor }) => (processor ? [processor] : [])));
}

/** What a node has said. One of another architecture is none that a running VE could go to. */
function processorOf(facts: Record<string, unknown> | null): string[] | undefined {
  const { processor } = (facts ?? {}) as { processor?: unknown };
  return Array.isArray(processor) && processor.length > 0 ? processor.map(String) : undefined;
}

/** Write, or empty, the files of a VE whose init does not run yet. */
export async function writeBaselineFiles({ log }: VeContext, ve: VeRecord, baseline: readonly string[] | null, init: ProcessId): Promise<void> {
  const root = await openGuestRoot(init);
  const owner = { mode: 0o644, uid: ve.uidBase, gid: ve.uidBase };
  const told = Object.entries(baselineEnvironment(baseline)).map(([name, value]) => `${name}=${value}`);
  try {
    if (told.length > 0 ? await root.folderExists(SYSTEMD.folder) : await root.exists(SYSTEMD.file)) {
      root.makeFolders(SYSTEMD.drop, { ...owner, mode: 0o755 });
      await root.writeFile(SYSTEMD.file, systemdText(told), owner);
    }
    const before = await sessionsText(root);
    const after = sessionsWith(before ?? '', told);
    if (after !== (before ?? '')) await root.writeFile(SESSIONS, after, owner);
  } catch (error) {
    // What is in the way is the VE's own doing; a boot is not for that.
    log.warn({ ve: ve.uuid, name: ve.name, err: error }, 'cpu.baseline does not reach all programs of a VE: a file cannot be written');
  } finally {
    root.close();
  }
}

async function sessionsText(root: GuestRoot): Promise<string | undefined> {
  return await root.exists(SESSIONS) ? (await root.readFile(SESSIONS, SESSIONS_MAX)).toString('utf8') : undefined;
}

/** The text of the drop-in. @param told `NAME=VALUE` each */
export function systemdText(told: readonly string[]): string {
  return [BEGIN, '[Manager]', ...told.map((line) => `DefaultEnvironment=${line}`), ''].join('\n');
}

/** A file of `NAME=VALUE` lines with these in it, and none that were in it before. */
export function sessionsWith(text: string, told: readonly string[]): string {
  const lines = text === '' ? [] : text.replace(/\n$/, '').split('\n');
  const begin = lines.indexOf(BEGIN);
  if (begin >= 0) {
    const end = lines.indexOf(END, begin);
    lines.splice(begin, end < 0 ? lines.length : end - begin + 1);
  }
  return [...lines, ...told.length > 0 ? [BEGIN, ...told, END] : []].map((line) => `${line}\n`).join('');
}
