/** PostgreSQL: each client counts in a row of its own and notes each step; at the end both must say the same as the client. */
import assert from 'node:assert/strict';
import { begin, query } from './clients/postgres.ts';
import { talk } from './clients/talk.ts';
import type { Workload } from './types.ts';

const CLIENTS = 12;
const SETUP = `
cd /etc/postgresql/*/main
echo "listen_addresses = '*'" >>postgresql.conf
echo 'host all all 0.0.0.0/0 trust' >>pg_hba.conf
systemctl restart postgresql
cd /
runuser -u postgres -- psql -q -v ON_ERROR_STOP=1 <<'S'
create table counter (client int primary key, n int not null);
create table step (client int, n int);
insert into counter select c, 0 from generate_series(0, ${CLIENTS - 1}) c;
S
`;

export function postgresql(): Workload {
  let counts: number[] = [];
  return {
    name: 'PostgreSQL', packages: ['postgresql'], rate: 200,
    async setup({ sh }) {
      await sh(`set -e${SETUP}`);
    },
    async load({ address }) {
      const clients = await talk({
        host: address, port: 5432, clients: CLIENTS, pause: 20,
        begin: (line) => begin(line, 'postgres', 'postgres'),
        async ask(line, n, client) {
          const tags = await query(line, `begin; update counter set n = n + 1 where client = ${client} and n = ${n - 1}; insert into step values (${client}, ${n}); commit`);
          if (String(tags) !== 'BEGIN,UPDATE 1,INSERT 0 1,COMMIT') throw new Error(`the server did ${String(tags)}`);
        },
      });
      return {
        ...clients,
        async stop() {
          const report = await clients.stop();
          counts = clients.asked();
          return report;
        },
      };
    },
    async check({ sh }, report) {
      const ask = (text: string): Promise<string> => sh(`runuser -u postgres -- psql -At -c '${text}'`);
      assert.equal(await ask('select n from counter order by client'), `${counts.join('\n')}\n`);
      assert.equal(await ask('select sum(n) from counter'), `${report?.answers}\n`);
      assert.equal(await ask('select count(*), count(distinct (client, n)) from step'), `${report?.answers}|${report?.answers}\n`);
    },
  };
}
