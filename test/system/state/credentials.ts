/** Who a process is, and what it may. */
import { category } from './program.ts';

const HELPERS = String.raw`
sub creds { my ($pid) = @_; return join '; ', map { "$_ " . (status($_, $pid) =~ s/\s+/ /gr) } qw(Uid Gid Groups CapInh CapPrm CapEff CapBnd CapAmb NoNewPrivs) }
sub caps { my ($effective, $permitted, $inheritable) = @_; my @v = map { ($_ & 0xffffffff, $_ >> 32) } $effective, $permitted, $inheritable; sys('capset', pack('L i', 0x20080522, 0), pack('L6', @v[0, 2, 4, 1, 3, 5])) }
`;
const both = (table: Record<string, string>): Record<string, string> => Object.fromEntries(Object.entries(table).map(([name, code]) => [name, HELPERS + code]));

export const credentials = category('credentials', both({
  'users and groups': String.raw`
my ($ask, $pid) = child { if ($_[0] eq 'go') { sys('setgroups', 4, pack('L4', 5, 27, 1000, 65000)); sys('setresgid', 33, 34, 35); sys('setresuid', 1001, 1002, 1003) } "$> $<" }; same('child', $ask->('go'), '1002 1001'); my $was = creds($pid);
check { same('credentials', creds($pid), $was); same('child', $ask->('?'), '1002 1001') };
harm { kill 9, $pid; waitpid $pid, 0; ($ask, $pid) = child { "$> $<" } };`,

  'capabilities': String.raw`
my ($ask, $pid) = child { if ($_[0] eq 'go') { sys('prctl', 24, 12, 0, 0, 0); caps(1 << 0 | 1 << 5, 1 << 0 | 1 << 1 | 1 << 5, 1 << 5); sys('prctl', 47, 2, 5, 0, 0) } chown(0, 0, '/') ? 'may' : 'may not' }; same('child', $ask->('go'), 'may'); my $was = creds($pid); ok('ambient', $was =~ /CapAmb 0+20\b/);
check { same('credentials', creds($pid), $was) };
harm { kill 9, $pid; waitpid $pid, 0; ($ask, $pid) = child { '' } };`,

  'secure bits': String.raw`
my $ask = child { sys('prctl', 28, 0x15, 0, 0, 0) if $_[0] eq 'go'; sys('prctl', 27, 0, 0, 0, 0) + 0 }; same('child', $ask->('go'), 0x15);
check { same('bits', $ask->('?'), 0x15) };
harm { $ask = sub { 0 } };`,

  'program of another user with its files': String.raw`
my $f = opened("$D/file", undef, 0600); give($f, 'only for root'); my $ask = child { if ($_[0] eq 'go') { sys('setgroups', 0, 0); sys('setresgid', 65534, 65534, 65534); sys('setresuid', 65534, 65534, 65534) } join ' ', pread($f, 99, 0), (sysopen(my $g, "$D/file", O_RDONLY) ? 'opened' : ename($!+0)) }; same('child', $ask->('go'), 'only for root EACCES');
check { same('child', $ask->('?'), 'only for root EACCES') };
harm { chmod 0644, "$D/file"; chmod 0755, $D };`,
}));
