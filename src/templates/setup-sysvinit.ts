/** A template whose init is sysvinit. */

/** The part of the setup script for sysvinit. */
export const SYSVINIT_SETUP = `
if [ -x /usr/bin/ssh-keygen ]; then
  cat >/etc/init.d/veld-ssh-keys <<'SCRIPT'
#!/bin/sh
### BEGIN INIT INFO
# Provides:          veld-ssh-keys
# Required-Start:    $local_fs
# Required-Stop:
# X-Start-Before:    ssh
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Make the SSH host keys of this VE
### END INIT INFO
[ "$1" = start ] || exit 0
for type in ecdsa ed25519; do
  [ -s "/etc/ssh/ssh_host_\${type}_key" ] || ssh-keygen -q -N '' -t "$type" -f "/etc/ssh/ssh_host_\${type}_key" </dev/null
done
SCRIPT
  chmod 755 /etc/init.d/veld-ssh-keys
  update-rc.d veld-ssh-keys defaults
fi

# There is no clock to set. (The scripts for file systems stay, though they have nothing to do: the order of all others hangs on them.)
update-rc.d -f hwclock.sh remove
# A VE has one console and no virtual ones. The power line is the custom of LXC: SIGPWR means shut down.
sed -i -e '/^[1-6]:.*getty/d' -e '/^T[0-9]:/d' -e '/^p[fno]::/d' /etc/inittab
printf 'co:2345:respawn:/sbin/getty --noclear --keep-baud 38400 console linux\\npf::powerwait:/sbin/shutdown -h now\\n' >>/etc/inittab
`;
