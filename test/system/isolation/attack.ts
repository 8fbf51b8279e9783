/**
 * What an attack is, and the two places where it runs: inside a VE, where its guard must stop it, and where that guard is off, where the very
 * same action must succeed. An attack that fails for a reason other than its guard fails in both places, and so is noticed.
 */
import { spawn } from 'node:child_process';
import type { Lab } from './lab.ts';
import { PRELUDE } from './perl.ts';

/** What became of an attempt. `absent`: this kernel does not have what is attacked. */
export interface Outcome {
  state: 'reached' | 'refused' | 'absent';
  /** In words: what was reached, or the error that came. */
  said: string;
}

type Act = (lab: Lab) => Promise<Outcome>;

/** One row: an attempt on something outside of the VE. */
export interface Attack {
  name: string;
  /** What stops it. */
  guard: string;
  /** What the refusal must say: another reason would be a guard that nobody knows of. */
  refusal: RegExp;
  inside: Act;
  off: Act;
}

/** Where the guard of a scripted attack is off. */
export interface Off {
  /** `host`: root of the host. `loose`: a VE with nesting and io_uring. `bare`: that VE without any seccomp filter. */
  where: 'host' | 'loose' | 'bare';
  /** Options for unshare(1) on the host, so that nothing outlives the attempt. */
  unshare?: string[];
  /** Arguments in place of the attack's. */
  args?: (lab: Lab) => (string | number)[];
}

export interface ScriptedAttack {
  name: string;
  guard: string;
  refusal: RegExp;
  /** Perl, after {@link PRELUDE}: the same text runs in both places. Must end in reached(), refused() or absent(). */
  code: string;
  args?: (lab: Lab) => (string | number)[];
  off: Off;
}

/** A row whose attempt is one Perl script. Perl is there in every Debian and Ubuntu, and its `syscall` makes any system call. */
export function scripted({ name, guard, refusal, code, args = () => [], off }: ScriptedAttack): Attack {
  return {
    name, guard, refusal,
    inside: (lab) => inVe(lab, 'attacker', code, args(lab)),
    off: (lab) => {
      const given = (off.args ?? args)(lab);
      return off.where === 'host' ? onHost(code, given, { unshare: off.unshare }) : inVe(lab, off.where, code, given);
    },
  };
}

/** Run a script as root of a VE. */
export async function inVe(lab: Lab, ve: 'attacker' | 'neighbour' | 'loose' | 'bare', code: string, args: readonly (string | number)[] = []): Promise<Outcome> {
  if (ve === 'bare') await lab.strip();
  const { exitCode, stdout, stderr } = await lab.veld.exec(ve === 'bare' ? 'loose' : ve, 'perl', '-e', PRELUDE + code, ...args.map(String));
  return read(stdout, stderr, `status ${exitCode}`);
}

export interface HostRun {
  /** Options of unshare(1). */
  unshare?: string[] | undefined;
  /** Enter only the user namespace of this process, as its root: all other namespaces stay the host's. */
  userOf?: number;
  /** As this uid and gid. */
  uid?: number;
  /** Descriptor that the script inherits as 3. */
  descriptor?: number;
}

/** Run a script on the host. */
export async function onHost(code: string, args: readonly (string | number)[] = [], { unshare, userOf, uid, descriptor }: HostRun = {}): Promise<Outcome> {
  const command = [
    ...(unshare ? ['unshare', ...(unshare.includes('-m') ? ['--propagation', 'private'] : []), ...unshare] : []),
    ...(userOf === undefined ? [] : ['nsenter', '-t', String(userOf), '-U', '-S', '0', '-G', '0']),
    ...(uid === undefined ? [] : ['setpriv', '--reuid', String(uid), '--regid', String(uid), '--clear-groups']),
    'perl', '-e', PRELUDE + code, ...args.map(String),
  ];
  const { stdout, stderr, status } = await hostCommand(command, descriptor);
  return read(stdout, stderr, status);
}

/** Run a program of the host for at most 20 s. */
export function hostCommand(command: readonly string[], descriptor?: number): Promise<{ stdout: string; stderr: string; status: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(command[0] as string, command.slice(1), { cwd: '/', timeout: 20_000, killSignal: 'SIGKILL', stdio: ['ignore', 'pipe', 'pipe', ...(descriptor === undefined ? [] : [descriptor])] });
    const out: Buffer[] = [];
    const err: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => out.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => err.push(chunk));
    child.on('error', reject);
    child.on('close', (code, signal) => resolve({ stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString(), status: signal ?? `status ${code}` }));
  });
}

/** The script's own verdict; a script without one has not run as it should. */
function read(stdout: string, stderr: string, status: string): Outcome {
  const verdict = /^(REACHED|REFUSED|ABSENT) ?(.*)$/m.exec(stdout);
  if (!verdict) throw new Error(`The script gave no verdict (${status}): ${stdout.slice(-500)} ${stderr.slice(-1500)}`);
  return { state: (verdict[1] as string).toLowerCase() as Outcome['state'], said: verdict[2] as string };
}

/** An outcome found by looking, not by a script. */
export function outcome(reached: boolean, said: string): Outcome {
  return { state: reached ? 'reached' : 'refused', said };
}
