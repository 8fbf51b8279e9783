/** A VE with a firewall of its own that drops what it does not know: its connections go on, and new ones follow its rules. */
import assert from 'node:assert/strict';
import { httpLoad } from './clients/http.ts';
import { openLine } from './clients/talk.ts';
import type { Workload } from './types.ts';

const SITE = `server { listen 80 default_server; listen 81; keepalive_requests 1000000; keepalive_timeout 1h; location /echo { default_type text/plain; return 200 $arg_n; } }`;

/**
 * @param strict also drops packets in the middle of connections that the VE's connection tracking has not seen begin, as many how-tos advise
 */
export function nftables(strict: boolean): Workload {
  const rules = `
table inet filter {
  set open { type inet_service; elements = { 80 }; }
  counter accepted { }
  chain input {
    type filter hook input priority 0; policy drop;
    iif lo accept
    ct state established,related accept
    ct state invalid drop
    ${strict ? 'tcp flags & (fin|syn|rst|ack) != syn ct state new drop' : ''}
    icmp type echo-request accept
    tcp dport @open ct state new counter name accepted accept
  }
  chain output { type filter hook output priority 0; policy drop; ct state established,related accept; }
}`;
  return {
    name: strict ? 'nftables, strict' : 'nftables', packages: ['nginx-light'], rate: 200,
    async setup({ sh }) {
      await sh(`echo '${SITE}' >/etc/nginx/sites-enabled/default && systemctl restart nginx && printf '%s\n' 'flush ruleset' '${rules}' >/etc/nftables.conf && systemctl enable --now nftables && nft list ruleset | grep -q 'policy drop'`);
    },
    load: ({ address }) => httpLoad(address, 80, (word) => `/echo?n=${word}`),
    async afterResume({ address, sh }, round) {
      (await openLine(address, 80)).end();
      const closed = await Promise.race([openLine(address, 81).then((line) => line.end(), () => 'refused'), new Promise((resolve) => { setTimeout(resolve, 700, 'silence'); })]);
      assert.equal(closed, 'silence', `round ${round}: port 81 answers`);
      const now = await sh('nft -s list ruleset');
      assert.match(now, /policy drop/);
      assert.match(now, /elements = { 80 }/);
      assert.doesNotMatch(now, /veld-lock/);
    },
  };
}
