/** A wire between two nodes that a test has in its hands: what goes through it can be held up for a while, and a byte of it be changed. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface Relay {
  /** Where it listens, at 127.0.0.1. */
  port: number;
  /** From now on nothing gets through, neither data nor the end of a connection, and none that is new. */
  cut(): void;
  /** Forget the connections that there are: neither side hears anything more of them. Others get through. */
  strand(): void;
  /** All of that goes on. */
  mend(): void;
  /** Change one byte of what comes through next. @param at which one of a part: from 0 up to 1; undefined: none any more @returns whether one was still to be changed */
  flip(at?: number): boolean;
  close(): void;
}

/** Relay connections to a port at 127.0.0.1. */
export async function makeRelay(target: number): Promise<Relay> {
  const sockets = new Set<Socket>();
  /** What happened while it was cut, in order. */
  let late: (() => void)[] = [];
  let [cut, next] = [false, undefined as number | undefined];
  /** Now, or when it is mended. */
  const through = (work: () => void): void => void (cut ? late.push(work) : work());

  const lead = (from: Socket, to: Socket): void => {
    sockets.add(from);
    if (cut) from.pause();
    from.on('data', (data: Buffer) => {
      if (next !== undefined) {
        data[Math.floor(next * data.length)]! ^= 0x20;
        next = undefined;
      }
      through(() => {
        if (to.write(data)) return;
        from.pause();
        to.once('drain', () => { if (!cut) from.resume(); });
      });
    });
    from.on('end', () => through(() => void to.end()));
    from.on('error', () => {}); // `close` follows
    from.on('close', () => {
      sockets.delete(from);
      through(() => void to.destroy());
    });
  };

  const server = createServer({ allowHalfOpen: true, pauseOnConnect: true }, (near) => {
    near.on('error', () => {});
    through(() => {
      const far = connect({ port: target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
      near.setNoDelay(true);
      lead(near, far);
      lead(far, near);
      if (!cut) near.resume();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    cut() {
      cut = true;
      for (const socket of sockets) socket.pause();
    },
    strand() {
      for (const socket of sockets) socket.pause().removeAllListeners('end').removeAllListeners('close').removeAllListeners('data');
    },
    mend() {
      cut = false;
      const work = late;
      late = [];
      for (const each of work) each();
      for (const socket of sockets) socket.resume();
    },
    flip(at) {
      const was = next !== undefined;
      next = at;
      return was;
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
