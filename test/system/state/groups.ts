/** Control groups, and what systemd keeps for its units. */
import { category } from './program.ts';

const HELPERS = String.raw`
my ($OWN) = slurp('/proc/self/cgroup') =~ /^0::(.*)/m; my $TOP = "/sys/fs/cgroup$OWN";
sub group_of { my ($g) = (slurp("/proc/$_[0]/cgroup") // '') =~ /^0::(.*)/m; return $g // 'gone' }
sub enter { my ($group, $pid) = @_; open(my $f, '>', "$TOP/$group/cgroup.procs") or die "$group: $!\n"; syswrite($f, $pid) or die "$group: $!\n" }
sub unit { return "state-$$-$_[0]" }
sub property { my ($unit, $name) = @_; my ($v) = run('systemctl', 'show', '-P', $name, $unit) =~ /(.*)/; return $v }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, HELPERS + code]));

export const groups = category('groups', both({
  'groups below a service': String.raw`
mkdir "$TOP/$_" or die "$_: $!\n" for qw(one one/deep two empty); my %p = map { $_ => forked { pause(1e6) } } qw(one/deep two); enter($_, $p{$_}) for keys %p; chown 1234, 1234, "$TOP/two";
check { same("group of $_", group_of($p{$_}), "$OWN/$_") for sort keys %p; ok('the empty one', -d "$TOP/empty"); same('owner', (stat "$TOP/two")[4], 1234); my $pid = forked { pause(1e6) }; enter('empty', $pid); same('moved', group_of($pid), "$OWN/empty"); kill 9, $pid; waitpid $pid, 0 };
harm { kill 9, $p{two}; waitpid $p{two}, 0 };`,

  'limits of a group': String.raw`
mkdir "$TOP/limited" or die; spew("$TOP/limited/cgroup.max.descendants", 7); spew("$TOP/limited/cgroup.max.depth", 3);
check { same('descendants', slurp("$TOP/limited/cgroup.max.descendants"), "7\n"); same('depth', slurp("$TOP/limited/cgroup.max.depth"), "3\n") };
harm { spew("$TOP/limited/cgroup.max.depth", 2) };`,

  'service that systemd starts and ends': String.raw`
my $name = unit('worker'); run('systemd-run', "--unit=$name", '--quiet', '-p', "BindsTo=state\@$NAME.service", '-p', 'ExecStop=/bin/true', 'sleep', '9999'); my $pid = property($name, 'MainPID');
check { same('state', property($name, 'ActiveState'), 'active'); same('process', property($name, 'MainPID'), $pid); my $new = unit(int(now() * 1000)); same('another', run('systemd-run', '--wait', '--quiet', "--unit=$new", '-p', 'RemainAfterExit=no', 'true'), '') };
harm { run('systemctl', 'stop', $name) };`,

  'service behind walls': String.raw`
my $name = unit('walled'); my $secret = int rand 1e9; my $said = run('systemd-run', "--unit=$name", '--quiet', '-p', "BindsTo=state\@$NAME.service", (map { ('-p', $_) } qw(PrivateTmp=yes ProtectSystem=strict ProtectHome=yes PrivateDevices=yes ProtectKernelTunables=yes ProtectControlGroups=yes NoNewPrivileges=yes RestrictSUIDSGID=yes MemoryDenyWriteExecute=yes LockPersonality=yes DynamicUser=yes StateDirectory=state-walled SystemCallFilter=@system-service)), 'sh', '-c', "echo $secret >/tmp/secret; exec sleep 9999"); my $pid; await("it to run ($said)", sub { $pid = property($name, 'MainPID'); $pid && (slurp("/proc/$pid/comm") // '') eq "sleep\n" });
my $look = sub { join '; ', status('Uid', $pid), status('Seccomp', $pid), status('NoNewPrivs', $pid), status('CapBnd', $pid), scalar(split /\n/, slurp("/proc/$pid/mountinfo") // ''), slurp("/proc/$pid/root/tmp/secret") // 'none', ((slurp("/proc/$pid/mountinfo") // '') =~ m{ /usr (ro|rw)})[0] // 'none' }; my $was = $look->();
check { same('walls', $look->(), $was); same('state', property($name, 'ActiveState'), 'active') };
harm { run('systemctl', 'stop', $name) };`,

  'service that is started by a socket': String.raw`
# state-echo.socket comes with the programs: to load it here would have systemd forget the units that others are just making.
run('systemctl', 'start', 'state-echo.socket'); my $name = pack_sockaddr_un("$TALK/echo.socket");
check { socket(my $c, AF_UNIX, SOCK_STREAM, 0); connect($c, $name) or die "connect: $!\n"; give($c, "word\n"); same('answer', line($c), 'word') };
harm { run('systemctl', 'stop', 'state-echo.socket') };`,

  'service that reloads': String.raw`
my $name = unit('reloads'); run('systemd-run', "--unit=$name", '--quiet', '-p', "BindsTo=state\@$NAME.service", '-p', "ExecReload=/bin/sh -c 'echo >>$T/reloads'", 'sleep', '9999'); my $turn = 0;
check { $turn++; same('what systemctl says', run('systemctl', 'reload', $name), ''); same('reloads', -s "$T/reloads", $turn) };
harm { run('systemctl', 'stop', $name) };`,

  'timer unit': String.raw`
my $name = unit('timer'); run('systemd-run', "--unit=$name", '--quiet', '-p', "BindsTo=state\@$NAME.service", '--on-active=1s', '--on-unit-active=500ms', '--timer-property=AccuracySec=50ms', 'sh', '-c', "echo >>$T/ticks"); my $ticks = sub { -s "$T/ticks" // 0 }; await('a tick', sub { $ticks->() });
check { my $n = $ticks->(); await('more ticks', sub { $ticks->() > $n + 1 }) };
harm { run('systemctl', 'stop', "$name.timer") };`,

  'journal': String.raw`
my $turn = 0; my $word = "word $$ " . int rand 1e9; run('logger', '-t', $NAME, "$word 0");
check { $turn++; run('logger', '-t', $NAME, "$word $turn"); await('the line', sub { run('journalctl', '-q', '-o', 'cat', '-t', $NAME) =~ /^\Q$word\E $turn$/m }); ok('the first line', run('journalctl', '-q', '-o', 'cat', '-t', $NAME) =~ /^\Q$word\E 0$/m) };
harm { run('journalctl', '--rotate'); $word = 'another' };`,

  'D-Bus and logind': String.raw`
my $before = run('busctl', '--no-pager', 'list', '--acquired');
check { ok('logind answers', run('busctl', 'call', 'org.freedesktop.login1', '/org/freedesktop/login1', 'org.freedesktop.login1.Manager', 'ListSeats') =~ /^a\(so\)/); ok('hostname of systemd', run('busctl', 'get-property', 'org.freedesktop.systemd1', '/org/freedesktop/systemd1', 'org.freedesktop.systemd1.Manager', 'Version') =~ /^s "/); same('sleepers', $before ne '', 1) };
harm { $before = '' };`,
}));
