/** The receiving side: a stream becomes names of a tree, after every header of it has been checked. */
import { closeSync, statfsSync } from 'node:fs';
import { Writable } from 'node:stream';
import { startBox } from '../kernel/box.ts';
import type { BoxCapability, BoxEnd } from '../kernel/box.ts';
import { toVeldError, VeldError } from '../lib/errors.ts';
import { TarReader } from '../lib/tar-entries.ts';
import type { TarEntry } from '../lib/tar-entries.ts';
import { RANGE } from './folders.ts';
import { adoptFolders, markFolders, openRoot } from './tree-folders.ts';
import type { FolderMarks } from './tree-folders.ts';
import { STREAM_MAGIC } from './tree-pack.ts';
import { folderOf } from './tree-scan.ts';

/** Bounds of one stream. */
export interface StreamLimits {
  entries: number;
  /** Bytes of all contents together, without holes. */
  bytes: number;
  /** The same with holes: somebody will read them all. Default: any number. */
  whole?: number;
  /** Bytes of disk that others need, and a folder of the file system on which they need them. Default: none. */
  leave?: { bytes: number; on: string };
}

export interface StreamCounts {
  entries: number;
  /** Bytes of contents. */
  bytes: number;
  /**
   * Names that could not be put where they belong, because the source has changed while the stream was made: the next round has them. What comes from a
   * tree that nobody changes has none, so that the last round must have none.
   */
  conflicts: number;
  /** Folders that were made for what is in them, because their own entries did not come: they come with another stream of the same tree, or are missing. */
  adopted: number;
}

export interface TreeUnpack {
  /** Takes the stream; its end means that all is in place. Fails with what `ended` rejects with. */
  input: Writable;
  /** Settles at the end. Rejects with a VeldError `migration.stream`, `disk.full`, `storage.failed`, `operation.cancelled`. */
  ended: Promise<StreamCounts>;
  /** End it, whatever it does. `ended` settles when it writes nothing any more. */
  cancel(): void;
}

/** What of a root user's might is needed to write files of any owner. */
const CAPABILITIES: readonly BoxCapability[] = ['chown', 'dac_override', 'fowner', 'fsetid', 'setfcap'];

/** Longest list of opaque folders that is believed, in bytes. */
const HEADER_LIMIT = 32 << 20;
/** Most folders in it. */
const HEADER_NAMES = 1_000_000;
/** After how many bytes the disk is looked at. */
const LOOK = 16 << 20;
/** Longest path, in bytes: PATH_MAX of linux/limits.h. */
const PATH_LIMIT = 4096;

/** What tar says when something else stands in the way of a name. (link(2) of what has become a folder is EPERM.) */
const CONFLICT = /: (File exists|Not a directory|Is a directory|Directory not empty|No such file or directory|Too many levels of symbolic links)$|: Cannot hard link to .*: Operation not permitted$/;
const NO_SPACE = /: (No space left on device|Disk quota exceeded)$/;
const TRAILER = /Exiting with failure status due to previous errors$/;

/**
 * Take a stream of `packTree` into a tree, which may hold what an earlier one has brought: names of it are replaced, never written through. Names that have
 * changed their type must have been removed before. Whoever made the stream is trusted with nothing: headers are checked here, before GNU tar
 * has them, and tar runs in a box, in which no path leads through a link.
 * @param target a folder of Veld's own that nobody uses yet
 * @param options `uidBase`: first of the 65536 ids that owners may have in the stream, and the root of file capabilities: 0 for a layer of a template; `mapped`: they get
 * others on the disk, `base` and up: through the mount at this descriptor (openIdmapped of the target, `mapInto`), which is closed by whoever has opened it
 */
