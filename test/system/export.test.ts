/** A VE without its processes in one file: written while it runs, compared file by file, refused when it is not whole, and made by nobody who is trusted. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { copyFileSync, existsSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, test } from 'node:test';
import { PartWriter } from '../../src/ve/export/parts.ts';
import { whyNoXfs } from '../lib/disk-image.ts';
import { fileInstance } from '../lib/instance.ts';
import { wordsWith } from '../lib/words.ts';
import { until } from '../lib/wait.ts';

const folder = mkdtempSync(join(tmpdir(), 'veld-export-'));
after(() => rmSync(folder, { recursive: true, force: true }));
const veld = await fileInstance();
const { ok, said } = wordsWith(veld);
const file = join(folder, 'web.export');

/** Everything that a file has, of all files of a tree that VEs do not change by themselves. */
const LOOK = 'cd /srv && { find . -printf "%p %y %U:%G %m %T@ %l\\n" | sort && find . -type f | sort | xargs sha256sum; getcap -r .; find . -type f -printf "%p %n %s\\n" | sort; find . -name sparse -size -20000 -printf "sparse\\n"; find . -name "link*" -printf "%i\\n" | sort -u | wc -l; } | cat -v';
/** Attributes and access lists by system calls: the template has no programs for them. Format of a list: linux/posix_acl_xattr.h, version 2: tag, permissions, id. */
const [SET, GET] = process.arch === 'arm64' ? [5, 8] : [188, 191];
const MARK = `perl -e 'my @list = ([1, 7, -1], [2, 5, 1234], [4, 5, -1], [8, 4, 4321], [16, 7, -1], [32, 5, -1]); my $acl = pack("V", 2) . join "", map { pack "vvl", @$_ } @list;
  for my $path (map { $_ . "" } "/srv/a/one", "/srv/sparse", "/srv/link1", "/srv/empty") { my ($name, $value, $access, $default) = ("user.colour", "of $path", "system.posix_acl_access", "system.posix_acl_default");
    syscall(${SET}, $path, $name, $value, length $value, 0) == 0 && syscall(${SET}, $path, $access, $acl, length $acl, 0) == 0 || die "$path: $!"; next unless -d $path; syscall(${SET}, $path, $default, $acl, length $acl, 0) == 0 || die "$path: $!" }'`;
const MARKS = `perl -e 'for my $path (grep { -e } map { $_ . "" } "/srv/a/one", "/srv/sparse", "/srv/link1", "/srv/empty") { for ("user.colour", "system.posix_acl_access", "system.posix_acl_default") { my ($name, $value) = ($_, " " x 200); my $got = syscall(${GET}, $path, $name, $value, 200);
  print "$path $name ", $got < 0 ? "none" : unpack("H*", substr $value, 0, $got), "\n" } }'`;
const FILL = `set -e
cd /srv; mkdir -p a/b empty 'name with blanks'; echo one >a/one; echo two >'name with blanks/two'; chmod 4711 a/one; chown 1000:1001 a/b; chmod 2770 a/b
ln -s ../a/one symbolic; echo hard >link1; ln link1 link2; ln link1 a/link3; mkfifo -m 640 fifo
truncate -s 50M sparse; printf x | dd of=sparse bs=1 seek=30000000 conv=notrunc status=none
touch -d '2001-02-03 04:05:06.789' a/one; touch -d '1999-01-01' a
cp /bin/true cap; setcap cap_net_bind_service=ep cap
i=0; while [ $i -lt 500 ]; do echo $i >a/b/$i; i=$((i + 1)); done
printf '\\303\\244\\377' >"$(printf 'bytes\\303\\244\\377')"`;
/** Deleted, replaced by a folder, and a folder made anew: all of the template's. */
const CHANGE = 'rm -r /usr/share/doc; mkdir /usr/share/doc; echo new >/usr/share/doc/new; rm /etc/motd; mkdir /etc/motd; rm -rf /usr/share/man; echo file >/usr/share/man; echo changed >/etc/issue';
const CHANGED = 'ls /usr/share/doc; test -d /etc/motd; cat /usr/share/man /etc/issue';

