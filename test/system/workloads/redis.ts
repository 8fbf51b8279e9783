/** Redis: counters that are kept in an append-only file, and messages to a subscriber. */
import assert from 'node:assert/strict';
import { command, reply } from './clients/redis.ts';
import { until } from '../../lib/wait.ts';
import { openLine, talk } from './clients/talk.ts';
import type { Workload } from './types.ts';

const PORT = 6379;

export function redis(): Workload {
  let counts: number[] = [];
  return {
    name: 'Redis', packages: ['redis-server'], rate: 200,
    async setup({ sh }) {
      await sh(`sed -i 's/^bind .*/bind 0.0.0.0/; s/^protected-mode .*/protected-mode no/; s/^appendonly .*/appendonly yes/' /etc/redis/redis.conf && systemctl restart redis-server`);
    },
    async load({ address }) {
      const subscriber = await openLine(address, PORT);
      command(subscriber, 'SUBSCRIBE', 'news');
      await reply(subscriber);
      let [heard, told] = [0, 0];
      const problems: string[] = [];
      const listening = (async (): Promise<void> => {
        for (;;) {
          const message = await reply(subscriber);
          heard += 1;
          if (String(message) !== `message,news,${heard}`) problems.push(`the subscriber waited for ${heard} and heard ${String(message)}`);
        }
      })().catch((error: unknown) => { problems.push(`subscriber: ${(error as Error).message}`); });
      const clients = await talk({
        host: address, port: PORT, clients: 8, pause: 20,
        async ask(line, n, client) {
          command(line, 'INCR', `count:${client}`);
          const count = await reply(line);
          if (count !== n) throw new Error(`counted to ${String(count)}, not ${n}`);
          if (client !== 0) return;
          told = n;
          command(line, 'PUBLISH', 'news', String(n));
          const receivers = await reply(line);
          if (receivers !== 1) throw new Error(`${String(receivers)} subscribers were told`);
        },
      });
      return {
        answers: clients.answers,
        answered: clients.answered,
        problems: () => [...clients.problems(), ...problems],
        async stop() {
          const report = await clients.stop();
          await until('the last message', () => heard >= told, 5000).catch(() => {});
          if (heard !== told) problems.push(`of ${told} messages the subscriber heard ${heard}`);
          subscriber.end();
          await listening;
          counts = clients.asked();
          return { ...report, problems: [...report.problems, ...problems.filter((text) => !/subscriber: the connection was closed/.test(text))] };
        },
      };
    },
    async check({ sh }) {
      const keys = counts.map((_, client) => `count:${client}`).join(' ');
      assert.equal(await sh(`redis-cli mget ${keys}`), `${counts.join('\n')}\n`);
      await sh('systemctl restart redis-server; timeout 20 sh -c "until redis-cli ping | grep -q PONG; do sleep 0.2; done"');
      assert.equal(await sh(`redis-cli mget ${keys}`), `${counts.join('\n')}\n`, 'after a restart, from the append-only file');
    },
  };
}
