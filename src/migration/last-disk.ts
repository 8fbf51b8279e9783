/**
 * The last of the disk, of a VE that stands: it goes while criu writes the processes, which takes longer, and in the end the target hears that this was all. Only where criu has made a
 * name on the disk, had to begin anew, or a process wrote past the page cache when it was stopped, it is looked at once more.
 */
import { mayHaveTouchedDisk } from '../checkpoint/disk-touched.ts';
import type { Tree } from '../storage/transfer.ts';
import { prepareRound, sendNothing, sendRest, type PreparedRound } from './disk-rounds.ts';
import type { FrameStream } from './frames.ts';

export class LastDisk {
  /** One for each of the two looks, made ready while the VE runs: it would wait for them. */
  readonly #early: PreparedRound;
  readonly #last: PreparedRound;
  /** What the target had before, and what it has. */
  readonly #before: Tree;
  #have: Tree;
  #sent = false;
  #moved = false;

  /** @param path the upper @param have what the target has of it */
  constructor(path: string, have: Tree) {
    [this.#early, this.#last, this.#before, this.#have] = [prepareRound(path), prepareRound(path), have, have];
  }

  /** The VE runs, and criu is about to stop it. */
  begin(): void {
    this.#moved = this.#sent;
  }

  /** criu has stopped it. @throws VeldError `migration.link`, and what the target says */
  async standing(link: FrameStream): Promise<void> {
    if (this.#sent) return;
    this.#sent = true;
    this.#have = await sendRest(link, this.#have, this.#early, false);
  }

  /** criu has ended. @param images of its dump @throws VeldError `migration.link`, and what the target says */
  async finish(link: FrameStream, images: string): Promise<void> {
    if (this.#sent && !this.#moved && !mayHaveTouchedDisk(images)) await sendNothing(link, this.#last);
    else await sendRest(link, this.#moved ? doubted(this.#before, this.#have) : this.#have, this.#last, true);
  }

  /** End the programs that wait. */
  cancel(): void {
    this.#early.cancel();
    this.#last.cancel();
  }
}

/** What was sent while nobody knew that the VE ran again: a page that was changed after it was read may have left no mark (see storage/transfer.ts), so it goes once more. */
function doubted(before: Tree, have: Tree): Tree {
  return new Map([...have].map(([path, entry]) => {
    const old = before.get(path);
    return [path, { ...entry, recent: entry.recent || old?.inode !== entry.inode || old.ctime !== entry.ctime }];
  }));
}
