/**
 * The memory in a state on its way while criu still writes it: who waited for the end of that would have the VE stand for both, one after the other. criu writes these
 * images from front to back, and never again.
 */
import { createReadStream, readdirSync, rmSync, statSync, watch, type FSWatcher } from 'node:fs';
import { join } from 'node:path';
import type { FrameStream } from './frames.ts';
import type { AnewMessage, PartMessage } from './types.ts';

/** Images with nothing but memory. */
export const PAGES = /^images\/pages-\d+\.img$/;

/** How much is worth a message of its own, in bytes, and how much goes in one at most. */
const LEAST = 256 << 10;
const MOST = 4 << 20;

export class EarlyImages {
  readonly #link: FrameStream;
  readonly #dir: string;
  #watcher: FSWatcher | undefined;
  #going: Promise<void> | undefined;
  /** Wakes who waits for criu to write more. */
  #more: () => void = () => {};
  /** How much of each file has gone. */
  readonly sent = new Map<string, number>();

  /** @param dir folder of the state */
  constructor(link: FrameStream, dir: string) {
    [this.#link, this.#dir] = [link, dir];
  }

  /** criu is about to write; what it wrote before is void. To be called when there is a folder for it. @throws VeldError `migration.link` */
  async begin(): Promise<void> {
    await this.end();
    if (this.sent.size > 0) this.#link.send({ type: 'anew' } satisfies AnewMessage);
    this.sent.clear();
    // Or what is there from before would be taken for what criu writes now.
    for (const name of readdirSync(join(this.#dir, 'images'))) if (PAGES.test(`images/${name}`)) rmSync(join(this.#dir, 'images', name));
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
    while (this.#watcher) {
      const more = new Promise<void>((resolve) => { this.#more = resolve; });
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
