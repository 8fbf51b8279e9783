/**
 * A process in a VE that counts, and those who look whether it counts right without asking Veld: each number goes, with its time, to a client by TCP, to a file that is brought
 * to the disk, and in a datagram. A number that is missing or comes twice at the client or in the file is one that was lost or done again; a datagram with a
 * number that was sent before is one of a second such process, or of one that had gone on before.
 */
import { randomBytes } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync, readSync, readdirSync } from 'node:fs';
import { connect } from 'node:net';
import type { Instance } from './instance.ts';
import { until } from './wait.ts';

const PORT = 7200;
const FILE = '/var/lib/sequence';
const PROGRAM = `use IO::Socket::IP; use IO::Handle; use Time::HiRes "time"; $| = 1;
my $s = IO::Socket::IP->new(LocalHost => "0.0.0.0", LocalPort => $ARGV[0], Listen => 1, ReuseAddr => 1) or die $@;
open my $f, ">>", "${FILE}" or die $!; $f->autoflush(1);
my $c = $s->accept or die $!; $c->autoflush(1);
my $u = IO::Socket::IP->new(Proto => "udp", PeerHost => $c->peerhost, PeerPort => $ARGV[1]) or die $@;
for (my $n = 1; ; $n++) { my $line = sprintf "%d %.6f\\n", $n, time; print $f $line or die $!; $f->sync or die $!; print $c $line or die $!; $u->send($line); select undef, undef, undef, 0.005 }`;

export interface Sequence {
  /** Its processes, of whatever node, that are not dead. */
  processes(): { pid: number; group: string }[];
  /** Wait until file and client go on, and look at all that they have since the last time. @throws Error with what is wrong */
  goesOn(timeout: number): Promise<void>;
  /** Longest silence at the client since the last call, in milliseconds. */
  longest(): number;
  /** What was seen wrong so far at the client or of datagrams. */
  wrong(): string | undefined;
  /** The last number at the client. */
  last(): number;
  /** Datagrams that have come. */
  datagrams(): number;
  end(): void;
}

/** Lines of numbers that must each be one more than the one before; they may come in pieces. */
function counter(what: string, fail: (why: string) => void): { take(text: string): void; last: () => number } {
  let [rest, last] = ['', 0];
  return {
    last: () => last,
    take(text) {
      const lines = (rest + text).split('\n');
      rest = lines.pop()!;
      for (const line of lines) {
        const number = Number(line.split(' ')[0]);
        if (number !== last + 1) fail(`${what}: ${JSON.stringify(line)} after ${last}`);
        last = number;
      }
    },
  };
}

/** Begin to count in a VE. */
export async function countIn(veld: Instance, ve: string): Promise<Sequence> {
  const marker = `count-${randomBytes(6).toString('hex')}`;
  let wrong: string | undefined;
  const fail = (why: string): void => { wrong ??= why; };

  const heard = createSocket('udp4');
  heard.bind(0);
  await once(heard, 'listening');
  let [datagrams, latest] = [0, 0];
  heard.on('message', (data) => {
    const number = Number(data.toString('latin1').split(' ')[0]);
    if (number <= latest) fail(`a datagram says ${number} after ${latest}: there were two`);
    [datagrams, latest] = [datagrams + 1, number];
  });

  const { exitCode, stderr } = await veld.exec(ve, 'systemd-run', '--quiet', '--unit=count', 'perl', '-e', PROGRAM, String(PORT), String(heard.address().port), marker);
  if (exitCode !== 0) throw new Error(`systemd-run: ${stderr}`);
  const address = (await veld.show(ve)).addresses.find((each) => !each.includes(':'))!;
  const socket = await until('the program to listen', () => new Promise<ReturnType<typeof connect> | undefined>((resolve) => {
    const attempt = connect(PORT, address);
    attempt.once('connect', () => resolve(attempt));
    attempt.once('error', () => resolve(undefined));
  }));
  const client = counter('the client', fail);
  let [before, longest, ended] = [performance.now(), 0, false];
  socket.on('data', (data: Buffer) => {
    client.take(data.toString('latin1'));
    const now = performance.now();
    [before, longest] = [now, Math.max(longest, now - before)];
  });
  socket.on('error', (error) => fail(`the client: ${error.message}`));
  socket.on('close', () => { if (!ended) fail('the client: the connection was closed'); });

  const processes = (): { pid: number; group: string }[] => readdirSync('/proc').filter((entry) => /^\d+$/.test(entry)).flatMap((entry) => {
    try {
      if (!readFileSync(`/proc/${entry}/cmdline`, 'latin1').split('\0').includes(marker) || /^State:\s*[ZX]/m.test(readFileSync(`/proc/${entry}/status`, 'utf8'))) return [];
      return [{ pid: Number(entry), group: readFileSync(`/proc/${entry}/cgroup`, 'utf8') }];
    } catch {
      return []; // it has just ended
    }
  });
  const file = counter('the file', fail);
  let read = 0;
  /** Take what is new in the file. @param pid whose it is */
  const takeFile = (pid: number): void => {
    const handle = openSync(`/proc/${pid}/root${FILE}`, 'r');
    try {
      const buffer = Buffer.alloc(1 << 20);
      for (let size; (size = readSync(handle, buffer, 0, buffer.length, read)) > 0; read += size) file.take(buffer.toString('latin1', 0, size));
    } finally {
      closeSync(handle);
    }
  };
  const check = (): void => { if (wrong !== undefined) throw new Error(wrong); };

  return {
    processes, last: client.last,
    async goesOn(timeout) {
      const [one, ...more] = processes();
      if (!one || more.length > 0) throw new Error(`it runs ${one ? more.length + 1 : 0} times`);
      const since = [client.last(), file.last()];
      await until('file and client to go on', () => {
        if (wrong === undefined) takeFile(one.pid);
        return wrong !== undefined || (client.last() > since[0]! + 5 && file.last() > since[1]! + 5);
      }, timeout);
      check();
    },
    longest() {
      const was = Math.max(longest, performance.now() - before);
      longest = 0;
      return was;
    },
    wrong: () => wrong,
    datagrams: () => datagrams,
    end() {
      ended = true;
      socket.destroy();
      heard.close();
    },
  };
}
