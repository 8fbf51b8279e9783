/**
 * The memory in a state on its way while criu still writes it: who waited for the end of that would have the VE stand for both, one after the other. criu writes these
 * images from front to back, and never again. Both sides: they come in parts, and what had come is void when criu begins anew.
 */
import { closeSync, createReadStream, existsSync, mkdirSync, openSync, readdirSync, rmSync, statfsSync, statSync, watch, type FSWatcher } from 'node:fs';
import { dirname, join } from 'node:path';
import { VeldError } from '../lib/errors.ts';
import type { FrameStream } from './frames.ts';
import { LEFT, type AnewMessage, type PartMessage } from './types.ts';
import { WriteBehind } from './write-behind.ts';

/** Images with nothing but memory. */
const PAGES = /^images\/pages-\d+\.img$/;

/** The image that criu opens when it has stopped the processes, and not before (cr_dump_tasks in criu/cr-dump.c: collect_pstree, then cr_glob_imgset_open). */
const FIRST = 'files.img';

/** How much is worth a message of its own, in bytes, and how much goes in one at most. */
const LEAST = 256 << 10;
const MOST = 4 << 20;

/** Most files of which parts are taken, and most parts. */
const FILES = 20_000;
const PARTS = 1_000_000;

/** The side that sends. */
export class EarlyImages {
  readonly #link: FrameStream;
  readonly #dir: string;
  #watcher: FSWatcher | undefined;
  #going: Promise<void> | undefined;
  /** Wakes who waits for criu to write more. */
  #more: () => void = () => {};
  readonly #standing: () => Promise<void>;
  /** How much of each file has gone. */
  readonly sent = new Map<string, number>();

  /** @param dir folder of the state @param standing done as soon as criu has stopped the processes, before anything of their memory goes */
  constructor(link: FrameStream, dir: string, standing: () => Promise<void> = async () => {}) {
    [this.#link, this.#dir, this.#standing] = [link, dir, standing];
  }

  /** criu is about to write; what it wrote before is void. To be called when there is a folder for it. @throws VeldError `migration.link` */
  async begin(): Promise<void> {
    await this.end();
    if (this.sent.size > 0) this.#link.send({ type: 'anew' } satisfies AnewMessage);
    this.sent.clear();
    // Or what is there from before would be taken for what criu writes now.
    for (const name of readdirSync(join(this.#dir, 'images'))) if (PAGES.test(`images/${name}`) || name === FIRST) rmSync(join(this.#dir, 'images', name));
    this.#watcher = watch(join(this.#dir, 'images'), () => this.#more());
    this.#going = this.#follow();
    this.#going.catch(() => {}); // end() tells
  }

  /** Send no more; what is left goes with the state. @throws VeldError `migration.link` */
  async end(): Promise<void> {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#more();
    await this.#going;
  }

  async #follow(): Promise<void> {
    let stands = false;
    while (this.#watcher) {
      const more = new Promise<void>((resolve) => { this.#more = resolve; });
      if (!stands && existsSync(join(this.#dir, 'images', FIRST))) {
        stands = true;
        await this.#standing();
      }
      const next = this.#next();
      if (!next) await more;
      else if (!await this.#send(next)) return;
    }
  }

  #next(): { path: string; size: number } | undefined {
    for (const name of readdirSync(join(this.#dir, 'images'))) {
      const path = `images/${name}`;
      if (!PAGES.test(path)) continue;
      const size = (statSync(join(this.#dir, path), { throwIfNoEntry: false })?.size ?? 0) - (this.sent.get(path) ?? 0);
      if (size >= LEAST) return { path, size: Math.min(size, MOST) };
    }
    return undefined;
  }

  async #send({ path, size }: { path: string; size: number }): Promise<boolean> {
    const start = this.sent.get(path) ?? 0;
    this.#link.send({ type: 'part', path, size } as PartMessage);
    const whole = await this.#link.sendBulk(createReadStream(join(this.#dir, path), { start, end: start + size - 1, highWaterMark: 1 << 20 }), undefined, false);
    this.sent.set(path, start + size);
    return whole;
  }
}

/** The side that takes. */
export class EarlyReceived {
  readonly #dir: string;
  readonly #limit: number;
  #parts = 0;
  #bytes = 0;
  readonly #received = new Map<string, number>();

  /** @param dir of the state, made when it is needed, in a folder that is there by then @param limit most bytes */
  constructor(dir: string, limit: number) {
    [this.#dir, this.#limit] = [dir, limit];
  }

  /** How much has come of each file, in bytes. */
  get received(): ReadonlyMap<string, number> {
    return this.#received;
  }

  /** @throws VeldError `migration.link`, `migration.stream`, `disk.full` */
  async take(link: FrameStream, { path, size }: PartMessage): Promise<void> {
    const wrong = (why: string): never => { throw new VeldError('migration.stream', `The other node has sent a part of an image that cannot be one: ${why}.`); };
    if (typeof path !== 'string' || path.length > 100 || !PAGES.test(path) || !Number.isSafeInteger(size) || size < 0) wrong('a name or size that is none');
    const there = this.#received.get(path) ?? 0;
    this.#bytes += size;
    if (++this.#parts > PARTS || this.#bytes > this.#limit || (there === 0 && this.#received.size >= FILES)) wrong('there are too many');
    const file = join(this.#dir, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    const { bavail, bsize } = statfsSync(this.#dir);
    const full = (cause?: unknown): VeldError => new VeldError('disk.full', 'There is no space for its memory on that node.', { cause });
    if (size + LEFT.disk > bavail * bsize) throw full();
    const fd = openSync(file, there === 0 ? 'w' : 'a', 0o644);
    const behind = new WriteBehind();
    try {
      let left = size;
      await link.receiveParts(async (chunk) => {
        left -= chunk.length;
        if (left < 0) wrong('more than it had announced');
        await behind.write(fd, chunk);
      });
      await behind.end();
      if (left > 0) wrong('less than it had announced');
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ENOSPC' ? full(error) : error;
    } finally {
      await behind.end().catch(() => {}); // said above, or what else went wrong is
      closeSync(fd);
    }
    this.#received.set(path, there + size);
  }

  /** What has come is void. */
  forget(): void {
    rmSync(this.#dir, { recursive: true, force: true });
    this.#received.clear();
    this.#bytes = 0;
  }
}
