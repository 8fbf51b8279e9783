/**
 * Messages and bulk data on one byte stream between two nodes.
 *
 *   1 byte     kind: `J` a message (JSON, UTF-8), `D` a part of bulk data, `Z` one that is compressed (a frame of zstd, RFC 8878), `E` its end, `X` its end before it was whole,
 *              `K` nothing but a sign of life; of whoever takes bulk data that may be compressed it says in one byte how busy that has been lately, in percent
 *   4 bytes    length of what follows, big endian
 *   the rest
 *
 * Whoever has nothing to say for a while gives a sign of life; a stream on which nothing comes for longer is taken for dead. So is one that is waited for, and brings
 * for very long nothing but signs of life, or data by drops.
 */
import type { Duplex, Readable, Writable } from 'node:stream';
import { runDelay } from '../kernel/run-delay.ts';
import { VeldError } from '../lib/errors.ts';
import { createJudge, partsOf, unpack, type Judge } from './packing.ts';
import { createThrottle, type Throttle } from './throttle.ts';

const HEAD = 5;
/** Longest message, and longest part of bulk data that is accepted, in bytes. */
const MESSAGE = 4 << 20;
const PART = 1 << 20;
/** How large the parts are that we send. */
const OUR_PART = 256 << 10;

/** How often whoever takes bulk data tells how busy it is, in milliseconds. */
const TELL = 100;

/** Less data than this, in bytes, is no progress. */
const PROGRESS = 64 << 10;

/** In milliseconds. */
export interface Patience {
  /** How often a sign of life is given. */
  alive: number;
  /** How long none may come. */
  dead: number;
  /** How long nothing else may come while it is waited for. */
  idle: number;
}

export const PATIENCE: Patience = { alive: 3000, dead: 15_000, idle: 600_000 };

/** A message: any object with a `type`. */
export interface Message {
  type: string;
}

export class FrameStream {
  readonly #stream: Duplex;
  readonly #timer: NodeJS.Timeout;
  readonly #patience: Patience;
  readonly #chunks: AsyncIterator<Buffer>;
  /** What has come and was not read yet. */
  #rest: Buffer = Buffer.alloc(0);
  /** What had come when the connection broke: it may say why. */
  #left: Buffer = Buffer.alloc(0);
  #heard = performance.now();
  /** Since when something is waited for, and how much of it has come; for how long it may be. */
  #waiting: number | undefined;
  #progress = 0;
  #idle: number;
  #failure: Error | undefined;
  /** The frame that is read while we send, and whether it has come. */
  #ahead: Promise<{ kind: string; body: Buffer }> | undefined;
  #said = false;
  /** Called when the stream takes more, or nothing any more. */
  #taken: (() => void) | undefined;
  #throttle: Throttle | undefined;
  /** Set when parts may be compressed. */
  #judge: Judge | undefined;
  /** Bytes of bulk data that were sent, what these were before they were compressed, and what was received, decompressed. */
  sent = 0;
  given = 0;
  received = 0;

