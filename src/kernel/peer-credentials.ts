/** Who is at the other end of a unix socket. */
import type { Socket } from 'node:net';
import { getPeerCredentials } from './unix-sockets.ts';

/** Ids as this process's namespaces see them, taken by the kernel at the time of connect(2). */
export interface PeerCredentials {
  /** May have ended since: for the log, never for a decision. */
  pid: number;
  uid: number;
  gid: number;
}

/**
 * Credentials of the peer (SO_PEERCRED, unix(7)).
 * @param socket a connected unix socket: a descriptor, or a socket of Node's (whose descriptor is in its handle)
 * @returns undefined when the socket is closed already
 */
export function peerCredentials(socket: number | Socket): PeerCredentials | undefined {
  // oxlint-disable-next-line no-underscore-dangle -- Node has no other way to a socket's descriptor; without it the answer is undefined.
  const fd = typeof socket === 'number' ? socket : (socket as Socket & { _handle?: { fd?: number } | null })._handle?.fd;
  if (fd === undefined || fd < 0) return undefined;
  return getPeerCredentials(fd);
}