export function unpackTree(target: string, options: { uidBase: number; mapped?: { mount: number; base: number }; limits: StreamLimits; signal?: AbortSignal }): TreeUnpack {
  const { limits, uidBase, mapped } = options;
  const counts: StreamCounts = { entries: 0, bytes: 0, conflicts: 0, adopted: 0 };
  const folders = new Map<string, { opaque: boolean; attributes: Set<string> }>();
  /** Folders of entries that did not come before them. */
  const unseen = new Set<string>();
  const problems: string[] = [];
  let [whole, looked] = [0, 0];
  let full = false;
  const box = startBox(['/usr/bin/tar', '--extract', '--file=-', '--directory=/out', '--numeric-owner', '--same-owner', '--preserve-permissions', '--acls', '--xattrs',
    '--xattrs-include=user.*', '--xattrs-include=security.capability', '--delay-directory-restore', '--warning=no-timestamp'],
  {
    out: mapped?.mount ?? target, links: 'refused', capabilities: CAPABILITIES, stdin: 'pipe', ...options.signal && { signal: options.signal },
    onLine: (line) => {
      if (NO_SPACE.test(line)) {
        full = true;
        box.kill(); // it would go on with what comes next
      } else if (CONFLICT.test(line)) counts.conflicts += 1;
      else if (!TRAILER.test(line)) problems.push(line);
    },
  });
  const reader = new TarReader((entry) => {
    counts.entries += 1;
    counts.bytes += entry.size;
    whole += entry.whole;
    if (counts.entries > limits.entries) throw invalid(`holds more than ${limits.entries} entries`);
    if (counts.bytes > limits.bytes) throw invalid(`holds more than ${limits.bytes} bytes`);
    if (limits.whole !== undefined && whole > limits.whole) throw invalid(`holds files of more than ${limits.whole} bytes`);
    checkEntry(entry, uidBase);
    note(plain(entry.path), entry);
  }, undefined, { encoding: 'latin1', hash: false, posix: true, invalid });

  const note = (path: string, { type, xattrs }: TarEntry): void => {
    if (type === 'folder') folders.set(path, { opaque: opaque.has(path), attributes: new Set([...xattrs.keys()].filter((name) => name.startsWith('user.'))) });
    for (let above = folderOf(path); above !== '.' && !folders.has(above) && !unseen.has(above); above = folderOf(above)) unseen.add(above);
  };

  /** The header, until it is whole, and how much of it is there. */
  let head: Buffer | undefined = Buffer.alloc(STREAM_MAGIC.length + 4);
  let size = 0;
  /** tar has ended, however. */
  let over: BoxEnd | undefined;
  let opaque = new Set<string>();
  const { promise: ended, resolve, reject } = Promise.withResolvers<StreamCounts>();
  ended.catch(() => {}); // told to whoever waits

  const input = new Writable({
    highWaterMark: 1 << 20,
    write(chunk: Buffer, _encoding, ready) {
      feed(chunk).then(() => ready(), ready);
    },
    final(ready) {
      finish().then((result) => {
        resolve(result);
        ready();
      }, ready);
    },
    destroy(error, done) {
      box.kill();
      const why = error === null ? new VeldError('operation.cancelled', 'The stream was given up.') : toVeldError(error);
      whenGone(() => reject(why)); // not before: whoever hears of it may remove what tar writes to
      done(error === null ? null : why);
    },
  });
  input.on('error', () => {}); // `ended` tells
  // That it takes no more is only what came of it.
  box.ended.then((end) => { over = end; }, (error: unknown) => input.destroy(full ? noSpace() : error as Error));
  return { input, ended, cancel: () => { input.destroy(); } };

  function whenGone(work: () => void): void {
    box.ended.then(work, work);
  }

  async function feed(chunk: Buffer): Promise<void> {
    const bytes = head ? behindHeader(chunk) : chunk;
    if (bytes.length === 0) return;
    looked += bytes.length;
    if (looked > LOOK && limits.leave !== undefined) {
      looked = 0;
      const { bavail, bsize } = statfsSync(limits.leave.on);
      if (bavail * bsize < limits.leave.bytes) throw noSpace();
    }
    reader.write(bytes);
    if (over) throw failure(over);
    await box.feed(bytes);
  }

  /** Take the header, which may come by single bytes. @returns what comes behind it */
  function behindHeader(chunk: Buffer): Buffer {
    const start = STREAM_MAGIC.length + 4;
    let rest = chunk;
    for (;;) {
      const taken = rest.copy(head!, size);
      size += taken;
      rest = rest.subarray(taken);
      if (size < head!.length) return rest;
      if (!head!.subarray(0, STREAM_MAGIC.length).equals(STREAM_MAGIC)) throw invalid('is none of a tree');
      const length = head!.readUInt32BE(STREAM_MAGIC.length);
      if (length > HEADER_LIMIT) throw invalid('has a header longer than 32 MiB');
      if (size === start + length) break;
      head = Buffer.concat([head!], start + length);
    }
    const names = head!.subarray(start);
    if (names.reduce((count, byte) => (byte === 0 ? count + 1 : count), 0) > Math.min(limits.entries, HEADER_NAMES)) throw invalid('names too many folders');
    opaque = new Set(names.toString('latin1').split('\0').slice(0, -1));
    head = undefined;
    return rest;
  }

  async function finish(): Promise<StreamCounts> {
    if (head) throw invalid('is cut short');
    reader.end();
    box.stdin!.end();
    const end = await box.ended;
    if (full || problems.length > 0 || (end.code !== 0 && (end.code !== 2 || counts.conflicts === 0))) throw failure(end);
    const root = openRoot(target);
    try {
      for (const path of folders.keys()) unseen.delete(path);
      counts.adopted = await adoptFolders(root, [...unseen], mapped?.base ?? uidBase);
      counts.conflicts += await markFolders(root, folders satisfies Map<string, FolderMarks>);
    } finally {
      closeSync(root);
    }
    return counts;
  }

  function noSpace(): VeldError {
    return new VeldError('disk.full', `No space left for ${target}.`);
  }

  /** Why tar has ended without what it should have done. */
  function failure({ code, said }: BoxEnd): VeldError {
    if (full) return noSpace();
    return new VeldError('storage.failed', `${target} could not be written: ${problems[0] ?? (said || `tar ended with status ${code}`)}`);
  }
}

