/** The client of a conversation (talk.ts) on another machine: a process in that one's network. Run as a program it is that process. */
import { spawn } from 'node:child_process';
import { talkTo, type Talk } from './talk.ts';
import type { Machine } from './wire.ts';

export interface TalkElsewhere {
  goesOn(timeout?: number): Promise<void>;
  longest(): Promise<number>;
  answers(): Promise<number>;
  end(): void;
}

/** Talk to an address from another machine. @param until whose end ends it: a test */
export async function talkFrom(until: { after: (end: () => void) => void }, { prefix }: Machine, address: string, port = 7100): Promise<TalkElsewhere> {
  const child = spawn(prefix[0]!, [...prefix.slice(1), process.execPath, import.meta.filename, address, String(port)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const waiting: { resolve: (value: never) => void; reject: (error: Error) => void }[] = [];
  child.on('message', ({ value, error }: { value?: never; error?: string }) => {
    const { resolve, reject } = waiting.shift()!;
    if (error === undefined) resolve(value as never);
    else reject(new Error(error));
  });
  child.on('exit', () => { for (const { reject } of waiting.splice(0)) reject(new Error('the client has ended')); });
  until.after(() => void child.kill('SIGKILL'));
  const answer = <T>(): Promise<T> => new Promise<T>((resolve, reject) => { waiting.push({ resolve, reject }); });
  const ask = <T>(verb: keyof Talk, ...args: unknown[]): Promise<T> => {
    const result = answer<T>();
    child.send({ verb, args: args.filter((arg) => arg !== undefined) });
    return result;
  };
  await answer();
  return {
    goesOn: (timeout) => ask('goesOn', timeout),
    longest: () => ask('longest'),
    answers: () => ask('answers'),
    end: () => void child.kill('SIGKILL'),
  };
}

if (import.meta.main) {
  process.on('disconnect', () => process.exit());
  const reply = (work: Promise<unknown>): void => void work.then((value) => process.send?.({ value }), (error: Error) => process.send?.({ error: error.message }));
  const talk = talkTo(process.argv[2]!, Number(process.argv[3]));
  let before: Promise<unknown> = talk;
  reply(talk.then(() => {}));
  // One after the other, so that answers come in the order of questions.
  process.on('message', ({ verb, args }: { verb: keyof Talk; args: never[] }) => {
    before = before.catch(() => {}).then(async () => {
      const verbs: Record<keyof Talk, (...args: never[]) => unknown> = await talk;
      return verbs[verb](...args);
    });
    reply(before);
  });
}
