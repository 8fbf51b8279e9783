/** Attacks on what the host does for a VE (exec, files written into it), and by other users of the host on what VEs leave on its disk. */
import { spawnSync } from 'node:child_process';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ApiError } from '../../lib/http.ts';
import type { Attack, Outcome } from './attack.ts';
import { hostCommand, inVe, onHost, outcome } from './attack.ts';
import type { Lab } from './lab.ts';

/** Any user of the host. */
const NOBODY = 65534;

/** Run a shell command in the attacker that must succeed. */
async function inside(lab: Lab, script: string, ...args: string[]): Promise<string> {
  const { exitCode, stdout, stderr } = await lab.veld.exec('attacker', 'sh', '-c', script, 'sh', ...args);
  if (exitCode !== 0) throw new Error(`${script}: ${stderr}`);
  return stdout;
}

/** What exec says about a user. */
async function execAs(lab: Lab, user: string): Promise<Outcome> {
  try {
    const { exitCode, stdout } = await lab.veld.api.call<{ exitCode: number; stdout: string }>('POST', '/v1/ves/attacker/exec', { command: ['id', '-u'], user });
    return outcome(exitCode === 0, `ran as ${stdout.trim()}`);
  } catch (error) {
    if (error instanceof ApiError) return outcome(false, `${error.code}: ${error.message}`);
    throw error;
  }
}

/** Another user of the host opens or runs a path. */
function byNobody(name: string, guard: string, path: (lab: Lab) => string, code: string): Attack {
  return { name, guard, refusal: /EACCES|EPERM|ENOENT/, inside: (lab) => onHost(code, [path(lab)], { uid: NOBODY }), off: (lab) => onHost(code, [path(lab)]) };
}

const READ = String.raw`defined slurp($ARGV[0]) or failed("open"); reached("read");`;
const LOCK = String.raw`sysopen(my $f, $ARGV[0], O_RDONLY) or failed("open"); flock($f, 6) or failed("flock"); reached("locked");`;
const LIST = String.raw`opendir(my $d, $ARGV[0]) or failed("opendir"); reached("listed");`;
const CONNECT = String.raw`socket(my $s, AF_UNIX, $ARGV[0] =~ /attach$/ ? SOCK_SEQPACKET : SOCK_STREAM, 0) or die; connect($s, pack_sockaddr_un($ARGV[0])) or failed("connect"); reached("connected");`;

const runFile = (name: string) => (lab: Lab): string => join(lab.veld.settings.runDir, 'ves', String(lab.attacker.number), name);

