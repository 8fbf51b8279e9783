/**
 * What makes a fresh installation a template: run by mmdebstrap in the new root, after all packages are installed.
 *
 * A template holds nothing that must differ between VEs (machine id, SSH host keys, host name, resolver) and nothing of the build
 * (logs, caches, apt settings). What its init needs beyond that is in a file for each: setup-systemd.ts, setup-sysvinit.ts, setup-busybox.ts.
 */

/** Arguments for mmdebstrap; the script itself goes by the environment. */
export const GUEST_SETUP_HOOK = '--customize-hook=chroot "$1" /bin/sh -ec "$VELD_SETUP"';

/**
 * The script for a system that was installed from packages.
 * @param initSetup the part for its init: runs after the identity is gone, with /etc/ssh/ssh_host_* removed
 */
export function guestSetupScript(initSetup: string): string {
  return IDENTITY + initSetup + CLEANING;
}

const IDENTITY = `
# What each VE must have of its own.
: >/etc/machine-id
rm -f /var/lib/dbus/machine-id /etc/hostname /etc/resolv.conf /var/lib/systemd/random-seed /var/lib/systemd/credential.secret /etc/ssh/ssh_host_*
: >/etc/resolv.conf
printf '127.0.0.1 localhost\\n::1 localhost ip6-localhost ip6-loopback\\n' >/etc/hosts
printf '# Veld mounts what a VE needs.\\n' >/etc/fstab
[ -e /etc/default/locale ] || { mkdir -p /etc/default; echo LANG=C.UTF-8 >/etc/default/locale; }
`;

const CLEANING = `
# The guest's own package sources, and nothing of the build's settings.
rm -f /etc/apt/sources.list /etc/apt/sources.list.d/* /etc/apt/apt.conf.d/99mmdebstrap /etc/dpkg/dpkg.cfg.d/99mmdebstrap
printf '%s' "$VELD_SOURCES" >/etc/apt/sources.list.d/veld.sources

# Logs, caches, backups of the account files.
find /var/log -type f -delete
rm -rf /var/cache/debconf/*-old /var/cache/ldconfig/* /var/lib/dpkg/*-old /tmp/* /var/tmp/*
rm -f /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- /etc/subuid- /etc/subgid- /root/.bash_history
`;
