/** A VE's conmon: the parent of its init, and the holder of its console. */
import { join } from 'node:path';
import { readIfExists } from '../lib/files.ts';
import type { Settings } from '../lib/settings.ts';
import { isAlive, readProcess, type ProcessId } from '../kernel/process.ts';
import { runFolder } from './run-folder.ts';

/** The conmon of the VE's present boot while it lives. Its file is of this boot of the host, but the pid may be another's by now, even another VE's conmon. */
export function monitorOf(settings: Settings, number: number): ProcessId | undefined {
  const folder = runFolder(settings, number);
  const monitor = readProcess(Number(readIfExists(join(folder, 'conmon.pid')) ?? 0));
  if (monitor?.comm !== 'conmon' || !isAlive(monitor)) return undefined;
  return (readIfExists(`/proc/${monitor.pid}/cmdline`) ?? '').includes(`\0${folder}\0`) ? monitor : undefined;
}