/** The rules that each entry must keep. */
function checkEntry(entry: TarEntry, uidBase: number): void {
  const { path, type, link, uid, gid } = entry;
  const shown = JSON.stringify(Buffer.from(path.slice(0, 100), 'latin1').toString());
  const own = (id: number): boolean => id >= uidBase && id < uidBase + RANGE;
  if (path.length >= PATH_LIMIT || link.length >= PATH_LIMIT) throw invalid(`holds a path longer than ${PATH_LIMIT} bytes, ${shown}`);
  if (path === '' || outside(path)) throw invalid(`holds ${shown}, which leads out of the tree`);
  if (plain(path) === '.' && type !== 'folder') throw invalid('holds a root that is no folder');
  if (type === 'hardlink' && (link === '' || outside(link))) throw invalid(`holds the hard link ${shown}, which leads out of the tree`);
  if (type === 'block' || (type === 'character' && entry.device.some((number) => number !== 0))) throw invalid(`holds the device node ${shown}`);
  // Overlayfs marks deleted names as whoever mounted it: the host's root, who is the first id that no VE has where owners are written from 0 (`mapFromZero`).
  const owned = (id: number): boolean => own(id) || (type === 'character' && (id === 0 || (uidBase === 0 && id === RANGE)));
  if (!owned(uid) || !owned(gid)) throw invalid(`holds ${shown} of owner ${uid}:${gid}, outside of the VE's range`);
  for (const [name, value] of entry.xattrs) {
    if (name === 'security.capability') {
      if (capabilityRoot(value) !== uidBase) throw invalid(`holds ${shown} with capabilities that are none of the VE's`);
    } else if (!name.startsWith('user.')) throw invalid(`holds ${shown} with the attribute ${JSON.stringify(name.slice(0, 100))}`);
  }
  for (const acl of entry.acls.values()) {
    for (const line of acl.split('\n')) {
      const [, kind, id = ''] = /^(user|group|mask|other):(\d{0,10}):[r-][w-][x-]$/.exec(line) ?? [];
      if (line !== '' && kind === undefined) throw invalid(`holds ${shown} with an access list that cannot be read`);
      if (id !== '' && !own(Number(id))) throw invalid(`holds ${shown} with an access list that names ${id}, outside of the VE's range`);
    }
  }
}

/**
 * Host id of the root user for whom a file capability counts (capabilities(7), "File capability extensions"; struct vfs_ns_cap_data of linux/capability.h).
 * The versions before 3 have none: they count for the host's.
 */
function capabilityRoot(value: Buffer): number | undefined {
  const version = value.length < 4 ? 0 : value.readUInt32LE(0) >>> 24;
  if ((version === 1 && value.length === 12) || (version === 2 && value.length === 20)) return 0;
  return version === 3 && value.length === 24 ? value.readUInt32LE(20) : undefined;
}

function outside(path: string): boolean {
  return path.startsWith('/') || path.includes('\0') || path.split('/').includes('..');
}

/** The path as a scan has it. */
function plain(path: string): string {
  return path.split('/').filter((part) => part !== '' && part !== '.').join('/') || '.';
}

function invalid(what: string): VeldError {
  return new VeldError('migration.stream', `The stream ${what}.`);
}