test('a VE that runs is written while it is written to, and comes back as it was at one instant', async () => {
  await veld.createRunning('web', { 'memory.limit': '300M', 'description': 'the web' });
  await veld.booted('web');
  await said('web', FILL);
  await said('web', MARK);
  assert.equal((await said('web', MARKS)).split('\n').filter((line) => !line.endsWith('none')).length, 9);
  await said('web', CHANGE);
  // Numbers go into two files, one after the other: at any instant the second has what the first has, or one line less.
  await veld.exec('web', 'systemd-run', '--quiet', '--unit=writer', 'sh', '-c', 'i=0; while :; do i=$((i + 1)); echo $i >>/root/first; echo $i >>/root/second; [ $((i % 200)) -ne 0 ] || sleep 0.05; done');
  const began = await veld.show('web');
  const text = await ok('export', 'web', '--file', file, '--with-template');
  assert.match(text, /^web written to .*: .*MiB of files in .*MiB; it stood for \d+ ms\n$/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(folder), ['web.export'], 'nothing half written stays');
  const web = await veld.show('web');
  assert.equal(web.status, 'running');
  assert.equal(web.pid, began.pid);
  await said('web', 'a=$(wc -l </root/first); sleep 0.5; b=$(wc -l </root/first); test $b -gt $a; systemctl stop writer');
  assert.equal((await veld.cli('export', 'web', '--file', file)).code, 62);

  await ok('import', '--file', file, '--as', 'other', '--start');
  const other = await veld.show('other');
  assert.equal(other.status, 'running');
  assert.notEqual(other.uidBase, web.uidBase);
  assert.notDeepEqual(other.addresses, web.addresses);
  assert.equal(other.properties.description, 'the web');
  assert.equal(other.properties['memory.limit'], 300 << 20);
  await veld.booted('other');
  assert.equal(await said('other', LOOK), await said('web', LOOK));
  assert.equal(await said('other', MARKS), await said('web', MARKS));
  assert.equal(await said('other', CHANGED), await said('web', CHANGED));
  const [first, second] = (await said('other', 'tail -n 1 /root/first; tail -n 1 /root/second')).split('\n').map(Number) as [number, number];
  assert.ok(first > 0 && (first === second || first === second + 1), `${first}, ${second}`);
  assert.equal(await said('other', 'sort -n /root/first | uniq -d | wc -l; wc -l </root/first'), `0\n${first}`);
  // Another server to everybody.
  for (const path of ['/etc/machine-id', '/etc/ssh/ssh_host_ed25519_key']) {
    const [a, b] = [await said('web', `cat ${path} 2>/dev/null || true`), await said('other', `cat ${path} 2>/dev/null || true`)];
    if (a !== '') assert.notEqual(a, b, path);
  }
  assert.equal(await said('other', 'hostname'), 'other');
  await veld.api.operate('DELETE', '/v1/ves/other?force=true');
});

test('layers of snapshots and clones become one, with what is deleted in between', async () => {
  await ok('stop', 'web');
  await ok('snapshot', 'create', 'web', 'one');
  await ok('start', 'web');
  await veld.booted('web');
  await said('web', 'cd /srv; rm a/one link2; rm -r "name with blanks"; mkdir "name with blanks"; echo third >"name with blanks/three"; rm -r a/b; echo file >a/b; echo more >>sparse; mkdir -p empty/x/y; chmod 700 empty; touch -d "2005-05-05" a; rm -r /usr/share/perl5');
  await ok('stop', 'web');
  await ok('snapshot', 'create', 'web', 'two');
  await ok('clone', 'web', 'copy');
  await ok('start', 'copy');
  await veld.booted('copy');
  // Deleted in one layer, made anew in the next: nothing of the template shows through it.
  assert.equal(await said('copy', 'mkdir /usr/share/perl5; ls -A /usr/share/perl5 | wc -l'), '0');
  await said('copy', 'cd /srv; rm -r a; mkdir a; echo again >a/again; ln link1 link4; touch -d "2006-06-06" a');
  const text = await ok('export', 'copy', '--file', join(folder, 'copy.export'));
  assert.match(text, /it stood/);
  await ok('import', '--file', join(folder, 'copy.export'), '--as', 'flat', '--start');
  await veld.booted('flat');
  assert.equal((await veld.show('flat')).template.fingerprint, (await veld.show('copy')).template.fingerprint);
  assert.equal(await said('flat', LOOK), await said('copy', LOOK));
  assert.equal(await said('flat', MARKS), await said('copy', MARKS));
  assert.equal(await said('flat', 'ls -A /usr/share/perl5'), '');
  assert.equal(await said('flat', CHANGED), await said('copy', CHANGED));
  await veld.api.operate('DELETE', '/v1/ves/flat?force=true');
  await veld.api.operate('DELETE', '/v1/ves/copy?force=true');
});

