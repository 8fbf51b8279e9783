/**
 * A VE beside the one whose limit is filled. It answers a small request ten times a second, and each answer takes a process, a TCP connection, a UDP socket, a terminal, a MiB of memory and a
 * file written: whatever a limit of the other VE took from it would be seen.
 */
import assert from 'node:assert/strict';
import { until } from '../wait.ts';
import type { LimitGround } from './ground.ts';

const PORT = 7400;

/** (systemd would replace a name in braces.) */
const SERVER = `use Socket; use IO::Socket; $s = IO::Socket::INET->new(Listen => 20, LocalPort => ${PORT}, ReuseAddr => 1) or die;
sub work { socket(my $u, PF_INET, SOCK_DGRAM, 0) or return "socket: $!"; sysopen(my $t, "/dev/ptmx", 2 | 0400) or return "terminal: $!";
open(my $f, ">", "/var/tmp/asked") or return "file: $!"; print $f "x" x 4096; close $f or return "write: $!"; my $n = 1 << 20; my $m = "x" x $n; return "well" }
while ($c = $s->accept) { $p = fork; if (!defined $p) { print $c "fork: $!" } elsif (!$p) { print $c work(); exit } close $c; waitpid $p, 0 if $p }`;

/** The slowest answer that is none of a disturbed VE, in milliseconds, on a machine with much else to do. */
const SLOWEST = 2000;

export interface Answers {
  count: number;
  /** Milliseconds. */
  slowest: number;
}

export interface Neighbour {
  /**
   * Do something while it is asked.
   * @returns what it answered meanwhile
   * @throws AssertionError when an answer was another than it should be, or slow, or when it is not the same VE any more
   */
  during(work: () => Promise<void>): Promise<Answers>;
  /** Ask no more. @throws AssertionError when a beancounter of it has counted a refusal */
  end(): Promise<void>;
}

/** Have the neighbour answer, and ask it from now on. */
export async function askNeighbour(ground: LimitGround): Promise<Neighbour> {
  const { neighbour, slow } = ground;
  const { pid, addresses } = await ground.show(neighbour);
  const file = `${ground.folder}/answers-of-${neighbour}`;
  assert.equal((await ground.exec(neighbour, 'systemd-run', '--quiet', '--unit=answers', 'perl', '-e', SERVER)).exitCode, 0);
  await until('it to listen', async () => (await ground.exec(neighbour, 'sh', '-c', `ss -Hltn 2>/dev/null | grep -q :${PORT} || grep -qi ":${PORT.toString(16)} " /proc/net/tcp`)).exitCode === 0, 20_000 * slow, 100 * slow);
  await ground.onHost(`: >${file}; setsid ${ground.node}/asker.ts ${addresses.find((one) => one.includes('.'))} ${PORT} ${file} </dev/null >/dev/null 2>&1 &`);
  const answers = async (): Promise<string[]> => (await ground.onHost(`cat ${file}`)).split('\n').filter((line) => line !== '');
  await until('its first answer', async () => (await answers()).length > 0, 20_000 * slow, 100 * slow);
  return {
    async during(work) {
      const before = (await answers()).length;
      await work();
      // The one that was on its way at the end belongs to it.
      const all = await until('its answers', async () => {
        const now = await answers();
        return now.length > before + 1 ? now : undefined;
      }, 60_000 * slow, 50 * slow);
      const mine = all.slice(before);
      for (const line of mine) assert.match(line, /^\d+ well$/, 'what the neighbour said');
      const slowest = Math.max(...mine.map((line) => Number.parseInt(line, 10)));
      assert.ok(slowest < SLOWEST * slow, `the neighbour took ${slowest} ms for an answer`);
      assert.equal((await ground.show(neighbour)).pid, pid, 'the neighbour was started anew');
      return { count: mine.length, slowest };
    },
    async end() {
      await ground.onHost(`rm -f ${file}`);
      await ground.exec(neighbour, 'systemctl', 'stop', 'answers');
      const { rows } = await ground.beancounters(neighbour);
      assert.deepEqual(rows.filter(({ failcnt }) => failcnt > 0), [], 'refusals of the neighbour');
    },
  };
}