  /** @param stream its errors and its end are seen here, and nowhere else */
  constructor(stream: Duplex, patience = PATIENCE) {
    this.#stream = stream;
    this.#patience = patience;
    this.#idle = patience.idle;
    stream.on('error', (error) => this.#lost(error));
    stream.on('close', () => this.#lost(new Error('the connection has ended')));
    stream.on('drain', () => this.#taken?.());
    this.#chunks = stream.iterator({ destroyOnReturn: false })[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    this.#timer = setInterval(() => {
      if (performance.now() - this.#heard > patience.dead && stream.readableLength === 0) this.#break(new Error(`nothing was heard for ${patience.dead / 1000} s`));
      else if (this.#waiting !== undefined && performance.now() - this.#waiting > this.#idle) this.#break(new Error(`for ${this.#idle / 1000} s nothing came but signs of life`));
      else if (stream.writableLength === 0) this.#frame('K', Buffer.alloc(0));
    }, patience.alive).unref();
  }

  /** Why the stream can be used no more; undefined while it can. */
  get failure(): Error | undefined {
    return this.#failure;
  }

  /** From now on wait for no longer than this, in milliseconds: something else waits, too. */
  hurry(idle: number): void {
    this.#idle = Math.min(idle, this.#patience.idle);
  }

  /** From now on send bulk data no faster than this, in bytes per second. */
  limit(rate: number): void {
    this.#throttle = createThrottle(rate);
  }

  /** Both sides have agreed that bulk data may be compressed, where that pays. */
  compress(): void {
    this.#judge = createJudge();
  }

  /** Send a message. Returns at once; what cannot be sent shows when something is awaited. */
  send(message: Message): void {
    this.#frame('J', Buffer.from(JSON.stringify(message)));
  }

  /**
   * The next message.
   * @param types those that may come @throws VeldError `migration.link` when the stream ends before, `migration.stream` when something else comes
   */
  async receive<T extends Message>(...types: T['type'][]): Promise<T> {
    const { kind, body } = await this.#next(MESSAGE);
    const message = kind === 'J' ? parse(body) : undefined;
    if (message === undefined || (types.length > 0 && !types.includes(message.type))) {
      throw this.#wrong(`${message === undefined ? `a part of kind ${JSON.stringify(kind)}` : `the message ${JSON.stringify(message.type.slice(0, 40))}`} where ${types.join(' or ')} belongs`);
    }
    return message as T;
  }

  /**
   * Send bulk data to its end, or until the other side says something: it does not want the rest.
   * @param each told how many bytes have gone
   * @param judged whether what the wire takes of it tells something of the wire: not while the machine has something better to do
   * @returns whether it has gone to its end; else a message waits to be received
   * @throws VeldError `migration.link`; whatever the source throws, and the other side then knows that it is not whole
   */
  async sendBulk(source: Readable, each: (bytes: number) => void = () => {}, judged = true): Promise<boolean> {
    this.#listen();
    this.#judge?.begin();
    const size = Math.min(OUR_PART, this.#throttle?.part ?? OUR_PART);
    try {
      for await (const { kind, body, size: bytes } of partsOf(source as AsyncIterable<Buffer>, size, this.#judge)) {
        if (this.#said) return false; // also what was said before it broke
        this.#check();
        let waited = 0;
        if (this.#throttle) waited += await this.#turn(this.#throttle.take(HEAD + body.length));
        if (this.#said) return false;
        if (!this.#frame(kind, body)) waited += await this.#drained();
        if (judged) this.#judge?.sent(body.length, waited, bytes);
        this.sent += body.length;
        this.given += bytes;
        each(bytes);
      }
    } catch (error) {
      if (!this.#failure) this.#frame('X', Buffer.alloc(0));
      throw error;
    }
    if (this.#said) return false;
    this.#check();
    this.#frame('E', Buffer.alloc(0));
    return true;
  }

  /** Take bulk data part by part, each when the one before is dealt with. @throws VeldError `migration.link`, `migration.stream`; whatever `take` throws */
  async receiveParts(take: (part: Buffer) => void | Promise<void>): Promise<void> {
    let [since, busy, delayed] = [performance.now(), 0, this.#judge ? runDelay() : 0];
    for (;;) {
      const { kind, body } = await this.#next(PART);
      if (kind === 'E') return;
      const began = performance.now();
      if (kind !== 'D' && kind !== 'Z') throw this.#wrong(kind === 'X' ? 'data that broke off' : 'something else than bulk data');
      const part = kind === 'Z' ? await unpack(body, PART).catch((error: unknown) => { throw this.#wrong(`compressed data that is none: ${(error as Error).message}`); }) : body;
      this.received += part.length;
      await take(part);
      const now = performance.now();
      busy += now - began;
      if (!this.#judge || now - since < TELL) continue;
      // Who waits for a processor does not wait for the wire.
      const delay = runDelay();
      this.#frame('K', Buffer.of(Math.min(100, Math.round(100 * (busy + delay - delayed) / (now - since)))));
      [since, busy, delayed] = [now, 0, delay];
    }
  }

  /** Write bulk data to where it goes, and end that. @throws VeldError `migration.link`, `migration.stream`; whatever the target throws */
  async receiveBulk(target: Writable): Promise<void> {
    let broken: Error | undefined;
    const fail = (error: Error): void => { broken ??= error; };
    const check = (): void => { if (broken) throw broken; };
    target.on('error', fail);
    try {
      await this.receiveParts(async (part) => {
        check();
        if (!target.write(part)) await taken(target);
      });
      check();
      await new Promise<void>((resolve, reject) => {
        target.once('error', reject);
        target.end((error?: Error | null) => (error ? reject(error) : resolve()));
      });
    } catch (error) {
      target.destroy();
      throw error;
    }
  }

  /**
   * End the stream when all that was sent has gone, and the other side has ended it, too: who is cut off in the middle of writing does not read what was said last.
   * @param within milliseconds; then it ends all the same
   */
  async finish(within = this.#patience.dead): Promise<void> {
    clearInterval(this.#timer);
    if (this.#failure) return;
    const timer = setTimeout(() => this.close(), within).unref();
    this.#stream.end();
    while (!this.#failure && !(await this.#chunks.next().catch(() => ({ done: true }))).done);
    clearTimeout(timer);
    this.close();
  }

  /** End the stream. */
  close(): void {
    this.#break(new Error('it was closed here'));
  }

  #frame(kind: string, body: Buffer): boolean {
    if (this.#failure) return true;
    const head = Buffer.alloc(HEAD);
    head.write(kind, 'latin1');
    head.writeUInt32BE(body.length, 1);
    this.#stream.write(head);
    return body.length === 0 || this.#stream.write(body);
  }

  /** Wait so many milliseconds, or until the other side has said something. @returns for how long */
  async #turn(wait: number): Promise<number> {
    const began = performance.now();
    const end = began + wait;
    for (let left = wait; left > 0 && !this.#failure && !this.#said; left = end - performance.now()) {
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        this.#taken = resolve;
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
    this.#check();
    return performance.now() - began;
  }

  /** @returns how long it has taken, in milliseconds */
  async #drained(): Promise<number> {
    const began = performance.now();
    // A peer that takes nothing is as dead as one that says nothing.
    const timer = setTimeout(() => this.#break(new Error(`nothing was taken for ${this.#patience.dead / 1000} s`)), this.#patience.dead);
    while (!this.#failure && !this.#said && this.#stream.writableNeedDrain) await new Promise<void>((resolve) => { this.#taken = resolve; });
    clearTimeout(timer);
    if (!this.#said) this.#check();
    return performance.now() - began;
  }

  /** Read the next frame now: whoever asks for it gets it. */
  #listen(): void {
    this.#ahead ??= this.#frameAfter(MESSAGE).then((frame) => {
      this.#said = true;
      this.#taken?.();
      return frame;
    });
    this.#ahead.catch(() => {}); // whoever waits hears of it
  }

  async #next(limit: number): Promise<{ kind: string; body: Buffer }> {
    const ahead = this.#ahead;
    this.#ahead = undefined;
    this.#said = false;
    this.#waiting ??= performance.now();
    const frame = await (ahead ?? this.#frameAfter(limit));
    this.#progress += frame.body.length;
    if (!'DZ'.includes(frame.kind) || this.#progress >= PROGRESS) [this.#waiting, this.#progress] = [undefined, 0];
    if (frame.body.length > limit) throw this.#wrong('what is no frame');
    if (ahead) this.#said = false;
    return frame;
  }

  async #frameAfter(limit: number): Promise<{ kind: string; body: Buffer }> {
    for (;;) {
      const head = await this.#bytes(HEAD);
      const kind = head.toString('latin1', 0, 1);
      const length = head.readUInt32BE(1);
      const [kinds, long] = this.#judge ? ['JDEXKZ', 'JDZ'] : ['JDEXK', 'JD'];
      const longest = long.includes(kind) ? limit : kind === 'K' && this.#judge ? 1 : 0;
      if (!kinds.includes(kind) || length > longest) throw this.#wrong('what is no frame');
      const body = length === 0 ? Buffer.alloc(0) : await this.#bytes(length);
      if (kind !== 'K') return { kind, body };
      if (length > 0) this.#judge?.heard(body[0]! / 100);
    }
  }

  /** Into one piece from the start: whoever sends it by single bytes fills no memory with pieces. */
  async #bytes(length: number): Promise<Buffer> {
    if (this.#rest.length >= length) {
      const all = this.#rest.subarray(0, length);
      this.#rest = this.#rest.subarray(length);
      return all;
    }
    const all = Buffer.allocUnsafe(length);
    let size = this.#rest.copy(all);
    this.#rest = Buffer.alloc(0);
    while (size < length) {
      const chunk = await this.#chunk();
      this.#heard = performance.now();
      const taken = chunk.copy(all, size);
      size += taken;
      this.#rest = chunk.subarray(taken);
    }
    return all;
  }

  async #chunk(): Promise<Buffer> {
    const next = this.#failure ? undefined : await this.#chunks.next().catch((error: unknown) => { this.#lost(error as Error); });
    if (next && !next.done) return next.value;
    const left = this.#left;
    this.#left = Buffer.alloc(0);
    if (left.length === 0) {
      this.#break(new Error('the connection has ended'));
      this.#check();
    }
    return left;
  }

  #check(): void {
    if (this.#failure) throw new VeldError('migration.link', `The connection to the other node broke: ${this.#failure.message}.`, { cause: this.#failure });
  }

  /** The connection broke by itself. What was said before that can still be received, and nothing can be sent. */
  #lost(error: Error): void {
    if (this.#failure) return;
    const left: Buffer[] = [];
    for (let chunk: Buffer | null; (chunk = this.#stream.read() as Buffer | null) !== null;) left.push(chunk);
    this.#left = Buffer.concat(left);
    this.#break(error);
  }

  #break(error: Error): void {
    if (this.#failure) return;
    this.#failure = error;
    clearInterval(this.#timer);
    this.#stream.destroy();
    this.#taken?.();
  }

  #wrong(what: string): VeldError {
    const error = new VeldError('migration.stream', `The other node has sent ${what}.`);
    this.#break(error);
    return error;
  }
}

/** Settles when a stream takes more, or nothing any more. */
function taken(target: Writable): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      target.off('drain', done).off('close', done);
      resolve();
    };
    if (target.destroyed || !target.writableNeedDrain) resolve();
    else target.on('drain', done).on('close', done);
  });
}

function parse(body: Buffer): Message | undefined {
  try {
    const message: unknown = JSON.parse(body.toString('utf8'));
    return typeof message === 'object' && message !== null && typeof (message as Message).type === 'string' ? message as Message : undefined;
  } catch {
    return undefined;
  }
}
