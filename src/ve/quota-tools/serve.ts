/** The daemon's end of the quota tools of one VE. Whoever is in the VE may connect: so everything has a bound, and nothing that is sent says who sends it. */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import type { Logger } from '../../lib/log.ts';
import { peerCredentials, peerGroups } from '../../kernel/peer-credentials.ts';
import { listenUnix } from '../../kernel/unix-sockets.ts';
import { UIDS } from '../guest-users.ts';
import { answerFrames, readRequest, type AskedTool } from './frames.ts';
import type { Caller, ToolAnswer } from './types.ts';

/** How many may ask at once; more are hung up on. */
const MOST_AT_ONCE = 8;
/** How long a request may take to come, and its answer to be read, in milliseconds. */
const PATIENCE = 10_000;

export interface QuotaServer {
  /** Hang up. @param gone take the socket away, too: there is nothing to be asked for any more; else whoever asks is told that nobody listens just now */
  close(gone: boolean): void;
}

export interface ServeOptions {
  socket: string;
  /** First id of the VE's range. */
  uidBase: number;
  answer: (asked: AskedTool, caller: Caller) => Promise<ToolAnswer>;
  log: Pick<Logger, 'error' | 'debug'>;
}

/** Serve. @throws the system error as it is, where nobody can listen there */
export function serveQuotaTools({ socket, uidBase, answer, log }: ServeOptions): QuotaServer {
  const open = new Set<Socket>();
  const answered = (asked: AskedTool, caller: Caller): Promise<Buffer> => answer(asked, caller).then(answerFrames, (error: unknown) => {
    log.error({ err: error }, 'a quota tool of a VE has failed');
    return answerFrames({ status: 1, err: `${asked.tool.slice(0, 40)}: that has failed on the host, whose log tells why.\n` });
  });
  const server = createServer((connection) => {
    connection.on('error', () => connection.destroy());
    const caller = open.size < MOST_AT_ONCE ? callerOf(connection, uidBase) : undefined;
    if (caller === undefined) {
      connection.destroy();
      return;
    }
    open.add(connection);
    connection.setTimeout(PATIENCE, () => connection.destroy());
    // A sender that never comes to an end keeps its connection busy, too.
    const late = setTimeout(() => connection.destroy(), 2 * PATIENCE).unref();
    connection.on('close', () => {
      open.delete(connection);
      clearTimeout(late);
    });
    const reader = readRequest();
    const take = (chunk: Buffer): void => {
      try {
        const asked = reader.add(chunk);
        if (asked === undefined) return;
        connection.off('data', take);
        connection.resume();
        answered(asked, caller).then((bytes) => connection.end(bytes), () => connection.destroy());
      } catch (error) {
        log.debug({ err: error }, 'a VE has asked for its quotas in another language');
        connection.destroy();
      }
    };
    connection.on('data', take);
  });
  server.on('error', (error) => log.error({ err: error }, 'the quota tools of a VE are not heard any more'));
  // Of a daemon before this one. Nobody but host root can have made it.
  if (lstatSync(socket, { throwIfNoEntry: false })) rmSync(socket);
  // By a descriptor: Node would take the socket away whenever the server is closed.
  const fd = listenUnix(socket);
  chmodSync(socket, 0o666);
  server.listen({ fd });
  server.unref();
  return {
    close(gone) {
      server.close();
      for (const connection of open) connection.destroy();
      if (gone) rmSync(socket, { force: true });
    },
  };
}

/** Who is there, as the VE counts; undefined for somebody who is not of the VE. */
function callerOf(connection: Socket, uidBase: number): Caller | undefined {
  const peer = peerCredentials(connection);
  if (peer === undefined) return undefined;
  const inside = (id: number): boolean => id >= uidBase && id < uidBase + UIDS;
  if (!inside(peer.uid) || !inside(peer.gid)) return undefined;
  return { uid: peer.uid - uidBase, groups: [...new Set([peer.gid, ...peerGroups(connection).filter(inside)])].map((gid) => gid - uidBase) };
}
