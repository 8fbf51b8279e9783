import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { compileOwnerLibrary, ownerLibrary } from './namespace-owner.ts';

const root = mkdtempSync(join(tmpdir(), 'veld-tty-'));
after(() => rmSync(root, { recursive: true, force: true }));

/** Reads from what is open for writing only: a terminal in which a line waits, one in which nothing does, and a file. */
const READS = `use Fcntl; my $read = sub { my $n = sysread($_[0], my $b, 100); return defined $n ? "<$b>" : $!{EAGAIN} ? 'nothing' : "$!" };
my $tty = sub { sysopen(my $m, '/dev/ptmx', O_RDWR|O_NOCTTY) or die "ptmx: $!"; my $n = "\\0" x 4; ioctl($m, 0x40045431, $n); ioctl($m, 0x80045430, $n); sysopen(my $o, '/dev/pts/' . unpack('i', $n), O_WRONLY|O_NOCTTY|O_NONBLOCK) or die "pts: $!"; return ($m, $o) };
my ($m, $o) = $tty->(); syswrite($m, "line\\n"); my ($m2, $o2) = $tty->(); sysopen(my $f, $ARGV[0], O_WRONLY|O_CREAT) or die $!; print join(';', map { $read->($_) =~ s/\\n/N/r } $o, $o2, $f)`;

test('what waits in a terminal can be read from where it is open for writing only, and from nothing else', async () => {
  await compileOwnerLibrary(root);
  const read = (env: NodeJS.ProcessEnv): string => spawnSync('perl', ['-e', READS, join(root, 'file')], { env: { ...process.env, LC_ALL: 'C', ...env }, encoding: 'utf8' }).stdout;
  assert.equal(read({}), 'Bad file descriptor;Bad file descriptor;Bad file descriptor');
  assert.equal(read({ LD_PRELOAD: ownerLibrary(root) }), '<lineN>;nothing;Bad file descriptor');
});
