/** MariaDB: as PostgreSQL's row; and with io_uring, which no dump can take along. */
import assert from 'node:assert/strict';
import { begin, execute } from './clients/mysql.ts';
import { talk } from './clients/talk.ts';
import type { Workload } from './types.ts';

const CLIENTS = 12;
const PACKAGES = ['mariadb-server'];
const SETUP = `
sed -i 's/^bind-address.*/bind-address = 0.0.0.0/' /etc/mysql/mariadb.conf.d/50-server.cnf
systemctl restart mariadb
mariadb <<'S'
create database work;
create user worker@'%' identified by '';
grant all on work.* to worker@'%';
use work;
create table counter (client int primary key, n int not null) engine = innodb;
create table step (client int, n int) engine = innodb;
insert into counter select seq, 0 from seq_0_to_${CLIENTS - 1};
S
`;

export function mariadb(): Workload {
  let counts: number[] = [];
  return {
    name: 'MariaDB', packages: PACKAGES, rate: 200,
    async setup({ sh }) {
      await sh(`set -e${SETUP}`);
    },
    async load({ address }) {
      const clients = await talk({
        host: address, port: 3306, clients: CLIENTS, pause: 5,
        async begin(line) {
          await begin(line, 'worker', 'work');
          await execute(line, 'set autocommit = 0');
        },
        async ask(line, n, client) {
          const changed = [
            await execute(line, `update counter set n = n + 1 where client = ${client} and n = ${n - 1}`),
            await execute(line, `insert into step values (${client}, ${n})`),
            await execute(line, 'commit'),
          ];
          if (String(changed) !== '1,1,0') throw new Error(`the server changed ${String(changed)} rows`);
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
      const ask = (text: string): Promise<string> => sh(`mariadb -N -e '${text}' work`);
      assert.equal(await ask('select n from counter order by client'), `${counts.join('\n')}\n`);
      assert.equal(await ask('select count(*), count(distinct client, n) from step'), `${report?.answers}\t${report?.answers}\n`);
    },
  };
}

export function mariadbWithIoUring(): Workload {
  return {
    name: 'MariaDB with io_uring', packages: PACKAGES, properties: { 'features.io_uring': true },
    async setup({ sh }) {
      await sh('ls -l /proc/$(pidof mariadbd)/fd | grep -q io_uring');
    },
    refused: /mariadbd.*io_uring/,
  };
}
