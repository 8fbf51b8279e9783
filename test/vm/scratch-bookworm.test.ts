import { bootHost, quickstart } from './host.ts';
import { test } from 'node:test';
const host = await bootHost({ suite: 'bookworm' });
test('quickstart', async () => { await quickstart(host); });
test('there and back', async () => {
  await host.booted('demo');
  await host.api.operate('POST', '/v1/ves/demo/suspend');
  try {
    await host.api.operate('POST', '/v1/ves/demo/resume');
  } catch (error) {
    console.log(await host.machine.ask('grep -h "could not restore" /var/log/veld/*.log | tail -1; sed -i "s/^exec 3>&1.*/exec 3>\\&1 >\\/tmp\\/conmon.log 2>\\&1 <\\/dev\\/null 9>\\&-; set -x/; s/^  exec 3>&1.*/  exec 3>\\&1 >\\/tmp\\/conmon.log 2>\\&1 <\\/dev\\/null 9>\\&-; set -x/" /opt/veld/libexec/veld-boot; sed -i "2i exec 2>>/tmp/runtime.log; set -x" /opt/veld/libexec/veld-runtime /opt/veld/libexec/veld-criu-hook', { allow: true }));
    await host.api.operate('POST', '/v1/ves/demo/resume').catch(() => {});
    console.log(await host.machine.ask('cat /tmp/conmon.log; cat /tmp/runtime.log | tail -150; dmesg | tail -5', { allow: true }));
    throw error;
  }
});
