/**
 * One of two machines loses its power in the middle of a migration, and comes back: the VE is one node's then, and runs there, and nothing is lost of what it has brought to its
 * disk and told others. Whoever judges looks at the processes of both machines, and at a file that each number is in before it is told.
 */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { until } from '../lib/wait.ts';
import { PATIENCE } from './host.ts';
import type { Host } from './host.ts';

/** Point of the daemon at which it stops for good, and whose power is cut then. The VE goes from the first machine to the second. */
const TRIALS = [
  { when: 'its disk is sent', victim: 'source', point: 'migrate.disk' },
  { when: 'its disk comes', victim: 'target', point: 'migrate-in.disk' },
  { when: 'it is written down that it is granted, and not yet said', victim: 'source', point: 'migrate.granted' },
  { when: 'the grant has come', victim: 'target', point: 'migrate-in.grant' },
  { when: 'it is written down that it is taken', victim: 'target', point: 'migrate-in.owned' },
  { when: 'the source has heard that it is taken', victim: 'source', point: 'migrate.answered' },
] as const;

const NAME = 'walker', PORT = 7300, NUMBERS = '/var/lib/numbers', ASKED = '/run/asked', FAULT = '/run/veld-fault', SERVER = '/usr/local/bin/numbers';

/** Tells the next number to whoever asks, and has it in its file, on the disk, before. After a boot it goes on where the file ends. */
const NUMBERS_SERVER = `use IO::Socket::IP; use IO::Handle; my $n = 0; if (open my $o, "<", "${NUMBERS}") { $n = $_ while <$o>; $n += 0 }
open my $f, ">>", "${NUMBERS}" or die $!; my $s = IO::Socket::IP->new(LocalHost => "0.0.0.0", LocalPort => ${PORT}, Listen => 9, ReuseAddr => 1) or die $@;
while (my $c = $s->accept) { $c->autoflush(1); while (<$c>) { $n++; print $f "$n\\n" or die $!; $f->flush; $f->sync or die $!; print $c "$n\\n" } }`;

/** Asks all the time, also after a connection has ended; the last number stands in its file. It ends when one comes again. */
const ASKER = (address: string): string => `import socket, time
last = 0
while True:
    try:
        s = socket.create_connection(("${address}", ${PORT}), 5); s.settimeout(20); f = s.makefile("rw")
        while True:
            f.write("?\\n"); f.flush()
            n = int(f.readline())
            assert n > last, (n, last)
            last = n
            open("${ASKED}.new", "w").write(str(n)); __import__("os").rename("${ASKED}.new", "${ASKED}")
            time.sleep(0.02)
    except (OSError, ValueError):
        time.sleep(0.5)`;

/** @param rejoin set up the wire of machines that have booted */
export function powerTrials(hosts: readonly [Host, Host], rejoin: () => Promise<void>): void {
  const [source, target] = hosts;

  test('for the trials the daemons look for faults, and the VE tells numbers', async () => {
    await Promise.all(hosts.map(({ machine }) => machine.run(
      `mkdir -p /etc/systemd/system/veldd.service.d; printf '[Service]\\nEnvironment=VELD_FAULT=@${FAULT}\\n' >/etc/systemd/system/veldd.service.d/fault.conf; systemctl daemon-reload; systemctl restart veldd`)));
    await Promise.all(hosts.map((host) => host.answers()));
    // Whatever starts VEs by itself must leave alone what may be another node's.
    await source.set(NAME, { 'boot.start': true, 'restart.policy': 'always' });
    const unit = `[Service]\nExecStart=/usr/bin/perl ${SERVER}\nRestart=always\n[Install]\nWantedBy=multi-user.target\n`;
    const { exitCode, stderr } = await source.exec(NAME, 'sh', '-ec', `printf '%s' "$1" >${SERVER}; printf '%s' "$2" >/etc/systemd/system/numbers.service; echo kept >/root/marker; sync; systemctl enable --now numbers`, 'sh', NUMBERS_SERVER, unit);
    assert.equal(exitCode, 0, stderr);
  });

  for (const { when, victim, point } of TRIALS) {
    test(`the ${victim} loses its power when ${when}`, async (t) => {
      const [lost, kept] = victim === 'source' ? [source, target] : [target, source];
      const [address] = (await source.show(NAME)).addresses;
      await Promise.all(hosts.map(({ machine }) => machine.run(`rm -f ${FAULT}; systemctl stop asker 2>/dev/null; true`)));
      await kept.machine.run(`rm -f ${ASKED}; cat >/root/asker.py <<'END'\n${ASKER(address!)}\nEND\nsystemctl reset-failed asker 2>/dev/null; systemd-run --quiet --unit=asker python3 /root/asker.py`);
      const asked = async (): Promise<number> => Number(await kept.machine.ask(`cat ${ASKED} 2>/dev/null`, { allow: true }));
      await until('numbers', async () => await asked() > 0, PATIENCE, 500);

      await lost.machine.run(`echo stop:${point} >${FAULT}`);
      const moving = source.veld(`migrate ${NAME} two 2>&1`, true);
      const stopped = until(`the daemon to stop at ${point}`, async () => (await lost.machine.run(`test ! -e ${FAULT}`, { allow: true })).code === 0, PATIENCE, 250);
      const early = await Promise.race([stopped.then(() => undefined), moving]);
      assert.equal(early, undefined, `it ended before the daemon came to ${point}`);
      await lost.machine.powerCut();
      t.diagnostic(`the source said: ${(await moving).split('\n').at(-1)}`);
      await lost.machine.start();
      await Promise.all(hosts.map((host) => host.answers()));
      await rejoin();

      /** Whose it is, when one of both says so, and says that it runs. */
      const owner = await until('one of them to have it', async () => {
        const lists = await Promise.all(hosts.map((host) => host.list()));
        const owners = hosts.filter((_, i) => lists[i]!.some(({ name, status }) => name === NAME && status === 'running'));
        const others = lists.flat().filter(({ name, status }) => name === NAME && status !== 'running');
        return owners.length === 1 && others.length === 0 ? owners[0] : undefined;
      }, PATIENCE, 1000);
      t.diagnostic(`it is at the ${owner === source ? 'source' : 'target'}`);
      await owner.booted(NAME);
      // What both machines say, not what Veld does.
      const running = await Promise.all(hosts.map(({ machine }) => machine.ask(`pgrep -fc '^/usr/bin/perl ${SERVER}'`, { allow: true })));
      assert.deepEqual(running.map(Number), hosts.map((host) => (host === owner ? 1 : 0)));
      await kept.machine.run('systemctl is-active asker && systemctl stop asker');
      assert.equal(await owner.said(NAME, 'cat', '/root/marker'), 'kept');
      const numbers = (await owner.said(NAME, 'cat', NUMBERS)).split('\n').map(Number);
      assert.ok(numbers.every((n, i) => n === i + 1), 'each number once');
      assert.ok(numbers.length >= await asked(), `${numbers.length} are in the file, and ${await asked()} were told`);
      if (owner === target) await target.veld(`migrate ${NAME} one`);
    });
  }

  test('after the trials all is as it was', async () => {
    await source.said(NAME, 'sh', '-c', `systemctl disable --now numbers; rm -f ${SERVER} /etc/systemd/system/numbers.service`);
    await source.set(NAME, { 'boot.start': false, 'restart.policy': 'never' });
    await Promise.all(hosts.map(({ machine }) => machine.run('rm /etc/systemd/system/veldd.service.d/fault.conf; systemctl daemon-reload; systemctl restart veldd')));
    await Promise.all(hosts.map((host) => host.answers()));
  });
}
