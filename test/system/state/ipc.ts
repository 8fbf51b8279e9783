/** IPC of System V and POSIX. */
import { category } from './program.ts';

/** Numbers of <sys/ipc.h>, and what is behind the ids. */
export const IPC_HELPERS = String.raw`
sub KEY { return 0x5e1d0000 + unpack('%16C*', $NAME) } my ($CREAT, $RMID, $SET, $STAT, $EXCL) = (01000, 0, 1, 2, 02000);
{ no warnings; my $id; defined($id = shmget(KEY(), 0, 0)) && shmctl($id, $RMID, 0); defined($id = msgget(KEY(), 0)) && msgctl($id, $RMID, 0); defined($id = semget(KEY(), 0, 0)) && semctl($id, 0, $RMID, 0) }
sub attach { my ($id) = @_; return sys('shmat', $id, 0, 0) }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, IPC_HELPERS + code]));

export const ipc = category('ipc', both({
  'shared memory of System V': String.raw`
my $id = shmget(KEY, 300000, $CREAT | 0640) // die "shmget: $!\n"; my $at = attach($id); poke($at, pattern(1, 300000)); my $ask = child { my $there = attach($id); poke($there + 10, $_[0]); sys('shmdt', $there); 'done' }; my $turn = 0;
check { same('id', shmget(KEY, 0, 0), $id); same('content', peek($at + 1000, 299000), substr(pattern(1, 300000), 1000, 299000)); my $word = sprintf 'turn%04d', ++$turn; $ask->($word); same('what the child wrote', peek($at + 10, 8), $word); same('line', (slurp('/proc/sysvipc/shm') =~ /^\s*(?:-?\d+)\s+$id\s+(\d+)\s+(\d+)/m)[0], 640) };
harm { map_pages(74, 3, 0x32, -1, 0, $at) };`,

  'shared memory that nobody has attached': String.raw`
my $id = shmget(KEY, 70000, $CREAT | 0600) // die "shmget: $!\n"; my $data = pattern(2, 70000); shmwrite($id, $data, 0, 70000);
check { same('id', shmget(KEY, 0, 0), $id); shmread($id, my $b, 0, 70000) or die "shmread: $!\n"; same('content', $b, $data) };
harm { shmwrite($id, 'x', 5000, 1) };`,

  'shared memory that has been removed': String.raw`
my $id = shmget(0, 70000, 01600) // die "shmget: $!\n"; my $at = sys('shmat', $id, 0, 0); poke($at, pattern(5, 70000)); shmctl($id, 0, 0); my $ask = child { poke($at, $_[0]); 'done' }; my $turn = 0;
check { same('content', peek($at + 1000, 69000), substr(pattern(5, 70000), 1000)); my $word = sprintf 'turn%04d', ++$turn; $ask->($word); same('what the child wrote', peek($at, 8), $word) };
harm { map_pages(18, 3, 0x32, -1, 0, $at) };`,

  'shared memory with a file of /dev/shm': String.raw`
my $f = opened("/dev/shm/$NAME"); truncate($f, 65536); my $at = map_pages(16, 3, 1, $f); poke($at, pattern(3, 65536)); my $turn = 0; my $ask = child { my $g = opened("/dev/shm/$NAME", O_RDWR); sys('pwrite64', fileno $g, $_[0], 8, 100); 'done' };
check { same('content', peek($at + 4096, 61440), substr(pattern(3, 65536), 4096)); my $word = sprintf 'turn%04d', ++$turn; $ask->($word); same('what the child wrote', peek($at + 100, 8), $word) };
harm { unlink "/dev/shm/$NAME" };`,

  'message queue of System V': String.raw`
my $id = msgget(KEY, $CREAT | 0600) // die "msgget: $!\n"; my @m = ([3, 'three'], [1, 'one'], [2, pattern(4, 3000)], [1, '']); my $send = sub { msgsnd($id, pack('l! a*', @$_), 0) or die "msgsnd: $!\n" for @m }; $send->();
check { same('id', msgget(KEY, 0), $id); for my $i (1, 0, 2, 3) { msgrcv($id, my $b, 4000, $m[$i][0], 04000) or die "message $i: $!\n"; my ($type, $text) = unpack('l! a*', $b); same('message', "$type $text", "$m[$i][0] $m[$i][1]") } ok('more', !msgrcv($id, my $b, 4000, 0, 04000)); $send->() };
harm { msgrcv($id, my $b, 4000, 2, 04000) };`,

  'semaphores of System V': String.raw`
my $id = semget(KEY, 5, $CREAT | 0600) // die "semget: $!\n"; semctl($id, 0, 17, pack('S*', 1, 22, 333, 4444, 0)) or die;
check { same('id', semget(KEY, 0, 0), $id); my $b = ''; semctl($id, 0, 13, $b) or die "semctl: $!\n"; same('values', join(' ', unpack 'S*', $b), '1 22 333 4444 0') };
harm { semop($id, pack('s3', 2, -1, 0)) };`,

  'process that waits for a semaphore': String.raw`
my $id = semget(KEY, 2, $CREAT | 0600) // die "semget: $!\n"; semctl($id, 0, 17, pack('S*', 0, 0)); pipe(my $r, my $w); my $pid = forked { my $n = 0; while (1) { 1 until semop($id, pack('s3', 1, -1, 0)); give($w, ++$n . "\n") } }; my $turn = 0;
check { ok('it has it', !ready($r, 0.1)); semop($id, pack('s3', 1, 1, 0)) or die; same('it gets it', line($r), ++$turn) };
harm { kill 9, $pid; close $w };`,

  'limits of System V': String.raw`
my %was = (shmmni => 555, msgmax => 9999, msgmnb => 22222); for my $name (sort keys %was) { open(my $f, '>', "/proc/sys/kernel/$name") or skip("$name: $!"); defined syswrite($f, $was{$name}) or skip("$name: $!") }
check { same($_, slurp("/proc/sys/kernel/$_"), "$was{$_}\n") for sort keys %was };
harm { open(my $f, '>', '/proc/sys/kernel/msgmax'); syswrite($f, 8888) };`,
}));
