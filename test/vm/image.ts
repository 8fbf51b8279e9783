/**
 * Disk images of stock Debian: everything that `./quickstart` would install is in them, since programs run 6 to 15 times slower inside.
 * Built by mmdebstrap and mkfs.ext4 -d, kept in the test cache.
 */
import { spawnSync } from 'node:child_process';
import { copyFileSync, globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { debianKeyring } from '../../src/kernel/engine-keys.ts';
import { mmdebstrap } from '../../src/kernel/mmdebstrap.ts';
import { debianMirror } from '../../src/kernel/package-sources.ts';
import { run } from '../../src/lib/run.ts';
import { cached, sourceTexts } from './build.ts';

/** Debian releases that the tier knows. */
export type Suite = 'bookworm' | 'trixie';

/** What a machine boots from. */
export interface Image {
  /** ext4, raw. */
  disk: string;
  kernel: string;
  initrd: string;
  /** Private key of root's ssh access. */
  key: string;
}

/** A plain server: what Debian's installer would give, as far as it matters here. */
const SERVER = [
  'linux-image-cloud-amd64', 'initramfs-tools', 'zstd', 'systemd-sysv', 'systemd-timesyncd', 'udev', 'dbus', 'libpam-systemd', 'apparmor', 'openssh-server', 'iproute2', 'kmod',
  'procps', 'cron', 'ca-certificates', 'netbase', 'e2fsprogs', 'xfsprogs', 'btrfs-progs', 'quota', 'less', 'curl', 'iputils-ping', 'systemd-resolved', 'python3',
];
/** What quickstart installs when it is missing (npm excepted: Node's packages come with the program). */
const QUICKSTART = ['nftables', 'mmdebstrap', 'patchelf', 'xz-utils', 'tar', 'gzip', 'util-linux', 'mount', 'libcap2-bin', 'gpgv', 'dnsmasq-base', 'conntrack', 'restic', 'openssh-client', 'bpftool'];

/** Bytes of the disk; the file is sparse. */
const SIZE = 8 * 2 ** 30;

/** The image of a release from the cache, built there first when it is missing. */
export async function findImage(suite: Suite): Promise<Image> {
  const folder = await cached(`image-${suite}`, sourceTexts(['test/vm', /^image\.ts$/]), async (target) => {
    const key = join(target, 'key');
    await run('/usr/bin/ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'veld-test', '-f', key]);
    // On the same disk as the cache: /tmp may be small.
    const work = mkdtempSync(join(target, 'work-'));
    const tree = join(work, 'tree');
    try {
      await mmdebstrap({
        variant: 'minbase', suite, target: tree, architecture: 'amd64', include: [...SERVER, ...QUICKSTART], expiredRelease: 'record',
        sources: [{ mirror: debianMirror(''), suite, components: ['main'], keyring: debianKeyring() }],
        extra: ['--dpkgopt=force-unsafe-io', '--dpkgopt=path-exclude=/usr/share/man/*', '--dpkgopt=path-exclude=/usr/share/locale/*', '--customize-hook=chroot "$1" /bin/sh -ec "$VM_SETUP"'],
        env: { VM_SETUP: SETUP, VM_KEY: readFileSync(`${key}.pub`, 'utf8'), VM_SUITE: suite, VM_MIRROR: debianMirror(''), DEBIAN_FRONTEND: 'noninteractive' },
      });
      for (const [name, pattern] of [['kernel', 'boot/vmlinuz-*'], ['initrd', 'boot/initrd.img-*']] as const) {
        const [file] = globSync(pattern, { cwd: tree });
        if (file === undefined) throw new Error(`the image of ${suite} has no ${pattern}`);
        copyFileSync(join(tree, file), join(target, name));
      }
      makeDisk(join(target, 'disk'), SIZE, tree);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  });
  return { disk: join(folder, 'disk'), kernel: join(folder, 'kernel'), initrd: join(folder, 'initrd'), key: join(folder, 'key') };
}

/**
 * Make a raw ext4 image of a tree.
 * @param size bytes, sparse
 * @param label by which /dev/disk/by-label names it
 */
export function makeDisk(file: string, size: number, tree: string, label = ''): void {
  for (const [program, args] of [['/usr/bin/truncate', ['-s', String(size), file]],
    ['/usr/sbin/mkfs.ext4', ['-q', '-F', '-E', 'lazy_itable_init=1,nodiscard', '-L', label, '-d', tree, file]]] as const) {
    const result = spawnSync(program, args, { encoding: 'utf8' });
    if (result.status !== 0) throw new Error(`${program}: ${result.stderr}`);
  }
}

/** Run in the new root after all packages are installed. The network is QEMU's user network, see machine.ts. */
const SETUP = String.raw`
printf '%s' "$VM_KEY" | install -D -m 600 /dev/stdin /root/.ssh/authorized_keys
printf 'UseDNS no\nMaxSessions 100\nUsePAM no\n' >/etc/ssh/sshd_config.d/veld-test.conf
rm -f /etc/ssh/ssh_host_rsa_key* /etc/ssh/ssh_host_ecdsa_key*
echo vm >/etc/hostname
printf '127.0.0.1 localhost vm\n::1 localhost\n' >/etc/hosts
printf '/dev/vda / ext4 errors=remount-ro 0 1\nLABEL=veld /opt/veld ext4 nofail,x-systemd.device-timeout=10min 0 0\nLABEL=state /var/lib/veld ext4 nofail,x-systemd.device-timeout=10min 0 0\n' >/etc/fstab
mkdir -p /opt/veld
mkdir -m 700 /var/lib/veld
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id
mkdir -p /etc/systemd/network /etc/systemd/journald.conf.d
cat >/etc/systemd/network/eth0.network <<'UNIT'
[Match]
Name=eth0
[Network]
Address=10.0.2.15/24
Gateway=10.0.2.2
DNS=10.0.2.3
LinkLocalAddressing=ipv6
IPv6AcceptRA=no
UNIT
cat >/etc/systemd/network/eth1.network <<'UNIT'
[Match]
Name=eth1
[Network]
LinkLocalAddressing=ipv6
IPv6AcceptRA=no
ConfigureWithoutCarrier=yes
UNIT
printf '[Journal]\nStorage=persistent\nForwardToConsole=no\n' >/etc/systemd/journald.conf.d/veld-test.conf
systemctl enable systemd-networkd ssh
systemctl disable systemd-networkd-wait-online.service || true
# The first boot would do these for minutes, and no test is about them.
systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer dpkg-db-backup.timer systemd-timesyncd.service
printf 'deb %s %s main\n' "$VM_MIRROR" "$VM_SUITE" >/etc/apt/sources.list
rm -f /etc/apt/sources.list.d/0000*
# Else the first boot would bring caches up to date that are.
touch /etc/.updated /var/.updated
`;
