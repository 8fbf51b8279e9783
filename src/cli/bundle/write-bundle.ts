/** Gathers the items of a support bundle and packs them: whole or not at all, for its owner only, bounded in size. */
import { spawn } from 'node:child_process';
import { closeSync, existsSync, fsyncSync, linkSync, mkdirSync, mkdtempSync, openSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { VeldError, toVeldError } from '../../lib/errors.ts';
import { isSecretKey } from '../../lib/redact.ts';
import { SAFE_PATH } from '../../lib/run.ts';
import type { Item } from './items.ts';
import { redactText } from './redact-text.ts';

/** Of one item, and of all together before they are packed, in bytes. */
const ITEM_LIMIT = 8 << 20;
const TOTAL_LIMIT = 96 << 20;
/** For one item, in milliseconds: a daemon that hangs must not hang its own report. */
const ITEM_TIMEOUT = 60_000;
/** tar's option by the end of the name. */
const COMPRESSION: readonly (readonly [end: RegExp, option: string])[] = [[/\.(tar\.gz|tgz)$/, '--gzip'], [/\.(tar\.zst|tzst)$/, '--zstd'], [/\.tar\.xz$/, '--xz']];

/** What became of an item. */
export interface Gathered {
  name: string;
  bytes: number;
  /** Why it is not there, in words. */
  error?: string;
}

export interface BundleOptions {
  /** Replace a file that is there. */
  force: boolean;
  /** Lines for the beginning of README.txt. */
  preface: readonly string[];
  onItem?: (name: string) => void;
}

/**
 * How the name of a bundle says that it is packed.
 * @throws VeldError `usage`
 */
export function compressionOf(file: string): string {
  const found = COMPRESSION.find(([end]) => end.test(file));
  if (!found) throw new VeldError('usage', `The name of a bundle ends with .tar.gz, .tar.zst or .tar.xz, and '${file}' does not.`);
  return found[1];
}

/**
 * Make the bundle.
 * @throws VeldError `usage` when the file is there already, or cannot be written; `command.failed`
 */
export async function writeBundle(file: string, items: readonly Item[], { force, preface, onItem }: BundleOptions): Promise<{ bytes: number; items: Gathered[] }> {
  const compression = compressionOf(file);
  if (!force && existsSync(file)) throw taken(file);
  const packed = `${file}.${process.pid}.new`;
  const name = basename(file).replace(/\.(tar\.\w+|t\w+)$/, '');
  let fd: number;
  try {
    fd = openSync(packed, 'wx', 0o600);
  } catch (error) {
    throw new VeldError('usage', `${dirname(file)} cannot take the bundle: ${(error as Error).message}.`, { cause: error, hint: 'Name a file in a folder that is there, and in which you may write.' });
  }
  let staging: string | undefined;
  const clean = (): void => {
    if (staging !== undefined) rmSync(staging, { recursive: true, force: true });
    rmSync(packed, { force: true });
  };
  const onSignal = (signal: NodeJS.Signals): void => {
    clean();
    process.off(signal, onSignal);
    process.kill(process.pid, signal);
  };
  // Before there is anything to be cleaned away.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  try {
    staging = mkdtempSync(join(tmpdir(), 'veld-bundle-')); // mode 0700
    const gathered = await gatherInto(join(staging, name), items, onItem);
    writeFileSync(join(staging, name, 'README.txt'), readme(preface, gathered), { mode: 0o600 });
    await pack(compression, staging, name, fd);
    fsyncSync(fd);
    if (force) renameSync(packed, file);
    else {
      try {
        linkSync(packed, file); // never over one that came meanwhile
      } catch (error) {
        throw (error as NodeJS.ErrnoException).code === 'EEXIST' ? taken(file) : error;
      }
    }
    return { bytes: statSync(file).size, items: gathered };
  } finally {
    closeSync(fd);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.off(signal, onSignal);
    clean();
  }
}

function taken(file: string): VeldError {
  return new VeldError('usage', `${file} is there already.`, { hint: 'Choose another name, or add --force.' });
}

async function gatherInto(folder: string, items: readonly Item[], onItem?: (name: string) => void): Promise<Gathered[]> {
  const gathered: Gathered[] = [];
  let total = 0;
  mkdirSync(folder);
  for (const { name, gather } of items) {
    onItem?.(name);
    try {
      if (total >= TOTAL_LIMIT) throw new Error('left out, since the bundle has become too large');
      const value = await inTime(gather);
      if (value === undefined) continue;
      const text = clean(value);
      const bytes = Buffer.from(text.slice(-ITEM_LIMIT));
      mkdirSync(join(folder, dirname(name)), { recursive: true });
      writeFileSync(join(folder, name), bytes, { mode: 0o600 });
      gathered.push({ name, bytes: bytes.length });
      total += bytes.length;
    } catch (error) {
      gathered.push({ name, bytes: 0, error: redactText(toVeldError(error).code === 'internal' ? (error as Error).message : toVeldError(error).message) });
    }
  }
  return gathered;
}

/** The log's own rules take out values by the names of their keys; then all of it is looked through as text. JSON lines are looked at line by line. */
function clean(value: unknown): string {
  return redactText(typeof value === 'string' ? value : `${JSON.stringify(redactTree(value), null, 2)}\n`);
}

/** As the log does it, but whole: redact() cuts what is too deep or too long for a line. */
function redactTree(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(redactTree);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, isSecretKey(key) ? '[redacted]' : redactTree(item)]));
}

async function inTime(gather: Item['gather']): Promise<unknown> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new VeldError('timeout', `It did not come within ${ITEM_TIMEOUT / 1000} s.`)), ITEM_TIMEOUT);
  });
  try {
    return await Promise.race([(async () => gather())(), late]);
  } finally {
    clearTimeout(timer);
  }
}

function readme(preface: readonly string[], gathered: readonly Gathered[]): string {
  const rows = gathered.map(({ name, bytes, error }) => `${error === undefined ? String(bytes).padStart(9) : '  MISSING'}  ${name}${error === undefined ? '' : `: ${error.replaceAll(/\s+/g, ' ')}`}\n`);
  return `${preface.join('\n')}\n\n${rows.join('')}`;
}

/** tar(1) writes into a descriptor that is ours: nobody can put another file in its place. */
function pack(compression: string, folder: string, name: string, fd: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('tar', ['--create', compression, '--sort=name', '--owner=root:0', '--group=root:0', `--directory=${folder}`, '--', name],
      { stdio: ['ignore', fd, 'pipe'], env: { PATH: SAFE_PATH, LC_ALL: 'C' } });
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => { said = (said + chunk.toString('utf8')).slice(-2000); });
    child.on('error', (error) => reject(new VeldError('command.failed', `tar could not be run: ${error.message}.`, { cause: error })));
    child.on('close', (code) => {
      if (code === 0) resolve();
      else reject(new VeldError('command.failed', `tar ended with status ${code}: ${said.trim()}`));
    });
  });
}
