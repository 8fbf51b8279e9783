/** Runs commands as the benchmark times them: whole processes, from fork to exit. */
import { spawn, spawnSync } from 'node:child_process';
import type { Command } from '../contestants/types.ts';

/** Run one command after the other. @returns milliseconds for all of them @throws Error with the end of what it printed when one fails */
export async function runCommands(commands: readonly Command[], env: Readonly<Record<string, string>>): Promise<number> {
  const begin = performance.now();
  for (const command of commands) await runCommand(command, env);
  return performance.now() - begin;
}

function runCommand(command: Command, env: Readonly<Record<string, string>>): Promise<void> {
  const [program = '', ...args] = command;
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: '/', env: { ...process.env, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
    const said: Buffer[] = [];
    child.stderr.on('data', (chunk: Buffer) => said.push(chunk));
    child.on('error', reject);
    // Not `close`: a monitor that a command leaves behind may keep the pipe.
    child.on('exit', (code, signal) => {
      child.stderr.destroy();
      if (code === 0) resolve();
      else reject(new Error(`${command.join(' ')} ended with ${code ?? signal}: ${Buffer.concat(said).toString('utf8').trim().slice(-500)}`));
    });
  });
}

/** Output of a program that is not timed. @throws Error when it fails */
export function outputOf(program: string, args: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const { status, stdout, stderr, error } = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, ...env }, maxBuffer: 1 << 26 });
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${error?.message ?? stderr.slice(-500)}`);
  return stdout;
}