export const hostAttacks: Attack[] = [
  {
    name: 'make exec read the host\'s accounts by a link', guard: 'openat2(RESOLVE_IN_ROOT) in src/kernel/guest-tree.ts', refusal: /no user|unknown|request\.invalid|There is no/i,
    async inside(lab) {
      writeFileSync(join(lab.dir, 'accounts'), `ghost${lab.marker}:x:4242:4242::/:/bin/sh\n`, { mode: 0o644 });
      await inside(lab, 'cp -p /etc/passwd /etc/passwd.kept && ln -sf "$1" /etc/passwd', join(lab.dir, 'accounts'));
      try {
        return await execAs(lab, `ghost${lab.marker}`);
      } finally {
        await inside(lab, 'mv /etc/passwd.kept /etc/passwd');
      }
    },
    async off(lab) {
      // What an ordinary open does with a path below the VE's root.
      await inside(lab, 'ln -sf "$1" /root/accounts', join(lab.dir, 'accounts'));
      return outcome(readFileSync(`/proc/${lab.attacker.pid}/root/root/accounts`, 'utf8').includes(lab.marker), 'read');
    },
  },
  {
    name: 'make exec wait for ever by a FIFO', guard: 'only ordinary files are opened', refusal: /ran as 0/,
    async inside(lab) {
      await inside(lab, 'cp -p /etc/passwd /etc/passwd.kept && rm /etc/passwd && mkfifo /etc/passwd');
      try {
        const late = new Promise<Outcome>((resolve) => { setTimeout(() => resolve(outcome(true, 'no answer for 5 s')), 5000).unref(); });
        const asked = execAs(lab, '0').then((answer) => outcome(false, answer.said));
        return await Promise.race([asked, late]);
      } finally {
        await inside(lab, 'mv -f /etc/passwd.kept /etc/passwd');
      }
    },
    async off(lab) {
      await inside(lab, 'rm -f /root/fifo && mkfifo /root/fifo');
      const { error } = spawnSync('/bin/cat', [`/proc/${lab.attacker.pid}/root/root/fifo`], { timeout: 300 });
      return outcome(String(error).includes('ETIMEDOUT'), 'cat waited');
    },
  },
  {
    name: 'make the host write to a file of its own by a link', guard: 'openat2, and a new file renamed over whatever is there', refusal: /as it was/,
    async inside(lab) {
      const prey = join(lab.dir, 'prey');
      writeFileSync(prey, 'untouched');
      await inside(lab, 'ln -sf "$1" /etc/hostname; ln -sf "$1" /etc/hosts; rm -f /etc/resolv.conf; ln -s "$1" /etc/resolv.conf', prey);
      // Addresses are in the files, so these are written anew, addresses changed or not.
      await lab.veld.api.operate('PATCH', '/v1/ves/attacker/properties', { changes: { 'network.addresses': null } });
      if ((await inside(lab, 'cat /etc/hostname')).trim() !== 'attacker') throw new Error('the file was not written at all');
      return outcome(readFileSync(prey, 'utf8') !== 'untouched', 'the file of the host is as it was');
    },
    async off(lab) {
      const prey = join(lab.dir, 'prey');
      await inside(lab, 'ln -sf "$1" /root/hostname', prey);
      writeFileSync(`/proc/${lab.attacker.pid}/root/root/hostname`, 'touched');
      return outcome(readFileSync(prey, 'utf8') === 'touched', 'written through the link');
    },
  },
  {
    name: 'make exec run a program of the host', guard: 'exec resolves its program in the VE', refusal: /not_found|No such file|ENOENT|12[67]|could not be started/i,
    async inside(lab) {
      const tool = hostTool(lab);
      try {
        const { exitCode, stdout, stderr } = await lab.veld.exec('attacker', tool);
        return outcome(stdout.includes(lab.marker), `status ${exitCode}: ${stderr}`);
      } catch (error) {
        if (error instanceof ApiError) return outcome(false, `${error.code}: ${error.message}`);
        throw error;
      }
    },
    off: async (lab) => outcome(spawnSync(hostTool(lab), { encoding: 'utf8' }).stdout.includes(lab.marker), 'the host runs it'),
  },
  {
    name: 'overwrite the runtime while it enters the VE', guard: 'crun runs from a sealed copy, and cannot be traced', refusal: /^0 runtimes caught.*EACCES/,
    async inside(lab) {
      // Commands keep coming for as long as it lies in wait.
      const over = new AbortController();
      const commands = Promise.all(Array.from({ length: 3 }, async () => {
        while (!over.signal.aborted) await lab.veld.exec('attacker', 'true');
      }));
      const caught = await inVe(lab, 'attacker', OVERWRITE, ['crun|memfd', 2]).finally(() => over.abort());
      await commands;
      return caught;
    },
    async off(lab) {
      const copy = join(lab.dir, 'crun-copy');
      cpSync('/bin/sleep', copy);
      const running = hostCommand([copy, '0.5']);
      const caught = await onHost(OVERWRITE, ['crun-copy', 2]);
      await running;
      return caught;
    },
  },
  {
    name: 'hand a setuid file to another user of the host', guard: 'the state folder is closed to all but root', refusal: /EACCES/,
    async inside(lab) {
      await inside(lab, 'mkdir -p /srv/open && cp /usr/bin/id /srv/open/id && chmod 4755 /srv/open/id && chmod 755 /srv /srv/open');
      return onHost(RUN_ID, [upperOf(lab, 'srv/open/id'), lab.attacker.uidBase], { uid: NOBODY });
    },
    async off(lab) {
      const open = join(lab.dir, 'open');
      rmSync(open, { recursive: true, force: true });
      mkdirSync(open, { mode: 0o755 });
      cpSync(upperOf(lab, 'srv/open/id'), join(open, 'id'), { preserveTimestamps: true });
      spawnSync('/bin/chown', [`${lab.attacker.uidBase}:${lab.attacker.uidBase}`, join(open, 'id')]);
      chmodSync(join(open, 'id'), 0o4755);
      return onHost(RUN_ID, [join(open, 'id'), lab.attacker.uidBase], { uid: NOBODY });
    },
  },
  byNobody('be read on disk by another user of the host', 'the state folder is closed to all but root', (lab) => upperOf(lab, 'etc/hostname'), READ),
  byNobody('have its run folder listed by another user of the host', 'folders on the way to a root can be walked, not listed', runFile(''), LIST),
  byNobody('have its configuration read by another user of the host', 'mode 0600', runFile('config.json'), READ),
  byNobody('have its boot held up by another user of the host', 'mode 0600 of the lock', runFile('lock'), LOCK),
  byNobody('have its console taken by another user of the host', 'mode 0700 of conmon\'s socket', runFile('attach'), CONNECT),
  byNobody('be managed by another user of the host', 'mode 0660 of the socket, and its group', (lab) => lab.veld.settings.socket, CONNECT),
  byNobody('have its console log read by another user of the host', 'the state folder is closed to all but root', (lab) => join(lab.veld.settings.stateDir, 'logs', `${lab.attacker.uuid}.console`), READ),
];

/** Holds the program of every process that matches open until the process has ended, then writes to it. */
const OVERWRITE = String.raw`
my ($match, $seconds) = @ARGV; my %held; my %why; my $end = time + $seconds;
while (time < $end) {
  for my $p (pids()) { next if $held{$p} || $p == $$; my $to = readlink("/proc/$p/exe"); if (!defined $to) { $why{name($!+0)} = 1; next } next if $to !~ /$match/; my $f; sysopen($f, "/proc/$p/exe", O_RDONLY) or do { $why{name($!+0)} = 1; next }; $held{$p} = $f }
  for my $f (values %held) { sysopen(my $w, "/proc/self/fd/" . fileno($f), O_WRONLY) or do { $why{name($!+0)} = 1; next }; sysseek($w, 0, 2); defined syswrite($w, "x") and reached("wrote to the program"); $why{name($!+0)} = 1 }
}
refused(keys(%held) . " runtimes caught, " . join ' ', sort keys %why);`;

const RUN_ID = String.raw`my ($file, $base) = @ARGV; -e $file or failed("stat"); my $out = qx{$file -u 2>&1}; $? == -1 and failed("exec"); chomp $out; reached("ran as $out") if $out eq $base; refused("ran as $out");`;

function hostTool(lab: Lab): string {
  const tool = join(lab.dir, 'tool');
  if (!existsSync(tool)) writeFileSync(tool, `#!/bin/sh\necho ${lab.marker}\n`, { mode: 0o755 });
  return tool;
}

/** A file of the attacker's upper, by its path on the host. */
function upperOf(lab: Lab, path: string): string {
  const volume = join(lab.veld.settings.stateDir, 'ves', lab.attacker.uuid);
  if (!readdirSync(volume).includes('upper')) throw new Error(`${volume} has no upper`);
  return join(volume, 'upper', path);
}