test('onto XFS, where owners are written from 0, and back from there', { skip: whyNoXfs() }, async () => {
  await ok('pool', 'create', 'xfs', '--image-size', '1G', '--fs', 'xfs');
  await ok('import', '--file', join(folder, 'copy.export'), '--as', 'there', '--set', 'disk.pool=xfs', '--start');
  await veld.booted('there');
  const [look, changed, marks] = [await said('there', LOOK), await said('there', CHANGED), await said('there', MARKS)];
  await ok('export', 'there', '--file', join(folder, 'there.export'));
  await ok('import', '--file', join(folder, 'there.export'), '--as', 'again', '--set', 'disk.pool=default', '--start');
  await veld.booted('again');
  assert.equal(await said('again', LOOK), look);
  assert.equal(await said('again', MARKS), marks);
  assert.match(marks, /\/srv\/empty system\.posix_acl_default 02/);
  assert.equal(await said('again', CHANGED), changed);
  // At rest, with layers of snapshots and clones below what is its own.
  await ok('stop', 'again');
  await ok('snapshot', 'create', 'again', 'cold');
  await ok('clone', 'again', 'rests');
  await ok('export', 'rests', '--file', join(folder, 'rests.export'));
  await ok('import', '--file', join(folder, 'rests.export'), '--as', 'rested', '--start');
  await veld.booted('rested');
  assert.equal(await said('rested', LOOK), look);
  for (const name of ['there', 'again', 'rests', 'rested']) await veld.api.operate('DELETE', `/v1/ves/${name}?force=true`);
  await ok('pool', 'delete', 'xfs');
});

test('the same server comes back after it was destroyed; the template, too; users keep nothing of the host', async () => {
  await ok('start', 'web');
  await veld.booted('web');
  const { addresses, mac } = await veld.show('web');
  const id = await said('web', 'cat /etc/machine-id');
  await ok('export', 'web', '--file', join(folder, 'whole.export'), '--with-template', '--compress', 'none');
  await veld.api.operate('DELETE', '/v1/ves/web?force=true');
  const [template] = await veld.json<{ name: string; fingerprint: string }[]>('template', 'list');
  await ok('template', 'delete', template!.name);
  await ok('import', '--file', join(folder, 'whole.export'), '--start');
  const web = await veld.show('web');
  assert.deepEqual([web.addresses, web.mac, web.template.fingerprint], [addresses, mac, template!.fingerprint]);
  await veld.booted('web');
  assert.equal(await said('web', 'cat /etc/machine-id'), id);
  assert.equal(await said('web', CHANGED), 'new\nfile\nchanged');
});

test('encrypted for age: nobody else reads it', async () => {
  const run = (command: string, ...args: string[]): string => execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
  const identity = join(folder, 'identity');
  run('age-keygen', '-o', identity);
  const secret = join(folder, 'secret.export');
  await ok('export', 'web', '--file', secret, '--encrypt', run('age-keygen', '-y', identity).trim());
  const without = await veld.cli('import', '--file', secret, '--as', 'secret');
  assert.equal(without.code, 62);
  assert.match(without.stderr, /encrypted by age/);
  const wrong = join(folder, 'wrong');
  run('age-keygen', '-o', wrong);
  assert.match((await veld.cli('import', '--file', secret, '--as', 'secret', '--identity', wrong)).stderr, /age ended/);
  await ok('import', '--file', secret, '--as', 'secret', '--identity', identity);
  await veld.api.operate('DELETE', '/v1/ves/secret');
});

test('a file that was changed, cut off, or is none is refused, and nothing comes of it', async () => {
  const before = (await veld.list()).length;
  const bad = join(folder, 'bad.export');
  const tries: [status: number, words: RegExp, change: () => void][] = [
    [63, /was changed or cut off/, () => { const bytes = readFileSync(file); bytes[bytes.length >> 1]! ^= 1; writeFileSync(bad, bytes); }],
    [63, /was changed or cut off/, () => { copyFileSync(file, bad); truncateSync(bad, statSync(file).size - 100); }],
    [63, /is not an export/, () => writeFileSync(bad, 'something else altogether, and long enough to be one: '.repeat(9))],
    [62, /no such file/i, () => rmSync(bad, { force: true })],
    [63, /is not an export/, () => execFileSync('mkfifo', [bad])],
  ];
  for (const [status, words, change] of tries) {
    change();
    const result = await veld.cli('import', '--file', bad, '--as', 'other');
    assert.match(result.stderr, words);
    assert.equal(result.code, status, result.stderr);
  }
  assert.equal((await veld.cli('import', '--file', file)).code, 5, 'its name is taken');
  assert.equal((await veld.list()).length, before);
});

/** A whole file, with its checksum, of whatever messages. */
async function forged(...messages: ({ type: string } | Buffer)[]): Promise<string> {
  const stream = new PassThrough({ highWaterMark: 64 << 20 });
  const parts = new PartWriter(stream);
  for (const message of messages) await (Buffer.isBuffer(message) ? parts.bulk([message]) : parts.message(message));
  stream.end();
  const content = Buffer.concat([Buffer.from('VELDEX01{"compress":"none","encrypt":"none"}\n'), ...await stream.toArray() as Buffer[]]);
  const path = join(folder, 'forged.export');
  writeFileSync(path, Buffer.concat([content, createHash('sha256').update(content).digest()]));
  return path;
}

