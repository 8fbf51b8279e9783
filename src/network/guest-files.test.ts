import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { guestFiles, hostResolvers } from './guest-files.ts';
import type { GuestIdentity } from './guest-files.ts';

const contentOf = (identity: GuestIdentity, path: string): string => guestFiles(identity).find((file) => file.path === path)?.content ?? assert.fail(path);

test('a VE knows its own name by its own addresses', () => {
  const identity = { name: 'web', hostname: 'www.example.org', addresses: ['10.187.0.2', 'fd5e:1d00:187::2'], dns: ['9.9.9.9'], search: ['example.org', 'lan'] };
  assert.equal(contentOf(identity, '/etc/hostname'), 'www.example.org\n');
  const hosts = contentOf(identity, '/etc/hosts').split('\n');
  for (const line of ['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback', '10.187.0.2 www.example.org www', 'fd5e:1d00:187::2 www.example.org www']) assert.ok(hosts.includes(line), line);
  assert.match(contentOf(identity, '/etc/resolv.conf'), /\nsearch example\.org lan\nnameserver 9\.9\.9\.9\n$/);
  assert.match(contentOf({ name: 'web', addresses: [] }, '/etc/hosts'), /\n127\.0\.1\.1 web\n/);
});

test('files of one distribution only go where its folder is', () => {
  for (const setup of ['host', 'auto', 'own'] as const) {
    for (const { path, ifFolder, ifExists } of guestFiles({ name: 'web', addresses: [], interfaces: [{ name: 'eth0', setup }] })) {
      assert.equal((ifFolder ?? ifExists) !== undefined, !['/etc/hostname', '/etc/hosts', '/etc/resolv.conf'].includes(path), path);
      if (ifFolder !== undefined) assert.ok(path.startsWith(`${ifFolder}/`));
    }
  }
});

test('each interface is configured by one: the host, the VE by DHCP, or the VE as it likes', () => {
  const identity: GuestIdentity = { name: 'web', addresses: [], interfaces: [{ name: 'eth0', setup: 'host' }, { name: 'eth1', setup: 'auto' }, { name: 'eth2', setup: 'own' }, { name: 'eth3', setup: 'host' }] };
  const files = guestFiles(identity);
  assert.match(contentOf(identity, '/etc/systemd/network/00-veld-eth0.network'), /\nName=eth0 eth3\n\n\[Link\]\nUnmanaged=yes\n/);
  assert.match(contentOf(identity, '/etc/systemd/network/00-veld-auto.network'), /\nName=eth1\n\n\[Network\]\nDHCP=yes\n/);
  const wanted = files.find(({ path }) => path.endsWith('/veld-network.conf'));
  assert.ok(wanted?.makeFolder && wanted.ifExists === '/lib/systemd/systemd-networkd' && wanted.content.includes('Wants=systemd-networkd.service'));
  const [withNetworkd, without] = files.filter(({ path }) => path === '/etc/network/interfaces');
  assert.deepEqual([withNetworkd?.ifExists, without?.unlessExists], ['/lib/systemd/systemd-networkd', '/lib/systemd/systemd-networkd']);
  assert.match(withNetworkd?.content ?? '', /iface eth1 inet manual/);
  assert.match(without?.content ?? '', /auto eth1\niface eth1 inet dhcp/);
  for (const one of [withNetworkd, without]) assert.doesNotMatch(one?.content ?? '', /eth2/);
  assert.match(contentOf(identity, '/etc/NetworkManager/conf.d/00-veld-eth0.conf'), /unmanaged-devices=interface-name:eth0;interface-name:eth3\n\n\[device-eth1\]/);
});

test('a VE without DHCP is told so only where it had it before, and nothing matches every interface', () => {
  for (const interfaces of [[], [{ name: 'eth0', setup: 'host' as const }]]) {
    const files = guestFiles({ name: 'web', addresses: [], interfaces });
    for (const path of ['/etc/systemd/network/00-veld-auto.network', '/etc/systemd/system/multi-user.target.d/veld-network.conf']) {
      const file = files.find((one) => one.path === path);
      assert.equal(file?.ifExists, path);
      assert.doesNotMatch(file?.content ?? '', /Wants/);
    }
    for (const { path, content } of files) if (path.endsWith('.network')) assert.match(content, /\[Match\]\nName=(eth0|veld-absent)\n/);
  }
});

test('no value begins a line or word of its own', () => {
  const evil = 'x\n6.6.6.6 security.debian.org';
  const identity = { name: 'web', hostname: evil, addresses: [evil, '10.0.0.1\n6.6.6.6 a'], dns: ['1.1.1.1\nnameserver 6.6.6.6', evil], search: [evil, 'a b', 'a\tb', ''] };
  for (const { path, content } of guestFiles(identity)) {
    assert.ok(!content.includes('6.6.6.6'), path);
    assert.ok(content.endsWith('\n'), path);
  }
  assert.equal(contentOf(identity, '/etc/hostname'), 'web\n');
  assert.ok(!contentOf(identity, '/etc/resolv.conf').includes('search'));
});

test('the host\'s real resolvers are taken, never a loopback one', () => {
  const folder = mkdtempSync(join(tmpdir(), 'veld-resolv-'));
  try {
    const resolved = join(folder, 'resolved');
    const etc = join(folder, 'etc');
    writeFileSync(etc, 'nameserver 127.0.0.53\nnameserver ::1\nnameserver fe80::1%eth0\noptions edns0\n');
    assert.deepEqual(hostResolvers([resolved, etc]), []);
    writeFileSync(resolved, '# by resolved\nnameserver 192.0.2.53\n nameserver 2001:db8::53\nnameserver 192.0.2.53\n');
    assert.deepEqual(hostResolvers([resolved, etc]), ['192.0.2.53', '2001:db8::53']);
    writeFileSync(resolved, '');
    writeFileSync(etc, 'nameserver 192.0.2.1\n');
    assert.deepEqual(hostResolvers([resolved, etc]), ['192.0.2.1']);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
