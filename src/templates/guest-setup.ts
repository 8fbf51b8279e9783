/**
 * What makes a fresh installation a template: run by mmdebstrap in the new root, after all packages are installed.
 *
 * A template holds nothing that must differ between VEs (machine id, SSH host keys, host name, resolver), nothing of the build
 * (logs, caches, apt settings), and no unit that needs what a VE does not have (udev, kernel file systems, consoles, modules).
 */

/** Packages of every template beside the essential ones. */
export const BASE_PACKAGES = ['systemd-sysv', 'dbus', 'iproute2', 'iputils-ping', 'openssh-server', 'ca-certificates', 'less', 'nano', 'procps', 'netbase', 'nftables'];

/** Units that make no sense in a VE; a name that does not exist does no harm. */
const MASKED = [
  'sys-kernel-config.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'sys-fs-fuse-connections.mount', 'dev-hugepages.mount',
  'proc-sys-fs-binfmt_misc.automount', 'proc-sys-fs-binfmt_misc.mount', 'systemd-binfmt.service',
  'systemd-modules-load.service', 'kmod-static-nodes.service', 'systemd-hwdb-update.service', 'systemd-pstore.service',
  'systemd-udevd.service', 'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket', 'systemd-udev-trigger.service', 'systemd-udev-settle.service',
  'systemd-journald-audit.socket', 'systemd-firstboot.service', 'systemd-vconsole-setup.service', 'systemd-timesyncd.service', 'systemd-remount-fs.service',
  'console-getty.service', 'getty@.service', 'serial-getty@.service', 'fstrim.timer', 'e2scrub_all.timer', 'e2scrub_reap.service',
];

/** Arguments for mmdebstrap; the script itself goes by the environment: {@link guestSetupEnvironment}. */
export const GUEST_SETUP_HOOK = '--customize-hook=chroot "$1" /bin/sh -ec "$VELD_SETUP"';

/**
 * @param sources deb822 text for the guest's own package sources
 * @returns the environment that the hook needs
 */
export function guestSetupEnvironment(sources: string): Record<string, string> {
  return { VELD_SETUP: SCRIPT, VELD_MASKED: MASKED.join(' '), VELD_SOURCES: sources, DEBIAN_FRONTEND: 'noninteractive' };
}

const SCRIPT = `
# What each VE must have of its own.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname /etc/resolv.conf /var/lib/systemd/random-seed /var/lib/systemd/credential.secret
: >/etc/resolv.conf
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost ip6-loopback\\n' >/etc/hosts
printf '# Veld mounts what a VE needs.\\n' >/etc/fstab
[ -e /etc/default/locale ] || { mkdir -p /etc/default; echo LANG=C.UTF-8 >/etc/default/locale; }

mkdir -p /etc/systemd/system /etc/systemd/journald.conf.d /etc/systemd/system.conf.d
if [ -x /usr/bin/ssh-keygen ]; then
  rm -f /etc/ssh/ssh_host_*
  cat >/etc/systemd/system/veld-ssh-keys.service <<'UNIT'
[Unit]
Description=Make the SSH host keys of this VE
Before=ssh.service ssh.socket sshd.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key

[Service]
Type=oneshot
# No RSA key: making one takes most of a first boot, and every client of the last ten years knows these two.
ExecStart=/bin/rm -f /etc/ssh/ssh_host_ecdsa_key
ExecStart=/usr/bin/ssh-keygen -q -N "" -t ecdsa -f /etc/ssh/ssh_host_ecdsa_key
ExecStart=/usr/bin/ssh-keygen -q -N "" -t ed25519 -f /etc/ssh/ssh_host_ed25519_key

[Install]
WantedBy=multi-user.target ssh.service ssh.socket
UNIT
  systemctl enable veld-ssh-keys.service
fi

# What a VE has no use for.
rm -f /etc/systemd/system/getty.target.wants/*
for unit in $VELD_MASKED; do ln -sfn /dev/null "/etc/systemd/system/$unit"; done
printf '[Journal]\\nSystemMaxUse=64M\\nRuntimeMaxUse=16M\\nReadKMsg=no\\n' >/etc/systemd/journald.conf.d/veld.conf
# Descriptors of pressure files do not survive a checkpoint; the setting is known since 254.
version=$(systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')
if [ "\${version:-0}" -ge 254 ]; then
  printf '[Manager]\\nDefaultMemoryPressureWatch=off\\n' >/etc/systemd/system.conf.d/veld.conf
fi

# The guest's own package sources, and nothing of the build's settings.
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
printf '%s' "$VELD_SOURCES" >/etc/apt/sources.list.d/veld.sources

# Logs, caches, backups of the account files.
find /var/log -type f -delete
rm -rf /var/cache/debconf/*-old /var/cache/ldconfig/* /var/lib/dpkg/*-old /tmp/* /var/tmp/*
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /root/.bash_history
mkdir -p /var/log/journal
`;
