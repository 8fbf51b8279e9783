/** `exec`: a command in a running VE, with the VE's namespaces, capabilities and seccomp filter, and nothing of the host's. */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { readIfExists } from '../lib/files.ts';
import { SAFE_PATH } from '../lib/run.ts';
import { withBaseline } from '../kernel/baseline.ts';
import { openConsoleSocket } from '../kernel/console-socket.ts';
import { signalProcess } from '../kernel/pidfd.ts';
import { readProcess, type ProcessId } from '../kernel/process.ts';
import type { VeRecord } from '../store/types.ts';
import { VE_CAPABILITIES } from './capabilities.ts';
import type { VeContext } from './context.ts';
import { makeCommandPipes, withoutComplaint } from './exec-pipes.ts';
import { resolveUser, type ResolvedUser } from './resolve-user.ts';
import { bootedBaseline, readRunState, runFolder } from './run-folder.ts';
import type { ExecRequest, ExecSession } from './types.ts';

/**
 * Run a command in a VE.
 * @param descriptors of the host for the command, from 3 on: never one of a folder, through which it could walk
 * @throws VeldError `ve.not_running`, `ve.frozen`, `request.invalid` for an unknown user
 */
export async function execInVe(context: VeContext, ve: VeRecord, request: ExecRequest, descriptors: readonly number[] = []): Promise<ExecSession> {
  const { settings, resources } = context;
  const init = enterableInit(context, ve);
  resources.expectMoves();
  const user = await resolveUser(init, request.user ?? 'root');
  const groups = resources.execGroups(ve.number).join(' '); // may throw: before anything is opened

  const folder = runFolder(settings, ve.number);
  const id = randomBytes(8).toString('hex');
  const files = { process: join(folder, 'exec', `${id}.json`), pid: join(folder, 'exec', `${id}.pid`), console: join(folder, 'exec', `${id}.tty`), log: join(folder, 'exec', `${id}.log`) };
  mkdirSync(join(folder, 'exec'), { recursive: true, mode: 0o700 });
  writeFileSync(files.process, JSON.stringify(processSpec(request, user, bootedBaseline(settings, ve.number))), { mode: 0o600 });
  const terminal = request.tty ? await openConsoleSocket(files.console) : undefined;
  const removeFiles = (): void => {
    for (const file of Object.values(files)) rmSync(file, { force: true });
  };

  const pipes = makeCommandPipes(ve.uidBase + user.uid, ve.uidBase + user.gid);
  const { stdin, stdout } = pipes;
  /** Read at the end, before the files go. */
  let complaint: string | undefined;
  // crun says it on the command's standard error, too.
  const stderr = withoutComplaint(pipes.stderr, (line) => {
    if (isExecFailure(line, request)) complaint = line;
    return line === (complaint ?? complaintIn(files.log));
  });
  const options = [...(terminal ? ['--tty', '--console-socket', files.console] : []), ...(descriptors.length > 0 ? ['--preserve-fds', String(descriptors.length)] : [])];
  const child = spawn(join(settings.libexecDir, 'veld-exec'), [folder, files.process, files.pid, files.log, ...options],
    { cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C', VELD_EXEC_GROUPS: groups }, stdio: [...pipes.childEnds, ...descriptors] });
  pipes.closeChildEnds();

  let ended = false;
  let interrupted: string | undefined;
  const leave = context.sessions.enter(ve.uuid, (why) => {
    interrupted = why;
    kill('SIGHUP');
  });
  const exit = new Promise<number>((resolve, reject) => {
    child.on('error', (error) => {
      leave();
      removeFiles();
      terminal?.close();
      pipes.destroy();
      reject(new VeldError('exec.failed', `The command could not be started: ${error.message}`, { cause: error }));
    });
    child.on('exit', () => {
      ended = true;
      leave();
      complaint ??= complaintIn(files.log);
    });
    child.on('exit', (code, signal) => void Promise.all([pipes.drained(), terminal ? undefined : over(stderr)]).then(() => {
      terminal?.close();
      removeFiles();
      if (interrupted !== undefined) reject(new VeldError('exec.interrupted', `The command was ended: ${interrupted}`));
      else if (code !== 0 && complaint !== undefined) reject(execError(complaint, request));
      else resolve(code ?? 128 + (signal === 'SIGKILL' ? 9 : 15));
    }));
  });
  exit.catch(() => {});

  const kill = (signal: NodeJS.Signals): void => {
    if (ended) return; // its pid may be another's by now
    const command = readPid(files.pid);
    if (command) signalGroup(command, signal);
    else child.kill(signal); // not there yet: end the way to it
  };
  if (!terminal) {
    return { stdin, stdout, stderr, resize: () => {}, kill, exit };
  }
  stdin.end();
  stdout.resume();
  stderr.resume();
  const { columns, rows } = request.tty!;
  // Rejected when crun ends before it has sent the terminal: then its own words count.
  const pty = await terminal.accepted.catch(() => undefined);
  if (!pty) throw new VeldError('exec.failed', `The command could not be started: status ${await exit}.`);
  pty.resize(columns, rows);
  return { stdin: pty.stream, stdout: pty.stream, stderr: null, resize: pty.resize, kill, exit, terminal: pty.stream };
}

/** The stream has been looked at to its end, whether anybody takes it or not. */
function over(stream: Readable): Promise<void> {
  return new Promise((done) => {
    if (stream.closed || stream.readableEnded) done();
    stream.once('looked', done).once('close', done);
  });
}

/** Init of a VE in which commands can run. @throws VeldError `ve.not_running`, `ve.frozen` */
export function enterableInit({ settings, resources }: VeContext, ve: VeRecord): ProcessId {
  const { init } = readRunState(settings, ve.number);
  if (!init) throw new VeldError('ve.not_running', `${ve.name} is ${ve.suspended ? 'suspended' : 'not running'}.`, ve.suspended ? { hint: 'Bring it back first: `veld resume NAME`.' } : {});
  if (resources.isFrozen(ve.number)) throw new VeldError('ve.frozen', `${ve.name} is frozen: nothing can run in it.`);
  return init;
}

/** What crun has noted when it could not run the command. */
function complaintIn(log: string): string | undefined {
  return (readIfExists(log) ?? '').trim().replace(/^\d{4}-\S+: /, '') || undefined; // with the time, which crun may write first, taken off
}

/**
 * The last step, execve(2) itself, crun tells on standard error only: exactly this line, nothing else, and status 1. Which program it is stands in
 * it, so a command's own words are not mistaken for it.
 */
function isExecFailure(line: string, request: ExecRequest): boolean {
  const path = /^exec `([^`]+)`: (No such file or directory|Exec format error|Permission denied|Too many levels of symbolic links|Text file busy|Argument list too long)$/.exec(line)?.[1];
  const program = request.command[0] ?? '';
  return path !== undefined && (path === program || (!program.includes('/') && path.endsWith(`/${program}`)));
}

/** What crun said, as an error of the table. */
function execError(complaint: string, request: ExecRequest): VeldError {
  const command = JSON.stringify(request.command[0]?.slice(0, 200) ?? '');
  const words = complaint.slice(0, 500);
  if (/^exec .*: No such file or directory/.test(words)) {
    return new VeldError('exec.not_found', `${command} is there, but what should run it is not: ${words}.`, { hint: 'Look at its first line (#!), or which dynamic linker it wants.' });
  }
  if (/^chdir to/.test(words)) return new VeldError('request.invalid', `The VE has no folder ${JSON.stringify(request.cwd ?? '/')}: ${words}.`, { hint: 'Name a folder of the VE.' });
  if (/not found in \$PATH|No such file or directory/.test(words)) return new VeldError('exec.not_found', `The VE has no program ${command}: ${words}.`);
  if (/not executable|not a regular file|Permission denied|Exec format error/.test(words)) return new VeldError('exec.not_executable', `${command} cannot be run in the VE: ${words}.`);
  return new VeldError('exec.failed', `${command} could not be run in the VE: ${words}.`);
}

function processSpec(request: ExecRequest, user: ResolvedUser, baseline: readonly string[] | null): object {
  const capabilities = user.uid === 0
    ? Object.fromEntries(['bounding', 'effective', 'permitted'].map((set) => [set, VE_CAPABILITIES]))
    : { bounding: VE_CAPABILITIES, effective: [], permitted: [] };
  const environment = withBaseline({
    PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
    HOME: user.home, USER: user.name, LOGNAME: user.name, SHELL: user.shell,
    ...(request.tty && { TERM: request.tty.term }),
    container: 'lxc',
    ...request.env,
  }, baseline);
  return {
    terminal: Boolean(request.tty),
    user: { uid: user.uid, gid: user.gid, additionalGids: user.groups },
    args: request.command,
    env: Object.entries(environment).map(([name, value]) => `${name}=${value}`),
    cwd: request.cwd ?? user.start,
    capabilities,
    noNewPrivileges: false,
  };
}

/** Signal the command and its children: as a terminal does, the whole process group that it leads. */
function signalGroup(command: ProcessId, signal: NodeJS.Signals): void {
  if (!signalProcess(command, signal)) return;
  try {
    process.kill(-command.pid, signal); // its leader lived a moment ago, so the number is not another's
  } catch { /* it leads no group, or all have ended */ }
}

function readPid(file: string): ProcessId | undefined {
  try {
    return readProcess(Number(readFileSync(file, 'utf8')));
  } catch {
    return undefined;
  }
}
