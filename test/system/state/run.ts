/** Puts programs into a VE, starts them as units of its systemd, and asks them. */
import type { Instance } from '../../lib/instance.ts';
import { HOME, PRELUDE, TALK, WAIT } from './program.ts';
import type { Program } from './program.ts';
import { credentials } from './credentials.ts';
import { events } from './events.ts';
import { files } from './files.ts';
import { groups } from './groups.ts';
import { inetSockets } from './inet-sockets.ts';
import { ipc } from './ipc.ts';
import { locks } from './locks.ts';
import { memory } from './memory.ts';
import { namespaces } from './namespaces.ts';
import { pipes } from './pipes.ts';
import { processes } from './processes.ts';
import { signals } from './signals.ts';
import { terminals } from './terminals.ts';
import { timers } from './timers.ts';
import { unixSockets } from './unix-sockets.ts';

/** All programs whose state survives. */
export const ALL: Program[] = [...memory, ...files, ...locks, ...pipes, ...unixSockets, ...inetSockets, ...events, ...timers, ...signals, ...ipc, ...terminals, ...processes, ...credentials, ...namespaces, ...groups];

/** What a program said of itself, by its id: `READY TOKEN`, `SKIP why`, `FAIL why`. */
export type Said = Map<string, string>;

/** Enabled, so that a boot starts them anew: such a process has another token. */
const UNIT = `[Unit]
Description=%i
[Service]
Type=exec
ExecStart=/usr/bin/perl ${HOME}/%i.pl
Delegate=yes
KillSignal=SIGKILL
LimitNOFILE=4096
StandardInput=null
[Install]
WantedBy=multi-user.target
`;

/** A socket whose connections are answered by `cat`. */
const ECHO = {
  '/etc/systemd/system/state-echo.socket': `[Socket]\nListenStream=${TALK}/echo.socket\nAccept=yes\n`,
  '/etc/systemd/system/state-echo@.service': '[Service]\nExecStart=/bin/cat\nStandardInput=socket\n',
};

/** Writes files: NUL-separated pairs of path and content on standard input. */
const UNPACK = String.raw`local $/; my %f = split /\0/, <STDIN>, -1; for (keys %f) { my ($d) = m{(.*)/}; system('mkdir', '-p', $d) if !-d $d; open(my $h, '>', $_) or die "$_: $!"; print $h $f{$_}; close $h or die }`;

/** Gives an order to all and waits for their answers: arguments ROUND VERB SECONDS, lines of id and token on standard input. */
const ASK = String.raw`
use Fcntl; use POSIX; my ($round, $verb, $seconds) = @ARGV; my %wait; my $dir = '${TALK}';
while (<STDIN>) { chomp; my ($id, $token) = split / /; my $f;
  if (!sysopen($f, "$dir/$id.orders", O_WRONLY|O_NONBLOCK)) { print "$id FAIL nobody there: $!\n"; next }
  syswrite($f, "$round $verb $token\n"); $wait{$id} = 1 }
for (my $end = time + $seconds; %wait && time < $end; select(undef, undef, undef, 0.05)) {
  for my $id (keys %wait) { open(my $f, '<', "$dir/$id.result") or next; my $l = <$f> // next; $l =~ s/^$round // or next; print "$id $l"; delete $wait{$id} } }
print "$_ FAIL no answer in $seconds s\n" for keys %wait;
`;

/** Like ASK, for the first words of programs: ids on standard input. */
const AWAIT = String.raw`
my ($seconds) = @ARGV; my %wait = map { chomp; $_ => 1 } <STDIN>; my $dir = '${TALK}';
for (my $end = time + $seconds; %wait && time < $end; select(undef, undef, undef, 0.05)) {
  for my $id (keys %wait) { open(my $f, '<', "$dir/$id.ready") or next; my $l = <$f> // next; print "$id $l"; delete $wait{$id} } }
for (keys %wait) { my $why = qx(journalctl -b -q -o cat -n 3 -u state\@$_.service); $why =~ s/\n/ /g; print "$_ FAIL never ready: $why\n" }
`;

/** Lay programs and their unit into a running VE. @param everyBoot those that a boot starts, too */
export async function install(veld: Instance, ve: string, programs: readonly Program[], everyBoot: readonly Program[]): Promise<void> {
  const files: Record<string, string> = { '/etc/systemd/system/state@.service': UNIT, ...ECHO };
  for (const { id, code } of programs) files[`${HOME}/${id}.pl`] = `${PRELUDE}\n#line 1 "${id}"\n${code}${WAIT}`;
  // Before any of them: each has its FIFO, also after a boot.
  files['/etc/tmpfiles.d/state.conf'] = programs.map(({ id }) => `p ${TALK}/${id}.orders 0600\n`).join('');
  await within(veld, ve, Object.entries(files).flat().join('\0'), UNPACK);
  const made = await veld.exec(ve, 'sh', '-c', `systemd-tmpfiles --create /etc/tmpfiles.d/state.conf && systemctl daemon-reload${everyBoot.length > 0 ? ` && systemctl enable --quiet ${everyBoot.map(unitOf).join(' ')}` : ''}`);
  if (made.exitCode !== 0) throw new Error(made.stderr);
}

/** The unit of a program. */
export const unitOf = ({ id }: Program): string => `state@${id}.service`;

/** Tokens of the programs that are ready. */
export function tokens(first: Said): Map<string, string> {
  return new Map([...first].flatMap(([id, word]) => (word.startsWith('READY ') ? [[id, word.slice(6)]] : [])));
}

/** Start programs. @returns their first words */
export async function startAll(veld: Instance, ve: string, programs: readonly Program[]): Promise<Said> {
  if (programs.length === 0) return new Map();
  const { exitCode, stderr } = await veld.exec(ve, 'systemctl', 'start', ...programs.map(unitOf));
  if (exitCode !== 0) throw new Error(stderr);
  return firstWords(veld, ve, programs);
}

/** The first words of programs that have been started. */
export async function firstWords(veld: Instance, ve: string, programs: readonly Program[]): Promise<Said> {
  return said(await within(veld, ve, programs.map(({ id }) => id).join('\n'), AWAIT, '60'));
}

/** End programs, with all that they have made. */
export async function endAll(veld: Instance, ve: string, programs: readonly Program[]): Promise<void> {
  await veld.exec(ve, 'systemctl', 'stop', 'state-echo.socket', ...programs.map(unitOf));
}

/** Give an order to all that are ready. @returns `ok` or `FAIL why` by id */
export async function ask(veld: Instance, ve: string, round: number, verb: 'check' | 'harm', first: Said): Promise<Said> {
  const lines = [...tokens(first)].map(([id, token]) => `${id} ${token}`);
  return said(await within(veld, ve, lines.map((line) => `${line}\n`).join(''), ASK, String(round), verb, '60'));
}

async function within(veld: Instance, ve: string, input: string, script: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await veld.cliWith(input, 'exec', ve, '--', 'perl', '-e', script, ...args);
  if (code !== 0) throw new Error(`perl in ${ve} ended with ${code}: ${stderr}`);
  return stdout;
}

function said(text: string): Said {
  return new Map(text.trim().split('\n').filter(Boolean).map((line) => [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)]));
}
