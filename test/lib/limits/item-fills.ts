/** What is counted by the piece: processes, sockets, terminals. */
import assert from 'node:assert/strict';
import type { Fill } from './fills.ts';
import type { LimitGround } from './ground.ts';
import { rowOf } from './ground.ts';

/** More than a limit leaves, and less than the raised one does. */
const MOST = 120;
/** What a limit leaves. A command that is run in the VE needs some of it, of files most. */
const ROOM = 80;

/** Has one more, again and again, until it is refused or has MOST: prints how many, and the name of the error. @param one perl that is true when it has put one more into @a */
const taking = (one: string): string => `use Socket; use Errno; my $l; while (@a < ${MOST}) { my $s; (${one}) or last } $e = @a < ${MOST} ? (grep { $!{$_} } qw(EAGAIN ENOBUFS ENOSPC EPERM ENFILE ENOLCK EMFILE ENOMEM))[0] : "none"; kill 9, grep { !ref } @a; print scalar(@a), " $e"`;

interface Items {
  property: string;
  beancounter: string;
  what: string;
  errno: string;
  one: string;
}

const ITEMS: readonly Items[] = [
  { property: 'pids.limit', beancounter: 'numproc', what: 'fork', errno: 'EAGAIN', one: 'defined($s = fork) ? ($s ? push(@a, $s) : (sleep 100, exit)) : 0' },
  { property: 'ubc.numtcpsock', beancounter: 'numtcpsock', what: 'socket', errno: 'ENOBUFS', one: 'socket($s, PF_INET, SOCK_STREAM, 0) ? push(@a, $s) : 0' },
  { property: 'ubc.numothersock', beancounter: 'numothersock', what: 'socket', errno: 'ENOBUFS', one: 'socket($s, PF_INET6, SOCK_DGRAM, 0) ? push(@a, $s) : 0' },
  { property: 'ubc.numpty', beancounter: 'numpty', what: 'opening /dev/ptmx', errno: 'ENOSPC', one: 'sysopen($s, "/dev/ptmx", 2 | 0400) ? push(@a, $s) : 0' },
  { property: 'ubc.numfile', beancounter: 'numfile', what: 'open', errno: 'ENFILE', one: 'open($s, "<", "/dev/null") ? push(@a, $s) : 0' },
  // A struct flock for each byte of every second: they do not grow together.
  { property: 'ubc.numflock', beancounter: 'numflock', what: 'fcntl', errno: 'ENOLCK', one: '$l || open($l, ">", "/tmp/lock"), fcntl($l, 6, pack("s s x4 q q i x4", 1, 0, 2 * @a, 1, 0)) ? push(@a, \\$l) : 0' },
];

async function take(ground: LimitGround, one: string): Promise<{ got: number; errno: string }> {
  const { stdout, stderr } = await ground.exec(ground.ve, 'perl', '-e', taking(one));
  const [got, errno] = stdout.split(' ') as [string, string | undefined];
  assert.ok(errno !== undefined, stderr);
  return { got: Number(got), errno };
}

export const ITEM_FILLS: readonly Fill[] = ITEMS.map(({ property, beancounter, what, errno, one }): Fill => ({
  property,
  over: `${what}: ${errno}`,
  counted: beancounter === 'numpty' ? 'held of numpty alone' : `failcnt of ${beancounter}`,
  async fill(ground) {
    const before = await rowOf(ground, ground.ve, beancounter);
    // Only beancounters are pairs.
    const set = (limit: number | null): Promise<void> => ground.set(ground.ve, { [property]: limit === null || property === 'pids.limit' ? limit : `${limit}:${limit}` });
    await set(before.held + ROOM);
    const first = await take(ground, one);
    assert.ok(first.errno === errno && first.got <= ROOM, JSON.stringify(first));
    const after = await rowOf(ground, ground.ve, beancounter);
    if (after.kept.includes('failcnt')) assert.ok(after.failcnt > before.failcnt, JSON.stringify(after));
    await set(before.held + 200);
    assert.deepEqual(await take(ground, one), { got: MOST, errno: 'none' });
    assert.equal((await rowOf(ground, ground.ve, beancounter)).failcnt, after.failcnt);
    await set(null);
  },
}));
