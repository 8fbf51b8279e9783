/** Writes of what comes from another node. */
import { write, writeSync } from 'node:fs';
import { promisify } from 'node:util';

const writeInThread = promisify(write) as (fd: number, piece: Buffer) => Promise<{ bytesWritten: number }>;

/** What is smaller than this, in bytes, is in the page cache before another thread would have heard of it. */
const SMALL = 64 << 10;

/**
 * Large pieces go to their file in another thread, each while the next one comes: the disk, when the kernel makes writers wait for it, holds up neither the connection nor anybody else. One at a time,
 * so that they stay in order.
 */
export class WriteBehind {
  #last: Promise<void> | undefined;

  /** Append a piece, which must not change any more. @throws the error of this write, or of the one before (ENOSPC, ...) */
  async write(fd: number, piece: Buffer): Promise<void> {
    await this.end();
    if (piece.length < SMALL) for (let done = 0; done < piece.length;) done += writeSync(fd, piece, done);
    else {
      this.#last = writeAll(fd, piece);
      this.#last.catch(() => {}); // whoever writes or ends next hears of it
    }
  }

  /** Wait until all is written. To be done before a file is closed. @throws the error of the last write */
  async end(): Promise<void> {
    const last = this.#last;
    this.#last = undefined;
    await last;
  }
}

async function writeAll(fd: number, piece: Buffer): Promise<void> {
  for (let done = 0; done < piece.length;) done += (await writeInThread(fd, piece.subarray(done))).bytesWritten;
}
