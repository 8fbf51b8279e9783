import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { hasCapability } from './capability.ts';
import { compileOwnerLibrary, namespaceOwner, ownedByAnother, ownerLibrary } from './namespace-owner.ts';

const root = mkdtempSync(join(tmpdir(), 'veld-owner-'));
after(() => rmSync(root, { recursive: true, force: true }));

const OWNER = 1_999_900_000;
/** Makes a process in a user namespace as criu does (clone3 by syscall(2)), says its pid and who it is itself then, and keeps it for as long as nothing comes. */
const CLONE3 = `$| = 1; my $args = pack('Q11', hex shift, 0, 0, 0, 17, (0) x 6); pipe(my $r, my $w); my $pid = syscall(435, $args, 88); $pid < 0 and die "clone3: $!";
if (!$pid) { close $w; sysread($r, my $b, 1); exec '/bin/true' }
open my $f, '<', '/proc/self/status'; my ($ids, $caps) = map { /^(?:Uid|CapEff):\\s*(.*)/ ? $1 : () } <$f>; my $own = (stat '/proc/self/fd')[4];
print join(';', $pid, $ids, $caps, $own, join(',', grep { exists $ENV{$_} } 'LD_PRELOAD', 'VELD_NAMESPACE_OWNER')), "\\n"; <STDIN>; close $w; wait`;

/** What perl says of a process that it has made, and who owns its namespace. */
async function made(flags: string, env: NodeJS.ProcessEnv): Promise<{ owner: number; said: string[] }> {
  const child = spawn('perl', ['-e', CLONE3, flags], { env: { ...process.env, ...env }, stdio: ['pipe', 'pipe', 'inherit'] });
  const [line] = await once(child.stdout, 'data') as [Buffer];
  const said = line.toString().trim().split(';');
  const owner = namespaceOwner(Number(said[0]));
  child.stdin.end();
  await once(child, 'close');
  return { owner, said };
}

test('is not there before it has been compiled, nor where it could not be named', async () => {
  assert.equal(ownerLibrary(root), undefined);
  await compileOwnerLibrary(root);
  assert.ok(existsSync(ownerLibrary(root) as string));
  const spaced = join(root, 'a folder');
  mkdirSync(spaced);
  cpSync(join(root, 'dist'), join(spaced, 'dist'), { recursive: true });
  assert.equal(ownerLibrary(spaced), undefined);
});

test('a user namespace belongs to whom it says, and nothing else of who makes it changes', async () => {
  await compileOwnerLibrary(root);
  const plain = await made('10000000', {});
  assert.equal(plain.owner, 0);
  const { owner, said } = await made('10000000', { LD_PRELOAD: ownerLibrary(root), VELD_NAMESPACE_OWNER: String(OWNER) });
  assert.equal(owner, OWNER);
  assert.deepEqual(said.slice(1), [...plain.said.slice(1, 4), '']);
});

/** Each of three users makes 25 processes, and says how many there were. */
const CROWD = `$| = 1; $( = $) = 0; $< = $> = 0;
for my $uid (5, 6, 7) { my $p = fork // die "fork: $!"; next if $p;
  $< = $> = $uid; $> == $uid or die "setuid: $!"; my $n = 0; for (1 .. 25) { my $k = fork // last; if (!$k) { sleep 2; exit } $n++ } print "$n\\n"; exit } 1 while wait > 0`;

test('so it does by unshare(2), and the most processes of a user are not the most of all together', async () => {
  await compileOwnerLibrary(root);
  const child = spawn('prlimit', ['--nproc=40:40', 'env', `LD_PRELOAD=${ownerLibrary(root)}`, `VELD_NAMESPACE_OWNER=${OWNER}`, 'unshare', '--user', 'sh', '-c', 'echo up; read -r go; exec perl -e "$0"', CROWD], { stdio: ['pipe', 'pipe', 'inherit'] });
  let said = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => { said += text; });
  await once(child.stdout, 'data');
  assert.equal(namespaceOwner(child.pid as number), OWNER);
  for (const map of ['uid_map', 'gid_map']) writeFileSync(`/proc/${child.pid}/${map}`, `0 ${OWNER} 65536`);
  child.stdin.end('go\n');
  await once(child, 'close');
  assert.deepEqual(said.trim().split('\n'), ['up', '25', '25', '25']);
});

test('leaves all other calls as they are', async () => {
  await compileOwnerLibrary(root);
  const preload = { LD_PRELOAD: ownerLibrary(root), VELD_NAMESPACE_OWNER: String(OWNER) };
  assert.equal((await made('0', preload)).owner, 0);
  assert.equal((await made('10000000', { ...preload, VELD_NAMESPACE_OWNER: '' })).owner, 0);
  const { stderr } = spawnSync('perl', ['-e', CLONE3, 'ffffffffffffffff'], { env: { ...process.env, ...preload }, encoding: 'utf8' });
  assert.match(stderr, /^clone3: Invalid argument/);
});

test('is told the limits of who belongs to an owner, also where root may not know them', { skip: hasCapability('sys_resource') && 'root may do all here' }, async () => {
  await compileOwnerLibrary(root);
  const preload = { LD_PRELOAD: ownerLibrary(root), VELD_NAMESPACE_OWNER: String(OWNER) };
  const ask = `$| = 1; my ($pid, $limits) = (shift, "\\0" x 16); print syscall(${process.arch === 'arm64' ? 261 : 302}, $pid + 0, 7, 0, $limits) < 0 ? "no: $!" : join ",", unpack "Q2", $limits`;
  const child = spawn('setpriv', ['--reuid', String(OWNER), '--inh-caps', '+sys_admin', '--ambient-caps', '+sys_admin', 'unshare', '--user', 'perl', '-e', 'print "up"; $| = 1; print "\n"; <STDIN>'], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    await once(child.stdout, 'data');
    const limits = (env: NodeJS.ProcessEnv): string => spawnSync('perl', ['-e', ask, String(child.pid)], { env: { ...process.env, ...env }, encoding: 'utf8' }).stdout;
    assert.match(limits({}), /^no: Operation not permitted/);
    assert.match(limits(preload), /^\d+,\d+$/);
  } finally {
    child.stdin.end();
    await once(child, 'close');
  }
});

test('asks of processes that are there', () => {
  assert.equal(namespaceOwner(process.pid), 0);
  assert.equal(ownedByAnother(process.pid, 0), false);
  assert.equal(ownedByAnother(process.pid, OWNER), true);
  assert.equal(ownedByAnother(2 ** 22, OWNER), false);
});
