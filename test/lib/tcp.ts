/** A TCP server in a VE, and clients of it. */
import { connect } from 'node:net';
import type { Instance } from './instance.ts';
import { until } from './wait.ts';

/** Start a server in a VE that greets with the VE's host name, on IPv4 and IPv6. Perl's base package is in every Debian and Ubuntu. */
export async function serveGreeting(veld: Instance, ve: string, port: number): Promise<void> {
  const program = `use IO::Socket::IP; my $s = IO::Socket::IP->new(LocalHost => "::", LocalPort => ${port}, Listen => 9, ReuseAddr => 1, V6Only => 0) or die $@;
    while (my $c = $s->accept) { print $c "greetings from " . \`hostname\`; close $c }`;
  const started = await veld.exec(ve, 'systemd-run', '--quiet', `--unit=greeting-${port}`, 'perl', '-e', program);
  if (started.exitCode !== 0) throw new Error(`systemd-run: ${started.stderr}`);
}

/** What a server at this address says. */
export function ask(address: string, port: number, timeout = 3000): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: address, port, timeout });
    let said = '';
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => { said += text; });
    socket.on('timeout', () => socket.destroy(new Error(`${address} port ${port} did not answer`)));
    socket.on('error', reject);
    socket.on('close', () => resolve(said));
  });
}

/** The same, again and again until it answers. */
export function askUntil(address: string, port: number): Promise<string> {
  return until(`${address} port ${port} to answer`, () => ask(address, port, 1000), 10_000, 50);
}

/** What the server says to a client in another VE. */
export async function askFrom(veld: Instance, ve: string, address: string, port: number): Promise<string> {
  const result = await veld.exec(ve, 'timeout', '5', 'bash', '-c', `exec 3<>/dev/tcp/${address}/${port} && cat <&3`);
  return result.stdout;
}
