/** A template whose init is systemd: no unit that needs what a VE does not have (udev, kernel file systems, consoles, modules). */

/** Units that make no sense in a VE; a name that does not exist does no harm. */
const MASKED = [
  'sys-kernel-config.mount', 'sys-kernel-debug.mount', 'sys-kernel-tracing.mount', 'sys-fs-fuse-connections.mount', 'dev-hugepages.mount',
  'proc-sys-fs-binfmt_misc.automount', 'proc-sys-fs-binfmt_misc.mount', 'systemd-binfmt.service',
  'systemd-modules-load.service', 'kmod-static-nodes.service', 'systemd-hwdb-update.service', 'systemd-pstore.service',
  'systemd-udevd.service', 'systemd-udevd-control.socket', 'systemd-udevd-kernel.socket', 'systemd-udev-trigger.service', 'systemd-udev-settle.service',
  'systemd-journald-audit.socket', 'systemd-firstboot.service', 'systemd-vconsole-setup.service', 'systemd-timesyncd.service', 'systemd-remount-fs.service',
  'console-getty.service', 'getty@.service', 'serial-getty@.service', 'fstrim.timer', 'e2scrub_all.timer', 'e2scrub_reap.service',
];

/**
 * Where a VE may have no user namespaces of its own (features.nesting=off), a unit with PrivateUsers= fails, while systemd passes over every other
 * setting that it cannot carry out. Whether it may is asked at each boot, since the property can change.
 */
const GENERATOR = `#!/bin/sh
unshare --user true 2>/dev/null && exit 0
mkdir -p "$1/service.d"
printf '# Namespaces are forbidden in this VE (features.nesting=off).\\n[Service]\\nPrivateUsers=no\\n' >"$1/service.d/00-veld.conf"
`;

/** The part of the setup script for systemd. */
export const SYSTEMD_SETUP = `
mkdir -p /etc/systemd/system /etc/systemd/journald.conf.d /etc/systemd/system.conf.d /etc/systemd/system-generators
if [ -x /usr/bin/ssh-keygen ]; then
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
cat >/etc/systemd/system-generators/veld <<'GENERATOR'
${GENERATOR}GENERATOR
chmod 755 /etc/systemd/system-generators/veld

# What a VE has no use for.
rm -f /etc/systemd/system/getty.target.wants/*
for unit in ${MASKED.join(' ')}; do ln -sfn /dev/null "/etc/systemd/system/$unit"; done
printf '[Journal]\\nSystemMaxUse=64M\\nRuntimeMaxUse=16M\\nReadKMsg=no\\n' >/etc/systemd/journald.conf.d/veld.conf
# Descriptors of pressure files do not survive a checkpoint; the setting is known since 254. What managers of users watch themselves they take from
# their environment, as init does, which is given it at boot.
version=$(systemctl --version | sed -n '1s/^systemd \\([0-9]*\\).*/\\1/p')
if [ "\${version:-0}" -ge 254 ]; then
  mkdir -p /etc/systemd/user.conf.d /etc/systemd/system/user@.service.d
  for manager in system user; do printf '[Manager]\\nDefaultMemoryPressureWatch=off\\n' >/etc/systemd/$manager.conf.d/veld.conf; done
  printf '[Service]\\nEnvironment=MEMORY_PRESSURE_WATCH=/dev/null CPU_PRESSURE_WATCH=/dev/null IO_PRESSURE_WATCH=/dev/null\\n' >/etc/systemd/system/user@.service.d/veld.conf
fi
mkdir -p /var/log/journal
`;
