/** Lets running VEs follow when lxcfs is another process: runs the program of lxcfs-exchange.ts, and gives up on a VE that makes it hang. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import { SAFE_PATH } from '../lib/run.ts';
import { VeldError } from '../lib/errors.ts';
import { readControl, writeControl } from './cgroup.ts';
import { helperProgram } from './helper-program.ts';
import type { ProcessId } from './process.ts';

/** How long one VE may take, and the start of the program, in milliseconds: on a host that has much to do these are seconds. */
const PATIENCE = 15_000;

/** Whose mounts shall be looked at: the init of a VE. */
export interface ExchangeTarget extends ProcessId {
  /** Its group in the cgroup2 hierarchy: where its processes are, and what stops it. */
  group: string;
  /** Whether it was booted without lxcfs: then its files are covered where it has the kernel's own. */
  attach: boolean;
}

export interface ExchangeRequest {
  /** Where the lxcfs that serves now is mounted. */
  folder: string;
  /** Its device, `major:minor`: binds of it stay. */
  device: string;
  /** What all lxcfs of this installation are called in mount tables. */
  source: string;
  targets: ExchangeTarget[];
  /** Replaced in tests: whether the kernel can mount beneath another mount. */
  beneath?: boolean;
}

/** What was done for a VE. */
export interface ExchangeResult {
  pid: number;
  /** Mount namespaces that it has: its own, those of services that hide files, those of containers inside. */
  namespaces: number;
  /** Mounts exchanged; those that followed in other namespaces by propagation are not counted. */
  exchanged: number;
  /** Mounts that could only be covered. */
  covered: number;
  /** Files of a VE booted without lxcfs that it has now. */
  attached: number;
  /** What is as it was, and why. */
  left: string[];
}

/** A program that waits for its work: started early, because half of the time goes by while Node starts. */
export interface Exchange {
  /** Do the work. Never rejects; a VE that nothing was heard of has a result with the reason in `left`. May be called once. */
  run(request: ExchangeRequest): Promise<ExchangeResult[]>;
  /** End it without work. */
  cancel(): void;
}

/** Start the program. */
export function prepareExchange(): Exchange {
  const first = start();
  return {
    async run(request) {
      const results: ExchangeResult[] = [];
      let targets = request.targets;
      const moving = new Set(targets.filter(({ group }) => freezeOf(group) === '0'));
      for (let child = first; ; child = start()) {
        const failed = await ask(child, { ...request, targets }, (result) => results.push(result));
        const silent = targets.find((target) => !results.some((result) => result.pid === target.pid));
        if (silent === undefined) return results;
        // Who was killed in the middle has not let it go on.
        if (moving.has(silent)) letGoOn(silent.group);
        results.push({ pid: silent.pid, namespaces: 0, exchanged: 0, covered: 0, attached: 0, left: [failed] });
        targets = targets.slice(targets.indexOf(silent) + 1);
        if (targets.length === 0) return results;
      }
    },
    cancel: () => void first.kill('SIGKILL'),
  };
}

function freezeOf(group: string): string | undefined {
  return readControl(group, 'cgroup.freeze');
}

function letGoOn(group: string): void {
  try {
    if (freezeOf(group) === '1') writeControl(group, 'cgroup.freeze', 0);
  } catch { /* the VE has just ended */ }
}

function start(): ChildProcess {
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', helperProgram('veld-exchange', 'lxcfs-exchange.ts')], {
    cwd: '/', env: { PATH: SAFE_PATH, LC_ALL: 'C' }, stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.on('error', () => {}); // told by the end of its output
  child.stdin?.on('error', () => {});
  return child;
}

/** Hand the work over and listen until the program ends, or is silent for too long. @returns why it said no more */
async function ask(child: ChildProcess, request: ExchangeRequest, heard: (result: ExchangeResult) => void): Promise<string> {
  let why = '';
  let timer: NodeJS.Timeout | undefined;
  const wait = (): void => {
    clearTimeout(timer);
    timer = setTimeout(() => {
      why = `nothing was heard for ${PATIENCE / 1000} s`;
      child.kill('SIGKILL');
      // Where even that does not end it at once, nobody waits.
      child.stdout?.destroy();
    }, PATIENCE);
  };
  child.stderr?.on('data', (chunk: Buffer) => { why = (why + chunk.toString('utf8')).slice(-600); });
  child.stdin?.end(JSON.stringify(request));
  wait();
  if (child.stdout === null) throw new VeldError('internal', 'The program that exchanges mounts has no output.');
  const lines = createInterface({ input: child.stdout });
  lines.on('line', (line) => {
    wait();
    heard(JSON.parse(line) as ExchangeResult);
  });
  await new Promise<void>((resolve) => {
    lines.on('close', resolve);
    child.on('error', (error) => {
      why = error.message;
      resolve();
    });
    child.stdout?.on('close', resolve);
  });
  clearTimeout(timer);
  child.unref();
  return why || 'the program ended before its turn';
}
