/** rsyslog: lines from programs of the VE, and from other machines by TCP, all there and in order. */
import assert from 'node:assert/strict';
import { talk } from './clients/talk.ts';
import { SERVICES } from './services.ts';
import type { Workload } from './types.ts';

const PORT = 514;

export function rsyslog(): Workload {
  let sent: number[] = [];
  return {
    name: 'rsyslog', packages: SERVICES, rate: 200,
    async setup({ sh }) {
      await sh(`printf 'module(load="imtcp")\ninput(type="imtcp" port="${PORT}")\n' >/etc/rsyslog.d/tcp.conf && systemctl restart rsyslog &&
systemd-run --quiet --unit talker sh -c 'i=0; while sleep 0.05; do i=$((i+1)); logger -t local "number $i."; done'`);
    },
    async load({ address }) {
      const clients = await talk({
        host: address, port: PORT, clients: 4, pause: 15,
        async ask(line, n, client) {
          line.send(`<14>Jan  1 00:00:00 far client${client}: number ${n}.\n`);
        },
      });
      return {
        ...clients,
        async stop() {
          const report = await clients.stop();
          sent = clients.asked();
          return { ...report, longestGap: 0 }; // nobody answers
        },
      };
    },
    async check({ sh }) {
      await sh('systemctl stop talker; sleep 1');
      const numbers = async (tag: string): Promise<number[]> => (await sh(`sed -n 's/.* ${tag}.*: number \\([0-9]*\\)\\.$/\\1/p' /var/log/syslog`)).trim().split('\n').map(Number);
      for (const [tag, last] of [['local', undefined], ...sent.map((n, client) => [`client${client}`, n] as const)] as const) {
        const seen = await numbers(tag);
        const wrong = seen.findIndex((n, i) => n !== i + 1);
        assert.equal(wrong, -1, `${tag}: after ${seen[wrong - 1]} came ${seen[wrong]}`);
        if (last !== undefined) assert.equal(seen.length, last, tag);
        else assert.ok(seen.length > 20, `${seen.length} lines`);
      }
    },
  };
}
