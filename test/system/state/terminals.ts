/** Pseudo terminals and what runs on them. */
import { category } from './program.ts';

export const TERMINAL_HELPERS = String.raw`
sub pty { my $m = opened('/dev/ptmx', O_RDWR|O_NOCTTY); my $n = "\0" x 4; ioctl($m, 0x40045431, $n) or die "unlock: $!\n"; ioctl($m, 0x80045430, $n) or die; my $path = '/dev/pts/' . unpack('i', $n); return ($m, opened($path, O_RDWR|O_NOCTTY), $path) }
sub raw { my ($t) = @_; my $s = POSIX::Termios->new; $s->getattr(fileno $t); $s->setlflag(0); $s->setoflag(0); $s->setiflag(0); $s->setattr(fileno $t, POSIX::TCSANOW()) }
sub size { my ($t) = @_; my $b = "\0" x 8; ioctl($t, 0x5413, $b) or die "size: $!\n"; return join ' ', unpack 'S4', $b }
sub settings { my ($t) = @_; my $s = POSIX::Termios->new; $s->getattr(fileno $t); return join ' ', $s->getiflag, $s->getoflag, $s->getcflag, $s->getlflag, map { $s->getcc($_) } 0 .. 10 }
sub session { my ($m, $s, @command) = @_; my $pid = fork // die; return $pid if $pid; POSIX::setsid(); ioctl($s, 0x540e, 0) or die "TIOCSCTTY: $!\n"; POSIX::dup2(fileno $s, $_) for 0 .. 2; close $m; delete $SIG{PIPE}; exec { $command[0] } @command or POSIX::_exit(127) }
sub says { my ($m, $pattern) = @_; my $all = ''; for (my $end = now() + 15; now() < $end;) { $all .= get($m) if ready($m, 0.2); return ($1 // 1) if $all =~ $pattern } die "it says " . show($all) . "\n" }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, TERMINAL_HELPERS + code]));

export const terminals = category('terminals', both({
  'pty that both ends use': String.raw`
my ($m, $s, $path) = pty(); raw($s); my $name = fdlink($s);
check { give($m, 'typed'); same('typed', get($s), 'typed'); give($s, 'shown'); same('shown', get($m), 'shown'); same('name', fdlink($s), $name); my $n = "\0" x 4; ioctl($m, 0x80045430, $n); same('number', '/dev/pts/' . unpack('i', $n), $path) };
harm { close $s; (my $o, $s) = pty(); raw($s) };`,

  'pty with data in both queues': String.raw`
my ($m, $s) = pty(); raw($s); my $send = sub { give($m, 'typed'); give($s, 'shown'); pause(0.1) }; $send->();
check { same('typed', get($s), 'typed'); same('shown', get($m), 'shown'); $send->() };
harm { get($s) };`,

  'pty whose inner end is open for writing only': String.raw`
my ($m, $s, $path) = pty(); raw($s); my $o = opened($path, O_WRONLY|O_NOCTTY); close $s; my $send = sub { give($m, 'typed'); give($o, 'shown'); pause(0.1) }; $send->();
check { same('mode', fcntl($o, F_GETFL, 0) & 3, O_WRONLY); my $i = opened($path, O_RDWR|O_NOCTTY); same('typed', get($i), 'typed'); close $i; same('shown', get($m), 'shown'); $send->() };
harm { my $i = opened($path, O_RDWR|O_NOCTTY); get($i) };`,

  'size of a window': String.raw`
my ($m, $s) = pty(); ioctl($m, 0x5414, my $size = pack('S4', 43, 132, 700, 900)) or die;
check { same('master', size($m), '43 132 700 900'); same('slave', size($s), '43 132 700 900') };
harm { ioctl($s, 0x5414, my $size = pack('S4', 24, 80, 0, 0)) };`,

  'settings of a line': String.raw`
my ($m, $s) = pty(); my $t = POSIX::Termios->new; $t->getattr(fileno $s); $t->setlflag(POSIX::ICANON() | POSIX::ISIG()); $t->setcc(POSIX::VINTR(), 7); $t->setcc(POSIX::VEOF(), 5); $t->setoflag(0); $t->setospeed(POSIX::B9600()); $t->setattr(fileno $s, POSIX::TCSANOW()); my $was = settings($s);
check { same('settings', settings($s), $was); give($m, "a line\n"); same('line', get($s), "a line\n") };
harm { raw($s) };`,

  'controlling terminal': String.raw`
my ($m, $s, $path) = pty(); my $pid = session($m, $s, 'cat'); await('it to run', sub { (slurp("/proc/$pid/comm") // '') eq "cat\n" }); my $look = sub { join ' ', map { stat_of($pid, $_) } 5 .. 8 }; my $was = $look->(); my $turn = 0;
check { same('group, session, terminal, foreground', $look->(), $was); $turn++; give($m, "word $turn\n"); says($m, qr/word $turn\r\nword $turn\r\n/) };
harm { kill 9, $pid; waitpid $pid, 0 };`,

  'shell with jobs': String.raw`
my ($m, $s) = pty(); $ENV{PS1} = 'ready> '; $ENV{HISTFILE} = ''; my $pid = session($m, $s, 'bash', '--norc', '--noediting', '-i'); says($m, qr/ready> /); give($m, "stty -echo; secret=\$RANDOM\$RANDOM; sleep 5000 & sleep 6000 & kill -STOP %2; echo =\$secret=\n"); my $secret = says($m, qr/=(\d+)=/); pause(0.5);
check { give($m, "jobs; echo =\$secret=\n"); same('secret', says($m, qr/Running +sleep 5000.*Stopped +sleep 6000.*=(\d+)=/s), $secret);
  give($m, "sleep 7000; echo ended=\$?\n"); await('it to run', sub { run('pgrep', '-fx', 'sleep 7000', '-P', $pid) }); give($m, "\x03"); give($m, "echo after=\$?\n"); says($m, qr/after=130/) };
harm { give($m, "kill %1\n"); pause(0.5) };`,

  'program in the foreground': String.raw`
my ($m, $s) = pty(); $ENV{PS1} = 'ready> '; my $pid = session($m, $s, 'bash', '--norc', '--noediting', '-i'); says($m, qr/ready> /); give($m, "cat\n"); await('it to run', sub { run('pgrep', '-x', 'cat', '-P', $pid) }); my $group = stat_of($pid, 8); my $turn = 0;
check { same('foreground', stat_of($pid, 8), $group); $turn++; give($m, "word $turn\n"); says($m, qr/word $turn\r\nword $turn\r\n/); give($m, "\x1a"); says($m, qr/Stopped/); give($m, "fg\n"); await('it to be back', sub { stat_of($pid, 8) == $group }) };
harm { give($m, "\x03"); pause(0.5) };`,

  'exclusive and in packets': String.raw`
my ($m, $s, $path) = pty(); raw($s); ioctl($m, 0x5420, my $on = pack('i', 1)) or die "TIOCPKT: $!\n"; 
check { my $b = "\0" x 4; ioctl($m, 0x80045438, $b); same('packets', unpack('i', $b), 1); give($s, 'shown'); same('packet', get($m), "\0shown") };
harm { ioctl($m, 0x5420, my $on = pack('i', 0)) };`,

}));
