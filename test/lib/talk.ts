/** A conversation with a VE over one TCP connection, in which every answer is checked, and every silence measured. */
import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Instance } from './instance.ts';
import { until } from './wait.ts';

/** Counts in its memory and in a file: an answer is both numbers, which must not differ, and not begin anew. */
export const TALK_SERVER = `use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => $ARGV[0], Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@;
my $n = 0; open my $f, "+>", "/var/lib/talk-$ARGV[0]" or die $!; $f->autoflush(1);
while (my $c = $s->accept) { $c->autoflush(1); while (my $line = <$c>) { chomp $line; $n++; seek $f, 0, 0; print $f "$n"; seek $f, 0, 0; my $kept = <$f>; print $c "$line $n $kept\\n" } }`;

/** Start the server in a VE. */
export async function serveTalk(veld: Instance, ve: string, port = 7100): Promise<void> {
  const { exitCode, stderr } = await veld.exec(ve, 'systemd-run', '--quiet', `--unit=talk-${port}`, 'perl', '-e', TALK_SERVER, String(port));
  if (exitCode !== 0) throw new Error(`systemd-run: ${stderr}`);
}

export interface Talk {
  /** Wait until answers come again; rejects when the connection or its sense has broken. */
  goesOn(timeout?: number): Promise<void>;
  /** Longest silence since the last call, in milliseconds. */
  longest(): number;
  answers(): number;
  end(): void;
}

/** Talk, a question every few milliseconds, until `end`. */
export async function talkTo(address: string, port = 7100): Promise<Talk> {
  let socket: Socket | undefined;
  await until('the server to listen', () => new Promise<boolean>((resolve) => {
    const attempt = connect(port, address);
    attempt.once('connect', () => { socket = attempt; resolve(true); });
    attempt.once('error', () => resolve(false));
  }));
  const open = socket!;
  open.setNoDelay(true);
  open.setEncoding('utf8');
  let [broken, earlier, asked, answers, last, longest, rest, ended] = [undefined as string | undefined, undefined as number | undefined, 0, 0, performance.now(), 0, '', false];
  const ask = (): void => void (ended || open.write(`${++asked}\n`));
  open.on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = lines.pop()!;
    for (const line of lines) {
      const [question, memory, file] = line.split(' ').map(Number);
      answers += 1;
      earlier ??= memory! - answers; // it has counted others before
      if (question !== answers || memory !== answers + earlier || file !== memory) broken ??= `the answer to ${answers} was ${line}`;
      const now = performance.now();
      longest = Math.max(longest, now - last);
      last = now;
      setTimeout(ask, 2);
    }
  });
  open.on('error', (error) => { broken ??= error.message; });
  open.on('close', () => { if (!ended) broken ??= 'the connection was closed'; });
  ask();
  return {
    async goesOn(timeout = 30_000) {
      const before = answers;
      const end = Date.now() + timeout;
      const enough = (): boolean => answers >= before + 5 || broken !== undefined;
      while (!enough() && Date.now() < end) await sleep(10);
      if (broken !== undefined) throw new Error(broken);
      if (answers < before + 5) throw new Error(`no answer for ${Math.round(performance.now() - last)} ms`);
    },
    longest() {
      const was = Math.max(longest, performance.now() - last);
      longest = 0;
      return was;
    },
    answers: () => answers,
    end() {
      ended = true;
      open.destroy();
    },
  };
}
