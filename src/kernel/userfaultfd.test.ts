/**
 * Why memory is not fetched later, when a VE runs on another node already (post-copy): what the kernel does with pages that have not come. A kernel that does otherwise fails these tests, and
 * docs/explanation/migration.md has to be thought over.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';

const DEVICE = '/dev/userfaultfd'; // Linux 6.1
const skip = process.getuid?.() !== 0 ? 'not root' : !existsSync(DEVICE) && `no ${DEVICE}`;
const [READ, MMAP, MADVISE, USERFAULTFD, IOCTL] = process.arch === 'arm64' ? [63, 222, 233, 282, 29] : [0, 9, 28, 323, 16];

/** Has userfaultfd(2) for one page, which its handler, another process, does not bring. Says the handler's pid, and then what became of it. */
const WATCHED = String.raw`
use strict; use POSIX; $| = 1;
my ($what, $flags) = @ARGV; my $size = sysconf(_SC_PAGESIZE);
sub call { my $done = syscall(shift, @_); $done == -1 and die "$!\n"; $done }
my $page;
if ($what eq 'arguments') {
  open my $stat, '<', '/proc/self/stat' or die; my @fields = split ' ', (split /\) /, <$stat>)[1]; $page = $fields[45] & ~($size - 1);
} else { $page = call(${MMAP}, 0, $size, 3, 0x22, -1, 0) }
my $fd = call(${USERFAULTFD}, 0x80000 | $flags);
my ($api, $range) = (pack('QQQ', 0xaa, 0, 0), pack('QQQQ', $page, $size, 1, 0));
call(${IOCTL}, $fd, 0xc018aa3f, $api); call(${IOCTL}, $fd, 0xc020aa00, $range);
my $handler = fork // die; if (!$handler) { sleep 60; POSIX::_exit(0) }
POSIX::close($fd);
call(${MADVISE}, $page, $size, 4);
print "$handler\n";
if ($what eq 'memory') { print unpack('H*', unpack 'P8', pack 'Q', $page), "\n" }
elsif ($what eq 'kernel') { open my $zero, '<', '/dev/zero' or die; print syscall(${READ}, fileno($zero), $page, 8) == -1 ? "$!\n" : "8 bytes\n" }
else { sleep 60 }`;

/** Start one. @returns its process, its handler's pid, and what it says next */
async function watched(t: TestContext, what: 'memory' | 'kernel' | 'arguments', flags = 0): Promise<{ pid: number; handler: number; said: () => Promise<string> }> {
  const child = spawn('/usr/bin/perl', ['-e', WATCHED, what, String(flags)], { stdio: ['ignore', 'pipe', 'inherit'], env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' } });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const said = async (): Promise<string> => String((await lines.next()).value);
  const handler = Number(await said());
  t.after(() => {
    child.kill('SIGKILL');
    if (existsSync(`/proc/${handler}`)) process.kill(handler, 'SIGKILL');
  });
  return { pid: child.pid!, handler, said };
}

test('when whoever brings the pages is gone a program reads zeros, and goes on as if nothing were', { skip }, async (t) => {
  const { pid, handler, said } = await watched(t, 'memory');
  while (!readFileSync(`/proc/${pid}/wchan`, 'utf8').includes('userfault')) await setImmediate();
  process.kill(handler, 'SIGKILL');
  assert.equal(await said(), '0000000000000000');
});

test('a process whose pages have not come has no command line, though whoever brings them lives', { skip }, async (t) => {
  const { pid } = await watched(t, 'arguments');
  // By another program: should the kernel wait one day, it is that one which waits.
  const line = spawnSync('/bin/cat', [`/proc/${pid}/cmdline`], { timeout: 20_000, killSignal: 'SIGKILL', encoding: 'utf8' });
  assert.deepEqual([line.signal, line.stdout], [null, '']);
  const known = spawnSync('/bin/cat', [`/proc/${process.pid}/cmdline`], { encoding: 'utf8' });
  assert.notEqual(known.stdout, '', 'of another process it is there');
});

test('where the kernel\'s own faults are not waited for, a read(2) into a page that has not come fails', { skip }, async (t) => {
  assert.equal(await (await watched(t, 'kernel', 1)).said(), 'Bad address');
});

test('root of a user namespace may not have it by itself, and may by a descriptor from outside', { skip }, async () => {
  // criu makes it in the restored process by the system call.
  const program = (call: string): string => `print syscall(${call}) == -1 ? $! : "made", "\\n"`;
  const inside = async (code: string): Promise<string> => {
    const device = openSync(DEVICE, 'r+');
    const child = spawn('/usr/bin/unshare', ['--user', '--map-root-user', '/usr/bin/perl', '-e', code], { stdio: ['ignore', 'pipe', 'inherit', device], env: { LC_ALL: 'C' } });
    closeSync(device);
    const [said] = await once(child.stdout!, 'data') as [Buffer];
    return String(said).trim();
  };
  const open = readFileSync('/proc/sys/vm/unprivileged_userfaultfd', 'utf8').trim() === '1';
  assert.equal(await inside(program(`${USERFAULTFD}, 0x80000`)), open ? 'made' : 'Operation not permitted');
  assert.equal(await inside(program(`${IOCTL}, 3, 0xaa00, 0x80000`)), 'made');
});
