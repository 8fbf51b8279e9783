/** For tests of the network: stand-ins for VEs, and the file's own second run in a network namespace. */
import assert from 'node:assert/strict';
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import type { VeRecord } from '../../store/types.ts';
import type { NetworkPlan } from '../types.ts';

/** A process in a network namespace of its own. */
export interface Agent {
  pid: number;
  /** Let it do a verb of ve-agent.ts. */
  ask<T = void>(verb: string, ...args: unknown[]): Promise<T>;
  /** Run lines of `ip -batch` in its namespace. @throws Error with what ip said */
  ip(...lines: string[]): void;
  stop(): void;
}

export async function startAgent(): Promise<Agent> {
  const child = spawn('unshare', ['-n', process.execPath, join(import.meta.dirname, 've-agent.ts')], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const waiting = new Map<number, { resolve: (value: never) => void; reject: (error: Error) => void }>();
  let last = 0;
  const answer = (id: number): Promise<never> => new Promise((resolve, reject) => { waiting.set(id, { resolve, reject }); });
  child.on('message', ({ id, value, error }: { id: number; value?: never; error?: string }) => {
    if (error === undefined) waiting.get(id)?.resolve(value as never);
    else waiting.get(id)?.reject(new Error(error));
    waiting.delete(id);
  });
  child.on('exit', () => { for (const { reject } of waiting.values()) reject(new Error('the agent ended')); });
  await answer(0);
  const pid = child.pid as number;
  return {
    pid,
    ask(verb, ...args) {
      last += 1;
      const id = last;
      const result = answer(id);
      child.send({ id, verb, args });
      // No answer is an answer to `say`; all else only takes its time on a busy machine.
      const timer = setTimeout(() => { waiting.get(id)?.reject(new Error(`${verb} took too long`)); }, verb === 'say' ? 5000 : 30_000);
      return result.finally(() => clearTimeout(timer));
    },
    ip(...lines) {
      const { status, stderr } = spawnSync('nsenter', ['-t', String(pid), '-n', 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n`, encoding: 'utf8' });
      if (status !== 0) throw new Error(stderr);
    },
    stop: () => { child.kill('SIGKILL'); },
  };
}

/** A VE's record with an address of its own for each number. */
export function veRecord(number: number, addresses: string[] = [], properties: Record<string, unknown> = {}): VeRecord {
  return {
    uuid: `uuid-${number}`, number, name: `ve${number}`, template: '', layers: [], uidBase: 0, properties, addresses,
    mac: `02:00:00:00:${(number >> 8).toString(16).padStart(2, '0')}:${(number & 255).toString(16).padStart(2, '0')}`,
    desired: 'running', ready: true, guestDirty: false, createdAt: '', lastExit: null, suspended: null, deployed: null, notStarted: null,
  };
}

/** Make the links of a VE as the runtime script does. @returns milliseconds */
export function plugLinks(plan: NetworkPlan, agent: Agent, folder: string): number {
  for (const [name, text] of Object.entries({ host: plan.linkBatch + plan.hostBatch, guest: plan.guestBatch, guest6: plan.guestBatch6, sysctls: plan.guestSysctls })) writeFileSync(join(folder, name), text);
  const started = performance.now();
  const script = `sed "s/@PID@/$PID/" "$DIR/host" | ip -batch - && nsenter -t "$PID" -n sh -ec '
    while read -r name value <&3; do echo "$value" >"/proc/sys/$name"; done
    ip -batch - <"$DIR/guest"
    [ ! -s "$DIR/guest6" ] || ip -6 -batch - <"$DIR/guest6"' 3<"$DIR/sysctls"`;
  execFileSync('sh', ['-ec', script], { env: { ...process.env, PID: String(agent.pid), DIR: folder } });
  return performance.now() - started;
}

/**
 * Declare a file's tests so that they run in a network namespace of their own (as root), as one test of the run outside.
 * @param file the test file itself @param body declares them @param skip why they cannot run here
 */
export function testInNamespace(title: string, file: string, body: () => void, skip: string | false = false): void {
  if (process.env.VELD_TEST_NETNS !== undefined) return body();
  void test(`${title}, in a namespace of its own`, { skip: process.getuid?.() === 0 ? skip : 'needs root' }, (t) => {
    const { status, output } = runInNamespace(file);
    t.diagnostic(output);
    assert.equal(status, 0, output);
  });
}

/** Whether this is the run outside: what needs no namespace is tested there. */
export const OUTSIDE = process.env.VELD_TEST_NETNS === undefined;

/** Run a test file again as the only program of a new network namespace (with its /sys), and show what it printed. Returns its status. */
function runInNamespace(file: string): { status: number | null; output: string } {
  const { NODE_TEST_CONTEXT: _, ...env } = process.env;
  const { status, stdout, stderr } = spawnSync('unshare', ['-n', '-m', '--propagation', 'private', 'sh', '-c',
    'mount -t sysfs sysfs /sys && ip link set lo up && exec "$0" --test-reporter=spec "$1"', process.execPath, file],
  { encoding: 'utf8', env: { ...env, VELD_TEST_NETNS: '1' }, timeout: 280_000 });
  return { status, output: stdout + stderr };
}
