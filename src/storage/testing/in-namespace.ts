/**
 * Test helper, run by `inNamespace`: does one job in a mount namespace of its own, so that the host's table never sees these mounts.
 * Prints what the job prints; ends with status 1 and the error's code when it fails.
 */
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { toVeldError } from '../../lib/errors.ts';
import { run } from '../../lib/run.ts';
import { createUserNamespace, mountIdmapped, parseIdmaps } from '../../kernel/mounts.ts';
import type { MountPlan } from '../types.ts';
import { createVolumes } from '../volumes.ts';

/** A job: `ve` mounts a plan and runs a script as the VE's root in its root folder; the others call the driver in a prepared namespace. */
export type Job =
  | { kind: 've'; plan: MountPlan; uidBase: number; scratch: string; script: string }
  | { kind: 'destroy'; stateDir: string; uuid: string; bind: { source: string; target: string } }
  | { kind: 'full'; mountpoint: string; options: string; uuid: string; uidBase: number };

async function perform(job: Job): Promise<void> {
  if (job.kind === 've') {
    process.stdout.write(await inVe(job));
  } else if (job.kind === 'destroy') {
    await run('/bin/mount', ['--bind', job.bind.source, job.bind.target]);
    await createVolumes({ stateDir: job.stateDir }).destroyVolume(job.uuid);
  } else {
    await run('/bin/mount', ['-t', 'tmpfs', '-o', job.options, 'veld-test', job.mountpoint]);
    await createVolumes({ stateDir: job.mountpoint }).createVolume(job.uuid, job.uidBase);
  }
}

async function inVe({ plan, uidBase, scratch, script }: Extract<Job, { kind: 've' }>): Promise<string> {
  const lowers: string[] = [];
  for (const [index, { source, map }] of plan.lowers.entries()) {
    const target = join(scratch, `lower${index}`);
    mkdirSync(target, { recursive: true });
    if (map === null) lowers.unshift(source);
    else {
      await mountIdmapped(source, target, parseIdmaps(map), { readOnly: true });
      lowers.unshift(target);
    }
  }
  const [root, mapped] = [join(scratch, 'root'), join(scratch, 'volume')];
  for (const folder of [root, mapped]) mkdirSync(folder, { recursive: true });
  const volume = plan.map === null ? plan.volume : mapped;
  if (plan.map !== null) await mountIdmapped(plan.volume, mapped, parseIdmaps(plan.map), { readOnly: false });
  await run('/bin/mount', ['-t', 'overlay', '-o', `lowerdir=${lowers.join(':')},upperdir=${join(volume, plan.upper)},workdir=${join(volume, plan.work)}`, 'veld-test', root]);
  const ve = await createUserNamespace({ from: 0, to: uidBase, count: 65536 });
  try {
    const args = [`--user=/proc/${process.pid}/fd/${ve.fd}`, '--setuid', '0', '--setgid', '0', '/bin/sh', '-euc', script];
    return (await run('/usr/bin/nsenter', args, { cwd: root, timeout: 20_000 })).stdout;
  } finally {
    ve.close();
  }
}

try {
  await perform(JSON.parse(readFileSync(0, 'utf8')) as Job);
} catch (error) {
  const { code, message } = toVeldError(error);
  process.stderr.write(`${code} ${message}\n`);
  process.exitCode = 1;
}
