/** What comes of the processes of a VE before their state does: rounds of memory while it runs there, and parts of images that criu is writing. */
import { closeSync, mkdirSync, openSync, renameSync, rmSync, statfsSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isMemory, PARENT } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { PAGES } from './early-images.ts';
import type { FrameStream } from './frames.ts';
import { MEMORY_ROUNDS } from './memory-rounds.ts';
import { receiveFiles } from './state-files.ts';
import { LEFT, type BetweenMessage, type MemoryMessage, type PartMessage, type StateMessage } from './types.ts';

/** Most files of which parts come, and most parts: ours are rarely smaller than 256 KiB. */
const FILES = 20_000;
const PARTS = 1_000_000;

export class MemoryReceived {
  readonly #dir: string;
  readonly #limit: number;
  #rounds = 0;
  #parts = 0;
  #bytes = 0;
  readonly #earlier: string | undefined;
  /** How much has come of each file. */
  readonly #early = new Map<string, number>();

  /** @param dir made when it is needed @param limit most bytes of one round, and of the state @param earlier folder with the states of snapshots, of which this one may have files */
  constructor(dir: string, limit: number, earlier?: string) {
    [this.#dir, this.#limit, this.#earlier] = [dir, limit, earlier];
  }

  /** @throws VeldError `migration.link`, `migration.stream`, `disk.full` */
  async take(link: FrameStream, message: BetweenMessage): Promise<void> {
    if (message.type === 'memory') await this.#takeRound(link, message);
    else if (message.type === 'part') await this.#takePart(link, message);
    else this.#forgetParts();
  }

  /** The state itself. @returns its folder @throws VeldError `migration.link`, `migration.stream`, `disk.full` */
  async takeState(link: FrameStream): Promise<string> {
    const { files, memory } = await link.receive<StateMessage>('state');
    await receiveFiles(link, files, this.#state, this.#limit, { early: this.#early, ...this.#earlier !== undefined && { earlier: this.#earlier } });
    faultPoint('migrate-in.state');
    link.send({ type: 'done' });
    if (memory !== 0 && memory !== this.#rounds) throw new VeldError('migration.stream', 'The processes that came stand on a memory that did not.');
    for (let [round, folder] = [memory, join(this.#state, 'images')]; round > 0; round--) {
      folder = join(folder, PARENT);
      renameSync(join(this.#dir, String(round)), folder);
    }
    return this.#state;
  }

  get #state(): string {
    return join(this.#dir, 'state');
  }

  async #takeRound(link: FrameStream, { files }: MemoryMessage): Promise<void> {
    this.#rounds += 1;
    if (this.#rounds > MEMORY_ROUNDS) throw new VeldError('migration.stream', `The other node sends the memory again and again: ${MEMORY_ROUNDS} times so far.`);
    if (!Array.isArray(files) || !files.every((file) => typeof file?.path === 'string' && isMemory(file.path))) throw new VeldError('migration.stream', 'The other node has sent something else than memory.');
    await receiveFiles(link, files, join(this.#dir, String(this.#rounds)), this.#limit);
    link.send({ type: 'done' });
  }

  async #takePart(link: FrameStream, { path, size }: PartMessage): Promise<void> {
    const wrong = (why: string): never => { throw new VeldError('migration.stream', `The other node has sent a part of an image that cannot be one: ${why}.`); };
    if (typeof path !== 'string' || path.length > 100 || !PAGES.test(path) || !Number.isSafeInteger(size) || size < 0) wrong('a name or size that is none');
    const there = this.#early.get(path) ?? 0;
    this.#bytes += size;
    if (++this.#parts > PARTS || this.#bytes > this.#limit || (there === 0 && this.#early.size >= FILES)) wrong('there are too many');
    const file = join(this.#state, path);
    mkdirSync(dirname(file), { recursive: true, mode: 0o755 });
    const { bavail, bsize } = statfsSync(this.#dir);
    const full = (cause?: unknown): VeldError => new VeldError('disk.full', 'There is no space for its memory on that node.', { cause });
    if (size + LEFT.disk > bavail * bsize) throw full();
    const fd = openSync(file, there === 0 ? 'w' : 'a', 0o644);
    try {
      let left = size;
      await link.receiveParts((chunk) => {
        left -= chunk.length;
        if (left < 0) wrong('more than it had announced');
        for (let done = 0; done < chunk.length;) done += writeSync(fd, chunk, done);
      });
      if (left > 0) wrong('less than it had announced');
    } catch (error) {
      throw (error as NodeJS.ErrnoException).code === 'ENOSPC' ? full(error) : error;
    } finally {
      closeSync(fd);
    }
    this.#early.set(path, there + size);
  }

  #forgetParts(): void {
    rmSync(this.#state, { recursive: true, force: true });
    this.#early.clear();
    this.#bytes = 0;
  }
}
