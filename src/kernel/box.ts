/**
 * A program in a box: for work on trees and streams that somebody else made.
 *
 * It runs in mount, pid, net, ipc and uts namespaces of its own, in a root that holds nothing but the host's programs (read-only) and the folders that it was
 * given, with no more of root's might than it was given, without a way to get more. So a program that is misled by what it reads cannot reach the host.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { VeldError } from '../lib/errors.ts';
import { openStack, type TreeRoot } from './mounts.ts';

/**
 * What of root's might a program can have in a box, see capabilities(7). None of these makes a device, mounts, or leaves.
 * `dac_read_search` reads whatever the owner; the others write files of any owner.
 */
export type BoxCapability = 'chown' | 'dac_override' | 'dac_read_search' | 'fowner' | 'fsetid' | 'setfcap';

export interface BoxOptions {
  /** Folder that it sees at /out, to write into; or the descriptor of a mount that is attached nowhere (openIdmapped of mounts.ts). */
  out?: string | number;
  /** Folder that it sees at /in, to read only; several: as the one tree that they make above each other. */
  in?: TreeRoot;
  /** Whether paths in these folders may lead through symbolic links (mount(8), `nosymfollow`). What a link says can be read in either case. */
  links: 'followed' | 'refused';
  capabilities: readonly BoxCapability[];
  /** It has the host's network, and sees what programs need there (/etc: names, certificates, how containers' tools trust). Default: a network of its own, with nobody in it. */
  network?: boolean;
  /** `pipe`, or a descriptor. Default: nothing to read. */
  stdin?: 'pipe' | number;
  /** Default: thrown away. */
  stdout?: 'pipe';
  /** Called for each line of standard error, each byte of it one character. */
  onLine?: (line: string) => void;
  signal?: AbortSignal;
}

/** How a program ended. */
export interface BoxEnd {
  /** Exit status; null when a signal ended it. */
  code: number | null;
  /** The last lines of standard error, in one. */
  said: string;
}

export interface Box {
  /** Present when asked for. Emits no error that must be listened to: a program that reads no more shows by `ended`. */
  stdin: Writable | null;
  stdout: Readable | null;
  /** Settles when program and streams are at their end. Rejects with a VeldError `operation.cancelled` or `command.failed`. */
  ended: Promise<BoxEnd>;
  /** Write to its standard input; resolves when it takes more, or has ended. */
  feed(chunk: Uint8Array): Promise<void>;
  /** End it, whatever it does. */
  kill(): void;
}

/**
 * $1: where the new root is mounted; $2: folder for /out, or empty, or `&3` for the mount at that descriptor; $3: for /in, or `&4`; $4: more mount options of both; $5: capabilities; $6: names below the host's /etc that it sees. The rest is the
 * program. 429 is move_mount(2), the same on every architecture; 4: MOVE_MOUNT_F_EMPTY_PATH of linux/mount.h.
 */
const SCRIPT = `set -e
box=$1 out=$2 in=$3 options=$4 capabilities=$5 etc=$6; shift 6
mount -t tmpfs -o mode=0755,nosuid,nodev,size=1m veld-box "$box"
mkdir "$box/out" "$box/in" "$box/etc"
for name in usr bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$name" ]; then links="$links /$name"
  elif [ -d "/$name" ]; then
    mkdir "$box/$name"
    mount --bind -o ro,nosuid,nodev "/$name" "$box/$name"
  fi
done
if [ -n "$links" ]; then cp -P $links "$box"; fi
for name in $etc; do
  if [ -d "/etc/$name" ]; then mkdir "$box/etc/$name"; elif [ -e "/etc/$name" ]; then : >"$box/etc/$name"; else continue; fi
  mount --bind -o ro,nosuid,nodev,noexec "/etc/$name" "$box/etc/$name"
done
attach() { perl -e 'my $empty = ""; syscall(429, $ARGV[0] + 0, $empty, -100, $ARGV[1], 4) == 0 or die "move_mount: $!\n"' "$1" "$2"; }
if [ "$out" = '&3' ]; then
  attach 3 "$box/out"
  mount -o "remount,bind,nosuid,nodev,noexec$options" "$box/out"
elif [ -n "$out" ]; then mount --bind -o "nosuid,nodev,noexec$options" "$out" "$box/out"; fi
if [ "$in" = '&4' ]; then
  attach 4 "$box/in"
  mount -o "remount,bind,ro,nosuid,nodev,noexec$options" "$box/in"
elif [ -n "$in" ]; then mount --bind -o "ro,nosuid,nodev,noexec$options" "$in" "$box/in"; fi
exec 3>&- 4>&-
if [ -n "$options" ]; then
  # A mount(8) that does not know this option takes it for one of the file system, and a bind has none.
  for name in \${out:+out} \${in:+in}; do
    grep -q " $box/$name .*[ ,]nosymfollow[ ,]" /proc/self/mounts || { echo 'mount(8) of this host cannot refuse symbolic links' >&2; exit 1; }
  done
fi
mount -o remount,ro,nosuid,nodev "$box"
cd "$box"
exec /usr/sbin/chroot "$box" /usr/bin/setpriv --bounding-set="$capabilities" --inh-caps=-all --no-new-privs -- "$@"
`;

