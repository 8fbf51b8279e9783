/** Postfix: mail comes over sessions that stay open, some of it is delivered at once, some waits in the queue. */
import assert from 'node:assert/strict';
import { until } from '../../lib/wait.ts';
import { talk, untilText, type Line } from './clients/talk.ts';
import type { Workload } from './types.ts';

const SETUP = `
postconf -e inet_interfaces=all inet_protocols=ipv4 mydestination=localhost mynetworks=0.0.0.0/0 local_recipient_maps= \
  'smtpd_recipient_restrictions=check_recipient_access inline:{{later@localhost=HOLD}},permit_mynetworks,reject' alias_maps= smtpd_timeout=1h
useradd -m reader
systemctl restart postfix
timeout 30 sh -c 'until ss -Hltn | grep -q :25; do sleep 0.1; done'
`;

export function postfix(): Workload {
  let sent = 0;
  return {
    name: 'Postfix', packages: ['postfix'],
    async setup({ sh }) {
      await sh(`set -e${SETUP}`);
    },
    async load({ address }) {
      const clients = await talk({
        host: address, port: 25, clients: 4, pause: 50,
        async begin(line) {
          await say(line, undefined, '220');
          await say(line, 'EHLO client', '250');
        },
        async ask(line, n, client) {
          const to = n % 5 === 0 ? 'later' : 'reader';
          await say(line, 'MAIL FROM:<writer@localhost>', '250');
          await say(line, `RCPT TO:<${to}@localhost>`, '250');
          await say(line, 'DATA', '354');
          await say(line, `Subject: number ${client}-${n}\r\n\r\nhello\r\n.`, '250');
        },
      });
      return {
        ...clients,
        async stop() {
          const report = await clients.stop();
          sent = report.answers;
          return report;
        },
      };
    },
    async check({ sh }) {
      const count = async (): Promise<number[]> => (await sh(String.raw`grep -c '^Subject: number' /var/mail/reader; grep '^Subject: number' /var/mail/reader | sort -u | wc -l; find /var/spool/postfix/hold -type f | wc -l`)).trim().split('\n').map(Number);
      let now: number[] = [];
      await until('all mail to be delivered or held', async () => {
        now = await count();
        return now[0]! + now[2]! >= sent;
      }, 60_000, 500).catch(() => {});
      assert.equal(now[0]! + now[2]!, sent, `${sent} sent; delivered, of them different ones, held: ${now.join(', ')}`);
      assert.equal(now[0], now[1], 'delivered twice');
      assert.ok(now[2]! > 0);
    },
  };
}

async function say(line: Line, command: string | undefined, wanted: string): Promise<void> {
  if (command !== undefined) line.send(`${command}\r\n`);
  for (;;) {
    const said = await line.receive(untilText('\r\n'));
    if (!said.startsWith(wanted)) throw new Error(`to ${command ?? 'the connection'} the server says ${said}`);
    if (said[3] !== '-') return;
  }
}