test('whoever makes a file gets nothing beyond the VE: what does not belong into one is refused in words', async () => {
  const [template] = await veld.json<{ fingerprint: string; name: string }[]>('template', 'list');
  const contents = { type: 'veld-export', format: 1, createdAt: new Date().toISOString(), ve: 'x', name: 'evil', template: template!.fingerprint, templateName: 'x', bytes: 0, properties: {}, addresses: [], mac: '02:00:00:00:00:01' };
  const tree = { type: 'tree', base: 0, last: true };
  const tarOf = (make: string): Buffer => {
    const from = mkdtempSync(join(folder, 'from-'));
    const { status, stderr, stdout } = spawnSync('sh', ['-c', `cd ${from} && ${make}`], { maxBuffer: 64 << 20 });
    assert.equal(status, 0, stderr.toString());
    const head = Buffer.alloc(12);
    head.write('VELDTREE');
    return Buffer.concat([head, stdout]);
  };
  const plain = tarOf('echo x >file && tar --create --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner ./file');
  const tries: [words: RegExp, ...messages: ({ type: string } | Buffer)[]][] = [
    [/is none of a VE/, { type: 'something' }],
    [/version of Veld/, { ...contents, format: 2 } as { type: string }],
    [/does not say what/, { ...contents, properties: [] } as { type: string }],
    [/no property|unknown/i, { ...contents, properties: { nonsense: 1 } } as { type: string }, tree, plain, { type: 'end' }],
    [/is not here/, { ...contents, template: 'a'.repeat(64) } as { type: string }, { type: 'end' }],
    [/ends before its disk/, contents, { type: 'end' }],
    [/cut short/, contents, tree, plain],
    [/goes on behind its end/, contents, tree, plain, { type: 'end' }, { type: 'end' }],
    [/does not belong there/, contents, { type: 'template' }, plain],
    [/device node/, contents, tree, tarOf('mknod node b 7 0 && tar --create --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner ./node'), { type: 'end' }],
    [/outside of the VE's range/, contents, tree, tarOf('echo x >file && chown 70000 file && tar --create --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner ./file'), { type: 'end' }],
    [/outside of the VE's range/, contents, { ...tree, base: 1_000_000 } as { type: string }, plain, { type: 'end' }],
    [/leads out/, contents, tree, tarOf('echo x >file && tar --create --format=posix --pax-option=delete=atime,delete=ctime --numeric-owner --absolute-names --transform "s,.*,../../../escaped," ./file'), { type: 'end' }],
    [/not a path within/, contents, { type: 'remove' }, Buffer.from('../../../etc/passwd\0'), tree, plain, { type: 'end' }],
  ];
  const before = veld.outline();
  for (const [words, ...messages] of tries) {
    const result = await veld.cli('import', '--file', await forged(...messages));
    assert.match(result.stderr, words);
    assert.notEqual(result.code, 0);
  }
  assert.deepEqual(veld.outline(), before);
  // The same way an honest one is taken.
  await ok('import', '--file', await forged(contents, tree, plain, { type: 'end' }));
  await veld.api.operate('DELETE', '/v1/ves/evil');
});

test('a daemon that is killed while a VE stands leaves it running; one that is killed in an import leaves nothing of it', async () => {
  const target = join(folder, 'killed.export');
  const standsNoMore = async (): Promise<void> => {
    const group = readdirSync('/sys/fs/cgroup').includes('unified') ? '/sys/fs/cgroup/unified' : '/sys/fs/cgroup';
    const found = execFileSync('find', [group, '-maxdepth', '4', '-path', `*${veld.name}*`, '-name', 'cgroup.freeze']).toString('utf8').trim().split('\n');
    await until('the VE to go on', () => found.every((path) => readFileSync(path, 'utf8').trim() === '0'));
  };
  for (const point of ['export.standing', 'export.disk']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['export', 'web', '--file', target], standsNoMore);
    assert.equal((await veld.show('web')).status, 'running');
    assert.ok(!existsSync(target));
    rmSync(join(folder, readdirSync(folder).find((name) => name.endsWith('.partial')) ?? 'none'), { force: true });
  }
  const before = (await veld.list()).length;
  for (const point of ['import.volume', 'import.tree', 'import.whole', 'phase:import.ready']) {
    await veld.restart({ VELD_FAULT: `kill:${point}` });
    await veld.cliAcross(['import', '--file', file, '--as', 'killed']);
    assert.equal((await veld.list()).length, before, point);
    assert.equal(readdirSync(join(veld.settings.stateDir, 'ves')).filter((name) => !name.startsWith('.')).length, before, point);
  }
  await ok('import', '--file', file, '--as', 'killed');
  await veld.api.operate('DELETE', '/v1/ves/killed');
});
