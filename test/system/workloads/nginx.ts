/** nginx and clients that keep their connections. */
import assert from 'node:assert/strict';
import { httpLoad } from './clients/http.ts';
import type { Workload } from './types.ts';

const SITE = `server { listen 80 default_server; keepalive_requests 1000000; keepalive_timeout 1h; location /echo { default_type text/plain; return 200 $arg_n; } }`;

/** @param suite name of the template's suite */
export function nginx(suite: string): Workload {
  return {
    name: `nginx ${suite}`, suite, packages: ['nginx-light'], rate: 200, reboot: true,
    ...(suite === 'debian-12' ? {} : { rounds: 5 }),
    async setup({ sh }) {
      await sh(`echo '${SITE}' >/etc/nginx/sites-enabled/default && : >/var/log/nginx/access.log && systemctl restart nginx`);
    },
    load: ({ address }) => httpLoad(address, 80, (word) => `/echo?n=${word}`),
    async check({ sh }, report) {
      const seen = await sh(String.raw`grep -o 'n=[0-9-]*' /var/log/nginx/access.log | sort | tee /tmp/seen | wc -l; uniq -d /tmp/seen | wc -l`);
      assert.equal(seen, `${report?.answers}\n0\n`, 'requests that nginx served, and those that it served twice');
    },
  };
}
