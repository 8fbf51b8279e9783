/** Who is at the other end of a unix socket. */
import type { Socket } from 'node:net';
import { getPeerCredentials, getPeerGroups } from './unix-sockets.ts';

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
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : getPeerCredentials(fd);
}

/** Supplementary groups of the peer (SO_PEERGROUPS), at most 1024 of them; none where it has more, or the socket is closed. */
export function peerGroups(socket: number | Socket): number[] {
  const fd = descriptorOf(socket);
  return fd === undefined ? [] : getPeerGroups(fd);
}

function descriptorOf(socket: number | Socket): number | undefined {
  // oxlint-disable-next-line no-underscore-dangle -- Node has no other way to a socket's descriptor; without it the answer is undefined.
  const fd = typeof socket === 'number' ? socket : (socket as Socket & { _handle?: { fd?: number } | null })._handle?.fd;
  return fd === undefined || fd < 0 ? undefined : fd;
}