/**
 * Where the root of a box is mounted, in a namespace of its own: a folder that every host has, in which nothing lies that a box is given. A folder made for each
 * would stay where the daemon is killed.
 */
const PLACE = '/sys';

/** What programs that use the network read below /etc. */
const NETWORK = 'resolv.conf hosts nsswitch.conf ssl ca-certificates containers';

/** What is kept of standard error, in characters. */
const SAID_LIMIT = 2000;

/**
 * Start a program in a box. It is there some ten milliseconds later; one that waits for its input can be started before there is any.
 * The working folder is the root of the box, the environment is PATH and LC_ALL=C.
 * @param program absolute path, and arguments
 */
export function startBox(program: readonly string[], options: BoxOptions): Box {
  const stack = typeof options.in === 'object' && options.in.length !== 1 ? openStack(options.in) : undefined;
  const source = typeof options.in === 'object' ? options.in[0] : options.in;
  const child = spawn('/usr/bin/unshare', ['--mount', '--propagation', 'private', '--pid', '--fork', '--kill-child', ...options.network === true ? [] : ['--net'], '--ipc', '--uts', '--',
    '/bin/sh', '-c', SCRIPT, 'sh', PLACE, typeof options.out === 'number' ? '&3' : options.out ?? '', stack === undefined ? source ?? '' : '&4', options.links === 'refused' ? ',nosymfollow' : '',
    ['-all', ...options.capabilities.map((name) => `+${name}`)].join(','), options.network === true ? NETWORK : '', ...program],
  {
    cwd: '/', env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin', LC_ALL: 'C' }, stdio: [options.stdin ?? 'ignore', options.stdout ?? 'ignore', 'pipe', typeof options.out === 'number' ? options.out : 'ignore', stack ?? 'ignore'],
    detached: true,
  });
  if (stack !== undefined) closeSync(stack); // it is the child's now
  // The whole process group: between unshare's fork and the moment at which its child asks to end with it, one who ends unshare alone leaves the child behind.
  const kill = (): void => {
    if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
    try {
      process.kill(-child.pid, 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  };
  let said = '';
  let rest = '';
  child.stderr?.on('data', (chunk: Buffer) => {
    const text = chunk.toString('latin1');
    said = (said + text).slice(-SAID_LIMIT);
    if (!options.onLine) return;
    const lines = (rest + text).split('\n');
    rest = (lines.pop() ?? '').slice(-SAID_LIMIT);
    for (const line of lines) options.onLine(line);
  });
  child.stdin?.on('error', () => {}); // it ended early: its status and words follow
  const ended = new Promise<BoxEnd>((resolve, reject) => {
    const abort = (): void => {
      kill();
      reject(new VeldError('operation.cancelled', 'The operation was cancelled.', { cause: options.signal?.reason }));
    };
    options.signal?.addEventListener('abort', abort, { once: true });
    if (options.signal?.aborted) abort();
    child.on('error', (error) => {
      reject(new VeldError('command.failed', `unshare could not be run: ${error.message}`, { cause: error }));
    });
    child.on('close', (code) => {
      options.signal?.removeEventListener('abort', abort);
      if (rest !== '') options.onLine?.(rest);
      resolve({ code, said: said.trim().split('\n').slice(-2).join(' / ') });
    });
  });
  ended.catch(() => {}); // told to whoever waits
  return {
    stdin: child.stdin, stdout: child.stdout, ended,
    async feed(chunk) {
      if (child.stdin?.write(chunk) === false) await Promise.race([once(child.stdin, 'drain').catch(() => ended), ended]);
    },
    kill,
  };
}
