/**
 * Messages and connections that a dump cannot take along and that are gone in a moment, most often: connections that nobody has accepted yet (TCP, or of unix sockets
 * when something was sent already), and messages that carry their sender's credentials (SO_PASSCRED).
 */
import { closeSync } from 'node:fs';
import { run } from '../lib/run.ts';
import { openFiles } from '../kernel/open-files.ts';
import { pidfdGetfd, pidfdOpen } from '../kernel/syscalls.ts';
import { passesCredentials } from '../kernel/unix-sockets.ts';
import { namedProcess } from './named-process.ts';
import type { Obstacle } from './types.ts';

/** A line of ss(8), as far as it is needed. */
export interface SocketLine {
  kind: 'tcp' | 'unix';
  listening: boolean;
  /** Of a listening one: connections that wait; else bytes. */
  received: number;
  sent: number;
  /** 0 for TCP. */
  inode: number;
  /** Of a listening unix socket: the sockets whose connections wait. */
  waiting: number[];
}

/** Parse what `ss -H -n -a -e -x -t` says: a socket a line. */
export function parseSockets(text: string): SocketLine[] {
  return text.split('\n').flatMap((line): SocketLine[] => {
    const [, kind = '', state = '', received, sent, rest = ''] = /^(\w+)\s+(\S+)\s+(\d+)\s+(\d+)\s+(.*)$/.exec(line) ?? [];
    if (!/^(tcp|u_)/.test(kind)) return [];
    return [{
      kind: kind === 'tcp' ? 'tcp' : 'unix', listening: state === 'LISTEN', received: Number(received), sent: Number(sent),
      inode: kind === 'tcp' ? 0 : Number(/^(?:.*?\s)?(\d+)\s+(?:\*|\S+)\s+\d+/.exec(rest)?.[1] ?? 0),
      waiting: (/ peers:((?: \d+)+)/.exec(rest)?.[1] ?? '').split(' ').filter(Boolean).map(Number),
    }];
  });
}

/** @param init host pid of the VE's init @param pids host's, of all its processes */
export async function findQueued(init: number, pids: readonly number[]): Promise<Obstacle[]> {
  const { stdout, code } = await run('nsenter', [`--net=/proc/${init}/ns/net`, 'ss', '-H', '-n', '-a', '-e', '-x', '-t'], { allow: true, timeout: 10_000 });
  const sockets = code === 0 ? parseSockets(stdout) : []; // it has just ended
  const found: Obstacle[] = [];
  if (sockets.some(({ kind, listening, received }) => kind === 'tcp' && listening && received > 0)) {
    found.push({ kind: 'queue', process: null, text: 'There is a TCP connection that nobody has accepted yet.', remedy: 'Try again in a moment; or see whether a server in the VE hangs.' });
  }
  const byInode = new Map(sockets.filter(({ kind }) => kind === 'unix').map((socket) => [socket.inode, socket]));
  if (sockets.some(({ waiting }) => waiting.some((inode) => (byInode.get(inode)?.sent ?? 0) > 0))) {
    found.push({ kind: 'queue', process: null, text: 'There is a connection to a unix socket that nobody has accepted yet, and something was sent over it already.', remedy: 'Try again in a moment; or see whether a server in the VE hangs.' });
  }
  const filled = new Set(sockets.filter(({ kind, listening, received }) => kind === 'unix' && !listening && received > 0).map(({ inode }) => `socket:[${inode}]`));
  const holder = filled.size === 0 ? undefined : pids.find((pid) => holdsCredentials(pid, filled));
  if (holder !== undefined) {
    const process = namedProcess(holder);
    found.push({ kind: 'queue', process, text: `Process ${process.pid} (${process.name}) has not read yet what was sent to it with the sender's credentials.`, remedy: 'Try again in a moment; or see whether the program hangs.' });
  }
  return found;
}

/** Whether a process has one of these sockets, and wants credentials from it. */
function holdsCredentials(pid: number, sockets: ReadonlySet<string>): boolean {
  try {
    return openFiles(pid).some(({ fd: name, link }) => {
      if (!sockets.has(link)) return false;
      const pidfd = pidfdOpen(pid);
      try {
        const fd = pidfdGetfd(pidfd, Number(name));
        try {
          return passesCredentials(fd);
        } finally {
          closeSync(fd);
        }
      } finally {
        closeSync(pidfd);
      }
    });
  } catch {
    return false; // it, or the descriptor, has gone
  }
}
