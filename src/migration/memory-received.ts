/** What comes of the processes of a VE before their state does: rounds of memory while it runs there, and parts of images that criu is writing. */
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { isMemory, PARENT } from '../checkpoint/parent.ts';
import { VeldError } from '../lib/errors.ts';
import { faultPoint } from '../lib/faults.ts';
import { EarlyReceived } from './early-images.ts';
import type { FrameStream } from './frames.ts';
import { MEMORY_ROUNDS } from './memory-rounds.ts';
import { receiveFiles } from './state-files.ts';
import type { BetweenMessage, MemoryMessage, StateMessage } from './types.ts';

export class MemoryReceived {
  readonly #dir: string;
  readonly #limit: number;
  #rounds = 0;
  readonly #earlier: string | undefined;
  readonly #early: EarlyReceived;

  /** @param dir made when it is needed @param limit most bytes of one round, and of the state @param earlier folder with the states of snapshots, of which this one may have files */
  constructor(dir: string, limit: number, earlier?: string) {
    [this.#dir, this.#limit, this.#earlier] = [dir, limit, earlier];
    this.#early = new EarlyReceived(this.#state, limit);
  }

  /** @throws VeldError `migration.link`, `migration.stream`, `disk.full` */
  async take(link: FrameStream, message: BetweenMessage): Promise<void> {
    if (message.type === 'memory') await this.#takeRound(link, message);
    else if (message.type === 'part') await this.#early.take(link, message);
    else this.#early.forget();
  }

  /** The state itself. @returns its folder @throws VeldError `migration.link`, `migration.stream`, `disk.full` */
  async takeState(link: FrameStream): Promise<string> {
    const { files, memory } = await link.receive<StateMessage>('state');
    await receiveFiles(link, files, this.#state, this.#limit, { early: this.#early.received, ...this.#earlier !== undefined && { earlier: this.#earlier } });
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
}
