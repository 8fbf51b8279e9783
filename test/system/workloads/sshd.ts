/** sshd with a person at a terminal: the shell is the same one afterwards, and what it writes goes on. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { until } from '../../lib/wait.ts';
import type { Load, LoadReport, Workload } from './types.ts';

/** @param suite name of the template's suite */
export function sshd(suite: string): Workload {
  return {
    name: `sshd ${suite}`, suite, packages: [],
    async setup({ sh, folder }) {
      const made = spawnSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, 'key')], { encoding: 'utf8' });
      assert.equal(made.status, 0, made.stderr || 'there is no ssh on this machine');
      const key = spawnSync('cat', [join(folder, 'key.pub')], { encoding: 'utf8' }).stdout.trim();
      await sh(`mkdir -p -m 700 /root/.ssh && echo '${key}' >/root/.ssh/authorized_keys`);
    },
    load: ({ address, folder }) => session(address, join(folder, 'key')),
    async check({ sh }) {
      assert.match(await sh('journalctl -u ssh --no-pager'), /Accepted publickey/);
    },
  };
}

async function session(address: string, key: string): Promise<Load> {
  const options = ['StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'LogLevel=ERROR', 'ServerAliveInterval=0'].flatMap((option) => ['-o', option]);
  const child = spawn('ssh', ['-F', 'none', '-tt', '-i', key, ...options, `root@${address}`], { stdio: ['pipe', 'pipe', 'pipe'] });
  const report: LoadReport = { questions: 0, answers: 0, longestGap: 0, problems: [] };
  let shown = '';
  let errors = '';
  child.stdout.on('data', (chunk: Buffer) => { shown += chunk.toString('utf8'); });
  child.stderr.on('data', (chunk: Buffer) => { errors += chunk.toString('utf8'); });
  child.stdin.on('error', () => {});
  const end = new AbortController();
  child.on('close', (code) => { if (!end.signal.aborted) report.problems.push(`ssh ended with ${code}: ${errors}`); });
  child.stdin.write('PS1=; kept=$$-secret; (i=0; while sleep 0.1; do i=$((i+1)); echo "tick $i."; done) &\n');
  await until('the shell', () => /tick 3\./.test(shown)).catch((error: unknown) => { throw new Error(`${String(error)}: ${shown}${errors}`, { cause: error }); });
  let kept: string | undefined;
  const work = (async (): Promise<void> => {
    for (let n = 1; !end.signal.aborted; n++) {
      const since = performance.now();
      report.questions += 1;
      child.stdin.write(`echo "answer $((${n} * 7)) $kept;"\n`);
      const said = await until(`answer ${n}`, () => {
        if (child.exitCode !== null) throw new Error('ssh has ended');
        return new RegExp(String.raw`answer ${n * 7} (\d+-secret);`).exec(shown)?.[1];
      }, 300_000, 10);
      if (said !== (kept ??= said)) report.problems.push(`the variable was ${kept} and is ${said}`);
      report.answers += 1;
      report.longestGap = Math.max(report.longestGap, performance.now() - since);
    }
  })().catch((error: unknown) => { report.problems.push((error as Error).message); });
  return {
    answers: () => report.answers,
    async answered() {
      const before = report.answers;
      await until('an answer', () => report.problems.length > 0 || report.answers > before + 1, 300_000);
    },
    problems: () => report.problems,
    async stop() {
      end.abort();
      await work;
      child.stdin.write('kill %1; exit\n');
      await until('ssh to end', () => child.exitCode !== null, 10_000).catch(() => child.kill('SIGKILL'));
      const ticks = [...shown.matchAll(/tick (\d+)\./g)].map((match) => Number(match[1]));
      const wrong = ticks.findIndex((tick, i) => tick !== i + 1);
      if (wrong >= 0) report.problems.push(`after tick ${ticks[wrong - 1]} came ${ticks[wrong]}`);
      return report;
    },
  };
}
