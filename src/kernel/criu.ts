/** The door to criu: its configuration files, its logs, and what it remembers of this kernel. */
import { closeSync, existsSync, mkdirSync, openSync, readSync, readdirSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readIfExists, writeFileAtomic } from '../lib/files.ts';
import { run } from '../lib/run.ts';
import type { Engine } from './engine.ts';

/** An option of criu(8) by its long name without dashes, with its value where it takes one. */
export type CriuOption = readonly [name: string, value?: string | number];

/** Text of a configuration file for `--config` (format: criu(8), "CONFIGURATION FILES"): an option a line. */
export function criuConfig(options: readonly CriuOption[]): string {
  return options.map(([name, value]) => (value === undefined ? `${name}\n` : `${name} ${quoted(String(value))}\n`)).join('');
}

/** A value with blanks or a number sign stands in double quotes. */
function quoted(value: string): string {
  if (/[\n\0]/.test(value)) throw new Error(`${JSON.stringify(value)} cannot stand in a configuration of criu`);
  return /[\s#"\\]/.test(value) ? `"${value.replaceAll(/["\\]/g, '\\$&')}"` : value;
}

/** What criu's log says of errors, without times and places in its source; the first one is the cause, most often. */
export function criuErrors(log: string): string[] {
  return log.split('\n').flatMap((line) => {
    const text = /^(?:\(\d+\.\d+\)\s+)?\s*(?:\d+: )?Error \([^)]*\): (.*)$/.exec(line)?.[1];
    // Said by every run of a root without CAP_SYS_RESOURCE, and harmless.
    return text === undefined || text.includes("Can't setup RLIMIT_NOFILE") ? [] : [text];
  });
}

/** Where criu looks for what it knows of the kernel, whatever the machine. */
export const CRIU_CACHE = '/run/criu.kdat';

/** Where that is kept for the engines of an installation. */
export function criuCacheFolder(runDir: string): string {
  return join(runDir, 'criu');
}

/**
 * Have criu find out once what this kernel can do, which takes it 50 to 70 ms: its later runs are given the answer. It keeps it by itself only where /run
 * is a tmpfs, and there it may be another criu's.
 * @param folder for it, of this boot of the host; made when it is missing
 * @returns a file to be bound over {@link CRIU_CACHE}, in a mount namespace of one's own
 */
export function prepareCriuCache(engine: Engine, folder: string): Promise<string> {
  const running = preparing.get(folder) ?? prepare(engine, folder).finally(() => preparing.delete(folder));
  preparing.set(folder, running);
  return running;
}

/**
 * What criu is to find as tar(1), first in its PATH: it has it compress what is in a tmpfs by gzip, which a VE that stands still would wait for. For old
 * states, which are compressed, it is the real one.
 */
const TAR = `#!/bin/sh
for word; do
  shift
  [ "$word" = --gzip ] && [ -z "\${VELD_GZIP-}" ] || set -- "$@" "$word"
done
PATH=\${PATH#*:}
exec tar "$@"
`;

/**
 * Make the folder of programs that criu is to find first.
 * @param runDir where the VE's root can walk: criu calls them in its name
 * @returns the folder
 */
export function prepareCriuTools(runDir: string): string {
  const folder = join(runDir, 'criu-tools');
  const file = join(folder, 'tar');
  if (readIfExists(file) === TAR) return folder;
  mkdirSync(folder, { recursive: true, mode: 0o755 });
  writeFileAtomic(file, TAR, 0o755);
  return folder;
}

/** Whether what was in a tmpfs is compressed in these images, as it was in states of earlier versions. @param images folder of them */
export function hasGzip(images: string): boolean {
  const GZIP_MAGIC = 0x8b1f;
  const name = readdirSync(images).find((entry) => /^tmpfs(-dev)?-.*\.img$/.test(entry) && statSync(join(images, entry)).size >= 2);
  if (name === undefined) return false;
  const fd = openSync(join(images, name), 'r');
  try {
    const head = Buffer.alloc(2);
    readSync(fd, head);
    return head.readUInt16LE() === GZIP_MAGIC;
  } finally {
    closeSync(fd);
  }
}

/** Whoever wants it while it is being made waits for the same one. */
const preparing = new Map<string, Promise<string>>();

async function prepare(engine: Engine, folder: string): Promise<string> {
  const file = join(folder, `${engine.fingerprint.slice(0, 16)}.kdat`);
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  writeFileSync(CRIU_CACHE, '', { flag: 'a', mode: 0o600 }); // there must be something over which it can be bound
  if (existsSync(file)) return file;
  const fresh = `${file}.${process.pid}.new`;
  // `check` may be dissatisfied with the kernel: what it has learned is right all the same.
  await run('/usr/bin/unshare', ['--mount', '--propagation', 'private', '/bin/sh', '-c',
    'exec 3>"$2" && "$3" -t tmpfs -o mode=0700 veld /run && { "$1" check >/dev/null 2>&1; cat /run/criu.kdat >&3; }', 'sh', engine.criu, fresh, engine.mount],
  { timeout: 30_000 });
  renameSync(fresh, file);
  return file;
}
